"""What the SDK's kernel sees of us: a restored connection, and a dispatch context that leads to our channels."""

import json
import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

import anyio
from mcp.server.connection import Connection
from mcp.server.validation import validate_sampling_tools
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    ClientCapabilities,
    ElicitationCapability,
    InitializeRequestParams,
    RootsCapability,
    SamplingCapability,
)
from starlette.datastructures import Headers
from starlette.requests import Request as HTTPRequest

from mcp_sessions.cluster.client_requests import ClientRequest, OnProgress, SessionEnded, TimedOut
from mcp_sessions.records import Session
from mcp_sessions.sdk.channel import Channel
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)


#: Severities of `notifications/message`, ascending (Server → Utilities → Logging).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


_REQUIRED: Final = {
    "elicitation/create": ClientCapabilities(elicitation=ElicitationCapability()),
    "sampling/createMessage": ClientCapabilities(sampling=SamplingCapability()),
    "roots/list": ClientCapabilities(roots=RootsCapability()),
}
#: What the SDK's client answers where it has no callback.
NOT_SUPPORTED: Final = {
    "elicitation/create": "Elicitation not supported",
    "sampling/createMessage": "Sampling not supported",
    "roots/list": "List roots not supported",
}


def _no_connection() -> None:
    """In place of a weak reference."""


class Outbound:
    """The SDK's view of a channel of ours."""

    __slots__ = ("_channel", "connection")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: What the client declared there decides what may be requested of it. A weak reference: a connection owns its
        #: outbound side, and such a cycle with each request would keep the garbage collector busy.
        self.connection: Callable[[], Connection | None] = _no_connection

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        connection = self.connection()
        if not self._channel.can_send_request or connection is None:
            raise NoBackChannelError(method)
        require_capability(connection, method, params)
        options = opts or {}
        request = ClientRequest(
            method=method, params=params, timeout=options.get("timeout"), on_progress=_on_progress(options)
        )
        try:
            reply = await self._channel.send_request(request)
        except TimedOut:
            raise MCPError(code=REQUEST_TIMEOUT, message=f"Request {method!r} timed out") from None
        except SessionEnded:
            raise MCPError(code=CONNECTION_CLOSED, message="The session ended") from None
        return _result_of(reply)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        if not is_below_log_level(self._channel.log_level, method, params):
            await self._channel.notify(method, params)


class DispatchContext(Outbound):
    """The SDK's view of one message being handled: its transport, its id, and its channel."""

    __slots__ = ("_cancel_requested", "_scope", "_token", "message_metadata", "request_id")

    def __init__(
        self,
        request: jsonrpc.Request | jsonrpc.Notification,
        scope: Mapping[str, Any],
        channel: Channel,
        connection: Connection,
        *,
        disconnect: Callable[[], Awaitable[None]] | None = None,
        disconnect_standalone: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(channel)
        self.connection = weakref.ref(connection)
        self.request_id = request.id if isinstance(request, jsonrpc.Request) else None
        self._scope = scope
        self.message_metadata = ServerMessageMetadata(
            request_context=HTTPRequest(cast("Any", scope)),
            close_sse_stream=disconnect,
            close_standalone_sse_stream=disconnect_standalone,
        )
        self._token = progress_token_from_params(request.params)
        self._cancel_requested: anyio.Event | None = None

    @property
    def transport(self) -> TransportContext:
        headers = Headers(scope=cast("Any", self._scope))
        return TransportContext(
            kind="streamable-http", can_send_request=self._channel.can_send_request, headers=headers
        )

    @property
    def can_send_request(self) -> bool:
        return self._channel.can_send_request

    @property
    def cancel_requested(self) -> anyio.Event:
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._token is None:
            return
        params = {"progressToken": self._token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {key: v for key, v in params.items() if v is not None})


def is_below_log_level(level: str | None, method: str, params: Mapping[str, Any] | None) -> bool:
    """Whether a message is a log entry less severe than what the client asked for with `logging/setLevel`."""
    if level is None or method != "notifications/message" or params is None:
        return False
    severity = params.get("level")
    return severity in LOG_LEVELS and LOG_LEVELS.index(severity) < LOG_LEVELS.index(level)


def _on_progress(options: CallOptions) -> OnProgress | None:
    """The SDK's progress callback as one that takes the notification's params."""
    callback = options.get("on_progress")
    if callback is None:
        return None

    async def call(params: Mapping[str, Any]) -> None:
        try:
            await callback(params.get("progress", 0), params.get("total"), params.get("message"))
        except Exception:
            # A handler's own callback: what it raises must not end the wait for the answer.
            logger.exception("A progress callback raised.")

    return call


def _result_of(reply: jsonrpc.Reply) -> dict[str, Any]:
    if reply.error is None:
        return reply.result or {}
    code, message = reply.error.get("code"), reply.error.get("message")
    raise MCPError(
        code=code if isinstance(code, int) else INTERNAL_ERROR,
        message=str(message),
        data=reply.error.get("data"),
    )


def require_capability(connection: Connection, method: str, params: Mapping[str, Any] | None) -> None:
    """Refuse a request that the client did not say it can answer, and before it said that it is ready, all but ping.

    Raises: MCPError with the code and message that the SDK's client answers where it has no callback for the request: a
    tool gets the same error, whether or not the request travels. Sampling with tools has the error of the SDK's server.
    """
    if method == "ping":
        return
    if not connection.initialized.is_set():
        raise MCPError(
            code=INVALID_REQUEST, message=f"{method} cannot be sent before the client is initialized"
        )
    if method in _REQUIRED and not connection.check_capability(_REQUIRED[method]):
        raise MCPError(code=INVALID_REQUEST, message=NOT_SUPPORTED[method])
    if method == "sampling/createMessage" and params is not None:
        validate_sampling_tools(connection.client_capabilities, params.get("tools"), params.get("toolChoice"))


class RestoredConnection(Connection):
    """A connection whose client is known from its session. What handlers read of the client is their own copy.

    Sessions of equal clients share one parsed object, and a handler could change it for all of them. It is copied when
    it is first read, which few handlers do: the two attributes are missing until then.
    """

    #: Not the SDK's property, which reads `client_params` with each request.
    initialize_accepted = True
    shared_params: InitializeRequestParams

    def __getattr__(self, name: str) -> Any:
        """Called for what is missing."""
        if name not in _COPIED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.client_params = self.shared_params.model_copy(deep=True)  # sets both
        return self.__dict__[name]


#: Where the SDK's connection keeps what `client_params` gives, and what follows from it.
_COPIED: Final = ("_client_params", "client_capabilities")


def restored(session: Session, standalone: Channel) -> Connection:
    """The connection as it was after the handshake, whichever process saw that."""
    outbound = Outbound(standalone)
    handshake = session.handshake
    connection = cast(
        "RestoredConnection",
        RestoredConnection.for_loop(
            outbound, session_id=session.fingerprint, protocol_version_hint=handshake.protocol_version
        ),
    )
    outbound.connection = weakref.ref(connection)
    parse = _kept_client_params if handshake.is_kept else _client_params
    connection.shared_params = parse(handshake.text)
    for name in _COPIED:
        del connection.__dict__[name]
    if session.initialized:
        connection.initialized.set()
    return connection


def _client_params(handshake: str) -> InitializeRequestParams:
    """What the SDK makes of the text of a handshake."""
    version, client_info, capabilities, *_ = json.loads(handshake)
    return InitializeRequestParams.model_validate(
        {"protocolVersion": version, "capabilities": capabilities, "clientInfo": client_info}, by_name=False
    )


_kept_client_params = lru_cache(maxsize=1024)(_client_params)
