"""What a request of the modern era says of itself and of its client, in its headers and in `_meta`.

The checks are the SDK's own (`mcp.shared.inbound`), in the order of its HTTP application.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PARAM_HEADER_PREFIX,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
    find_invalid_x_mcp_header,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    HEADER_MISMATCH,
    PROTOCOL_VERSION_META_KEY,
    JSONRPCNotification,
    JSONRPCRequest,
)
from starlette.datastructures import Headers

from mcp_sessions.records import Handshake
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

_ROUTING: Final = {
    name.encode(): name for name in (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
}
_PARAMETER: Final = MCP_PARAM_HEADER_PREFIX.lower().encode()
#: Pages of `tools/list` that are read for the schema of one tool.
MAX_PAGES: Final = 100

#: Runs a request of the server's own; gives its JSON-RPC response.
Run = Callable[[jsonrpc.Request], Awaitable[dict[str, Any]]]


class EnvelopedConnection(Connection):
    """A connection of the modern era, for one request. Few handlers read more of it than its version.

    The rest is missing until then, and comes from the connection that the SDK makes of the same envelope.
    """

    #: Not the SDK's property, which reads what is missing.
    initialize_accepted = True

    def __init__(self, route: InboundModernRoute) -> None:
        self.protocol_version = route.protocol_version
        self._route = route

    def __getattr__(self, name: str) -> Any:
        """Called for what is missing."""
        if (route := self.__dict__.get("_route")) is not None:  # a copy that is being made has none
            whole = Connection.from_envelope(
                route.protocol_version, route.client_info, route.client_capabilities
            )
            self.__dict__ = {**vars(whole), **self.__dict__}
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__[name]


def read_as_the_sdk(body: bytes) -> jsonrpc.Request | jsonrpc.Notification | None:
    """The message in a body that is beyond the bounds of `jsonrpc.parse`, where the SDK's HTTP application accepts it.

    None for what that refuses, too.
    """
    try:
        decoded = json.loads(body)
        if isinstance(decoded, dict) and "id" not in decoded:
            notification = JSONRPCNotification.model_validate(decoded)
            return jsonrpc.Notification(method=notification.method, params=notification.params)
        request = JSONRPCRequest.model_validate(decoded)
    except (ValueError, RecursionError):
        return None
    return jsonrpc.Request(id=request.id, method=request.method, params=request.params)


def client_info_of(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """The client's description of itself in a request's `_meta`; empty if there is none."""
    info = meta.get(CLIENT_INFO_META_KEY)
    return info if isinstance(info, dict) else {}


def handshake_of(meta: Mapping[str, Any]) -> Handshake:
    """What a request says in its `_meta` that `initialize` says in the handshake era."""
    capabilities = meta.get(CLIENT_CAPABILITIES_META_KEY)
    return Handshake(
        protocol_version=str(meta.get(PROTOCOL_VERSION_META_KEY, "")),
        client_info=client_info_of(meta),
        capabilities=capabilities if isinstance(capabilities, dict) else {},
    )


def status_of(response: Mapping[str, Any]) -> int:
    """The HTTP status of a JSON-RPC response."""
    error = response.get("error")
    return 200 if error is None else ERROR_CODE_HTTP_STATUS.get(error["code"], 200)


def refusal(request: jsonrpc.Request, rejection: InboundLadderRejection) -> dict[str, Any]:
    """A rejection as the JSON-RPC response."""
    error = {"code": rejection.code, "message": rejection.message}
    if rejection.data is not None:
        error["data"] = rejection.data
    return jsonrpc.error_response(request.id, error)


def route_of(
    request: jsonrpc.Request, raw: list[tuple[bytes, bytes]]
) -> InboundModernRoute | InboundLadderRejection:
    """What the envelope in `_meta` says, if it is complete and agrees with the headers; else why it is refused."""
    headers = dict(raw)
    if len(headers) < len(raw):
        repeated = find_duplicated_routing_header((name.decode("latin-1"), "") for name, _ in raw)
        if repeated is not None:
            return InboundLadderRejection(
                code=HEADER_MISMATCH, message=f"{repeated} header appears more than once"
            )
    routing = {name: headers[key].decode("latin-1") for key, name in _ROUTING.items() if key in headers}
    return classify_inbound_request({"method": request.method, "params": request.params}, headers=routing)


class ParameterHeaders:
    """Compares `Mcp-Param-*` headers with the arguments of a call, for tools whose schema asks for such headers."""

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        #: The schemas that were looked at, by tool, and whether they ask for headers. Few do, and to look takes longer
        #: than all other checks.
        self._known: dict[str, tuple[Any, bool]] = {}

    async def rejection(
        self, request: jsonrpc.Request, raw: list[tuple[bytes, bytes]], run: Run
    ) -> InboundLadderRejection | None:
        """Why a call is refused. `run` runs the server's `tools/list` where its schemas are not to be had otherwise."""
        if request.method != "tools/call":
            return None
        params = request.params or {}
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, (Mapping, type(None))):
            return None  # the call itself is invalid
        if not arguments and not any(header.startswith(_PARAMETER) for header, _ in raw):
            return None
        schema = await self._schema(name, params, request, run)
        if schema is None or not self._asks_for_headers(name, schema):
            return None
        return validate_mcp_param_headers(schema, arguments or {}, Headers(raw=raw))

    def _asks_for_headers(self, name: str, schema: Any) -> bool:
        known = self._known.get(name)
        if known is None or known[0] is not schema:
            asks = find_invalid_x_mcp_header(schema) is None and bool(x_mcp_header_map(schema))
            known = self._known[name] = (schema, asks)
        return known[1]

    async def _schema(
        self, name: str, params: Mapping[str, Any], request: jsonrpc.Request, run: Run
    ) -> Any | None:
        """A tool's input schema. None if there is none, or if it cannot be found out: a call must not fail by that."""
        lookup = self._server.get_tool_input_schema
        if lookup is not None:
            try:
                return lookup(name)
            except Exception:
                # The user's function: whatever it raises, the call goes on.
                logger.exception("No Mcp-Param headers are checked: get_tool_input_schema raised.")
                return None
        if self._server.get_request_handler("tools/list") is None:
            return None
        return await _listed_schema(name, {"_meta": params["_meta"]}, request.id, run)


async def _listed_schema(
    name: str, params: dict[str, Any], request_id: jsonrpc.RequestId, run: Run
) -> Any | None:
    """The input schema of the tool with this name in the list that this client gets."""
    cursors: set[str] = set()
    while len(cursors) < MAX_PAGES:
        response = await run(jsonrpc.Request(id=request_id, method="tools/list", params=params))
        result = response.get("result", {})
        for tool in result.get("tools", ()):
            if tool.get("name") == name:
                return tool.get("inputSchema")
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or cursor in cursors:
            return None
        cursors.add(cursor)
        params = {**params, "cursor": cursor}
    logger.warning("No Mcp-Param headers are checked: tools/list has more than %d pages.", MAX_PAGES)
    return None
