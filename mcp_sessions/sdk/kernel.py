"""Runs the SDK's handlers, for one message each: of a client whose connection is restored, or of the modern era.

The SDK keeps the kernel: validation, schemas, handlers, middleware and capabilities.
"""

import copy
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections
from mcp.server import MCPServer
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.inbound import InboundLadderRejection, InboundModernRoute
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import (
    INTERNAL_ERROR,
    EmptyResult,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

from mcp_sessions.records import Handshake, Session, shown
from mcp_sessions.sdk.channel import Channel, NoChannel
from mcp_sessions.sdk.dispatch import DispatchContext, Outbound, restored
from mcp_sessions.sdk.envelope import EnvelopedConnection, ParameterHeaders, refusal, route_of
from mcp_sessions.sdk.registries import annotations_of, tools_of
from mcp_sessions.sdk.tracebacks import install, is_no_fault, raised
from mcp_sessions.subscriptions import SharedSubscriptions
from mcp_sessions.tools import OptInTools, RestrictedTools
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

#: JSON-RPC error code that the SDK answers with when a handler of a handshake connection raised.
UNEXPECTED: Final = 0
#: What clients are told where the reason is only for the log.
_INTERNAL: Final = {"code": INTERNAL_ERROR, "message": "Internal server error"}
#: The SDK's OpenTelemetry middleware. The class is private; every server has an instance.
_TELEMETRY = next(
    (type(m) for m in Server[Any]("probe").middleware if type(m).__name__ == "OpenTelemetryMiddleware"), None
)


class Refused(Exception):
    """`initialize` failed; the message is the JSON-RPC error response."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__(message)
        self.message = message


class DatabaseScope(ThreadSensitiveContext):
    """One thread for the async ORM calls of one message, with database connections of its own, closed at the end.

    Outside such a scope, all async ORM calls of a process share a single thread (asgiref, Threading Behaviour).
    A scope in which nothing touches the ORM costs no thread.
    """

    async def __aexit__(self, exc: Any, value: Any, tb: Any) -> None:
        if self in SyncToAsync.context_to_thread_executor:
            await sync_to_async(connections.close_all)()
        await super().__aexit__(exc, value, tb)  # type: ignore[no-untyped-call]


class Kernel:
    """The handlers of one MCP server."""

    def __init__(self, server: MCPServer[Any] | Server[Any], lowlevel: Server[Any]) -> None:
        #: What the server's lifespan yielded; set when it is entered.
        self.lifespan_state: Any = None
        #: Whether sessions remember their resource subscriptions, because the server has no handler of its own.
        self.keeps_subscriptions = _agree_to_what_sessions_remember(lowlevel)
        self._server = server
        self._lowlevel = lowlevel
        self._opt_in = next((m for m in lowlevel.middleware if isinstance(m, OptInTools)), None)
        self._restricted = [m for m in lowlevel.middleware if isinstance(m, RestrictedTools)]
        for each in self._restricted:
            each.has_tool = self.has_tool
        self._untraced = lowlevel
        self._untraced_from: list[Any] = []
        self._parameter_headers = ParameterHeaders(lowlevel)
        install()

    @property
    def opt_in_tools(self) -> frozenset[str]:
        """The names of the server's opt-in tools."""
        return frozenset() if self._opt_in is None else self._opt_in.names

    async def initialize(
        self, request: jsonrpc.Request, scope: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Handshake]:
        """Run the handshake: the response, and what was negotiated. Raises: Refused for an error response."""
        channel = NoChannel()
        connection = Connection.for_loop(Outbound(channel))
        # Promise only what is delivered: all announcements with our bus, those of tools with opt-in tools.
        shared = isinstance(getattr(self._server, "_subscriptions", None), SharedSubscriptions)
        changes = NotificationOptions(
            tools_changed=shared or self._opt_in is not None, prompts_changed=shared, resources_changed=shared
        )
        options = self._lowlevel.create_initialization_options(changes)
        runner = ServerRunner(self.lowlevel, connection, self.lifespan_state, init_options=options)
        async with DatabaseScope():
            response = await _run(runner, request, DispatchContext(request, scope, channel, connection))
        if "error" in response or request.params is None:
            raise Refused(response)
        handshake = Handshake(
            protocol_version=connection.protocol_version,
            client_info=request.params["clientInfo"],
            capabilities=request.params["capabilities"],
        )
        return response, handshake

    async def answer(
        self,
        request: jsonrpc.Request,
        scope: Mapping[str, Any],
        session: Session,
        *,
        channel: Channel,
        standalone: Channel,
        disconnect: Callable[[], Awaitable[None]] | None,
        disconnect_standalone: Callable[[], Awaitable[None]] | None,
    ) -> dict[str, Any]:
        """The response to one request. Errors of handlers become responses, too; only cancellation is raised.

        What the handler sends goes to `channel`, and to `standalone` if it belongs to no request. `disconnect` closes
        the client's connection, if it can resume, and `disconnect_standalone` the one on which it listens.
        """
        connection = restored(session, standalone)
        runner = ServerRunner(self.lowlevel, connection, self.lifespan_state)
        context = DispatchContext(
            request,
            scope,
            channel,
            connection,
            disconnect=disconnect,
            disconnect_standalone=disconnect_standalone,
        )
        async with DatabaseScope():
            return await _run(runner, request, context)

    async def answer_modern(
        self, request: jsonrpc.Request, scope: Mapping[str, Any], channel: Channel
    ) -> dict[str, Any]:
        """The response to a request of the modern era, as the SDK's own HTTP application gives it.

        Refused requests and errors of handlers become responses, too; only cancellation is raised. What the handler
        sends goes to `channel`, unless it belongs to no request: then it goes nowhere.
        """
        raw = scope["headers"]
        route = route_of(request, raw)
        if isinstance(route, InboundLadderRejection):
            return refusal(request, route)
        async with DatabaseScope():
            rejection = await self._parameter_headers.rejection(
                request, raw, lambda listing: self._run_modern(listing, scope, route, NoChannel())
            )
            if rejection is not None and not await self._hides(request):
                return refusal(request, rejection)
            return await self._run_modern(request, scope, route, channel)

    async def _hides(self, request: jsonrpc.Request) -> bool:
        """Whether the tool that is called is none for this client, which must not read what its parameters are."""
        name = str((request.params or {}).get("name"))
        if name in self.opt_in_tools:
            return True
        for each in self._restricted:
            if await each.hides(name):
                return True
        return False

    async def _run_modern(
        self, request: jsonrpc.Request, scope: Mapping[str, Any], route: InboundModernRoute, channel: Channel
    ) -> dict[str, Any]:
        connection = EnvelopedConnection(route)
        runner = ServerRunner(self.lowlevel, connection, self.lifespan_state)
        return await _run(runner, request, DispatchContext(request, scope, channel, connection))

    async def notify(
        self,
        notification: jsonrpc.Notification,
        scope: Mapping[str, Any],
        session: Session,
        standalone: Channel,
    ) -> None:
        """Let the server handle a notification. The SDK logs what its handler raises."""
        connection = restored(session, standalone)
        runner = ServerRunner(self.lowlevel, connection, self.lifespan_state)
        context = DispatchContext(notification, scope, standalone, connection)
        async with DatabaseScope():
            try:
                await runner.on_notify(context, notification.method, notification.params)
            finally:
                del runner.on_notify  # a cycle, as in `_run`
                await _clean_up(connection)

    def hears(self, method: str) -> bool:
        """Whether anything of the server runs for a notification: a handler, or middleware that is neither ours nor
        the SDK's own for `requestState`, which passes notifications on.
        """
        server = self.lowlevel
        return server.get_notification_handler(method) is not None or not all(
            isinstance(each, (OptInTools, RestrictedTools, RequestStateBoundary))
            for each in server.middleware
        )

    def has_tool(self, name: str) -> bool | None:
        """Whether the server has a tool of that name; None if only its handlers know."""
        return name in tools_of(self._server) if isinstance(self._server, MCPServer) else None

    def is_repeatable(self, request: jsonrpc.Request) -> bool:
        """Whether a request may be run again: a call of a tool annotated as read-only or idempotent."""
        if request.method != "tools/call" or not isinstance(self._server, MCPServer):
            return False
        annotations = annotations_of(self._server, request.params or {})
        return annotations is not None and bool(annotations.read_only_hint or annotations.idempotent_hint)

    @property
    def lowlevel(self) -> Server[Any]:
        """The low-level server, without the SDK's tracing while no tracer provider is set.

        The spans would go nowhere then, and still cost a tenth of a call.
        """
        if _TELEMETRY is None or not isinstance(get_tracer_provider(), ProxyTracerProvider):
            return self._lowlevel
        if self._untraced_from != self._lowlevel.middleware:
            # A copy that shares everything but the list of middleware; made again when that list changes.
            self._untraced_from = list(self._lowlevel.middleware)
            self._untraced = copy.copy(self._lowlevel)
            self._untraced.middleware = [m for m in self._untraced_from if not isinstance(m, _TELEMETRY)]
        return self._untraced


async def _run(
    runner: ServerRunner[Any], request: jsonrpc.Request, context: DispatchContext
) -> dict[str, Any]:
    try:
        result = await runner.on_request(context, request.method, request.params)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to the wire: it becomes a response
        modern = runner.connection.protocol_version in MODERN_PROTOCOL_VERSIONS
        return jsonrpc.error_response(request.id, _error(request.method, error, modern=modern))
    finally:
        # The SDK caches this bound method in the runner: a cycle, which only the garbage collector would find.
        del runner.on_request
        await _clean_up(runner.connection)
    return {"jsonrpc": "2.0", "id": request.id, "result": result}


async def _clean_up(connection: Connection) -> None:
    """Run what handlers left to be done. Mostly there is nothing, and the SDK's shield is not worth its cost."""
    stack = vars(connection).get("exit_stack")  # one of the modern era has none until it is used
    if stack is not None and stack._exit_callbacks:  # noqa: SLF001 - no public way to ask
        await aclose_shielded(connection)


def _agree_to_what_sessions_remember(server: Server[Any]) -> bool:
    """Serve `logging/setLevel`, and for servers with resources `resources/subscribe`, where there is no handler.

    The handlers only agree: the session remembers. Returns whether it remembers resource subscriptions.
    """

    async def accept(_: Any, __: Any) -> EmptyResult:
        return EmptyResult()

    if server.get_request_handler("logging/setLevel") is None:
        server.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    has_own = server.get_request_handler("resources/subscribe") is not None
    if has_own or server.get_request_handler("resources/list") is None:
        return False
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
    return True


def _error(method: str, error: Exception | SystemExit, *, modern: bool) -> dict[str, Any]:
    """The JSON-RPC error that the SDK's own transport of that era gives for what a handler raised.

    In the modern era it does not say what an unexpected exception said.
    """
    if isinstance(error, SystemExit):
        logger.error("The handler for %s tried to end the process.", shown(method), exc_info=error)
        return dict(_INTERNAL)
    data = handler_exception_to_error_data(error)
    if data is not None:
        return data.model_dump(by_alias=True, mode="json", exclude_none=True)
    # An unknown prompt or missing arguments: what a prompt's function raises has a cause, these have none.
    cause = error.__cause__
    if method == "prompts/get" and isinstance(cause, ValueError) and cause.__cause__ is None:
        logger.info("Refused %r: %s", method, shown(str(error)))
    elif not is_no_fault(own := raised(error, wrappers=(ValueError,)) if method == "prompts/get" else error):
        logger.error("The handler for %s raised.", shown(method), exc_info=own)
    return dict(_INTERNAL) if modern else {"code": UNEXPECTED, "message": str(error)}
