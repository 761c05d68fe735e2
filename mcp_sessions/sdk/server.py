"""One MCP server bound to our exchanges.

The SDK keeps the kernel: validation, schemas, handlers, middleware, capabilities, and the whole modern era.
"""

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from django.utils.module_loading import import_string
from mcp.server import MCPServer
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import (
    INTERNAL_ERROR,
    EmptyResult,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_sessions.sdk.dispatch import Channel, DispatchContext, Outbound, restored
from mcp_sessions.sdk.registries import annotations_of, close_connections_after
from mcp_sessions.sdk.telemetry import Kernel
from mcp_sessions.store.session import Handshake, Session
from mcp_sessions.subscriptions import SharedSubscriptions
from mcp_sessions.tools import OptInTools
from mcp_sessions.transport import jsonrpc

if TYPE_CHECKING:
    from mcp_sessions.serving.exchange import Exchange

logger = logging.getLogger(__name__)

HANDSHAKE_VERSIONS: Final = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)
#: JSON-RPC error codes that the SDK answers with on handshake connections.
REQUEST_CANCELLED: Final = -32800
UNEXPECTED: Final = 0


class Refused(Exception):
    """`initialize` failed; the message is the JSON-RPC error response."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__(message)
        self.message = message


class ServerBinding:
    """One MCP server in one event loop: its lifespan, its kernel, and its entry for the modern era."""

    def __init__(self, server: MCPServer[Any] | Server[Any], *, json_only: bool, max_body: int) -> None:
        self.server = server
        self.lowlevel = lowlevel_server(server)
        #: Whether sessions keep the resource subscriptions, for a server that has no handler of its own.
        self.keeps_subscriptions = _serve_what_sessions_keep(self.lowlevel)
        self.opt_in = next((m for m in self.lowlevel.middleware if isinstance(m, OptInTools)), None)
        self._kernel = Kernel(self.lowlevel)
        self._json_only = json_only
        self._max_body = max_body
        self._manager = self._new_manager()
        self._lifespan_state: Any = None
        self._entered: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    def _new_manager(self) -> StreamableHTTPSessionManager:
        """The SDK's entry for the modern era; one can be run once."""
        return StreamableHTTPSessionManager(
            app=self._sharing_lifespan(),
            stateless=True,
            json_response=self._json_only,
            max_request_body_size=self._max_body,
        )

    def _sharing_lifespan(self) -> Server[Any]:
        """The server as the modern entry sees it: entering its lifespan gives both eras the same state."""
        shared = copy.copy(self.lowlevel)

        @asynccontextmanager
        async def lifespan(_: Server[Any]) -> AsyncIterator[Any]:
            async with self.lowlevel.lifespan(self.lowlevel) as state:
                self._lifespan_state = state
                yield state

        shared.lifespan = lifespan
        return shared

    async def start(self) -> None:
        """Enter the server's lifespan, once per process; later calls return at once, those meanwhile wait.

        It goes on if the caller is cancelled. Raises: whatever the lifespan raises; the next call tries again.
        """
        if self._entered is None:
            self._entered = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._live(self._entered))
        await asyncio.shield(self._entered)

    async def _live(self, entered: asyncio.Future[None]) -> None:
        """Hold the lifespan: entered and left in one task, as the SDK's task group demands."""
        try:
            async with self._manager.run():
                entered.set_result(None)
                await self._leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            self._entered, self._running, self._manager = None, None, self._new_manager()
            entered.set_exception(_as_exception(error))
            if not isinstance(error, Exception):
                raise

    async def stop(self) -> None:
        """Leave the server's lifespan."""
        self._leave.set()
        if self._running is not None:
            await self._running

    async def serve_modern(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a request of the modern era to the SDK."""
        await self._manager.handle_request(scope, receive, send)

    async def initialize(
        self, request: jsonrpc.Request, scope: Mapping[str, Any], channel: Channel
    ) -> tuple[dict[str, Any], Handshake]:
        """Run the handshake: the response, and what was negotiated.

        Raises: Refused for an error response.
        """
        connection = Connection.for_loop(Outbound(channel))
        options = self._initialization_options()
        runner = ServerRunner(self._kernel.server, connection, self._lifespan_state, init_options=options)
        response = await self._run(runner, request, DispatchContext(request, scope, channel, connection))
        if "error" in response or request.params is None:
            raise Refused(response)
        handshake = Handshake(
            protocol_version=connection.protocol_version,
            client_info=request.params["clientInfo"],
            capabilities=request.params["capabilities"],
        )
        return response, handshake

    def _initialization_options(self) -> Any:
        """Promise the announcements that are delivered: all with our bus, those of tools with opt-in tools."""
        shared = isinstance(getattr(self.server, "_subscriptions", None), SharedSubscriptions)
        changes = NotificationOptions(
            tools_changed=shared or self.opt_in is not None, prompts_changed=shared, resources_changed=shared
        )
        return self.lowlevel.create_initialization_options(changes)

    async def answer(self, exchange: "Exchange", standalone: Channel) -> dict[str, Any]:
        """The response to one request. Errors of handlers are responses, too; only cancellation is raised."""
        request = exchange.request
        if isinstance(self.server, MCPServer):
            close_connections_after(self.server, request.method, request.params or {})
        connection = restored(exchange.session, standalone)
        runner = ServerRunner(self._kernel.server, connection, self._lifespan_state)
        disconnect = exchange.disconnect if exchange.primed and exchange.can_ask else None
        context = DispatchContext(request, exchange.scope, exchange, connection, disconnect=disconnect)
        return await self._run(runner, request, context)

    def does_no_harm_twice(self, request: jsonrpc.Request) -> bool:
        """Whether a request may be run again: a call of a tool annotated as read-only or idempotent."""
        if request.method != "tools/call" or not isinstance(self.server, MCPServer):
            return False
        annotations = annotations_of(self.server, request.params or {})
        return annotations is not None and bool(annotations.read_only_hint or annotations.idempotent_hint)

    async def notify(
        self,
        notification: jsonrpc.Notification,
        scope: Mapping[str, Any],
        session: Session,
        standalone: Channel,
    ) -> None:
        """Let the server handle a notification. What its handler raises is logged by the kernel."""
        connection = restored(session, standalone)
        runner = ServerRunner(self._kernel.server, connection, self._lifespan_state)
        context = DispatchContext(notification, scope, standalone, connection)
        try:
            await runner.on_notify(context, notification.method, notification.params)
        finally:
            del runner.on_notify  # as above
            await _clean_up(connection)

    async def _run(
        self, runner: ServerRunner[Any], request: jsonrpc.Request, context: DispatchContext
    ) -> dict[str, Any]:
        try:
            result = await runner.on_request(context, request.method, request.params)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to the wire: it becomes a response
            return jsonrpc.error_response(request.id, _error(request.method, error))
        finally:
            del (
                runner.on_request
            )  # the SDK caches it in the runner: a cycle, which only the collector would find
            await _clean_up(runner.connection)
        return jsonrpc.response(request.id, result)


def _as_exception(error: BaseException) -> Exception:
    """What a request may be told of: a cancellation inside a lifespan is not that of the requests that wait."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"The server's lifespan could not be entered: {error!r}")
    wrapped.__cause__ = error
    return wrapped


async def _clean_up(connection: Connection) -> None:
    """Run what handlers left to be done; mostly nothing, and then the SDK's shield is not worth its cost."""
    if connection.exit_stack._exit_callbacks:  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to ask
        await aclose_shielded(connection)


def load_server(path: str) -> MCPServer[Any] | Server[Any]:
    """The MCP server at a dotted path, or the one that the callable there returns.

    Raises: ImportError; TypeError for anything else.
    """
    value = import_string(path)
    if callable(value) and not isinstance(value, (MCPServer, Server)):
        value = value()
    if not isinstance(value, (MCPServer, Server)):
        raise TypeError(f"{path} is {type(value).__name__}, neither an MCPServer nor a low-level Server")
    return value


def lowlevel_server(server: MCPServer[Any] | Server[Any]) -> Server[Any]:
    """The low-level server inside an MCPServer, by the SDK's public way to it."""
    if isinstance(server, Server):
        return server
    server.streamable_http_app(stateless_http=True)
    return server.session_manager.app


def _serve_what_sessions_keep(server: Server[Any]) -> bool:
    """Serve `logging/setLevel`, and for servers with resources `resources/subscribe`, where there is no handler.

    The handlers only agree: the session remembers. Returns whether the session keeps the resource subscriptions.
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


def _error(method: str, error: Exception | SystemExit) -> dict[str, Any]:
    """The JSON-RPC error that the SDK's own handshake transport gives for what a handler raised."""
    if isinstance(error, SystemExit):
        logger.error("The handler for %s tried to end the process.", ascii(method), exc_info=error)
        return {"code": INTERNAL_ERROR, "message": "Internal server error"}
    data = handler_exception_to_error_data(error)
    if data is not None:
        return data.model_dump(by_alias=True, mode="json", exclude_none=True)
    if _is_clients_fault(method, error):
        logger.info("Refused %r: %s", method, ascii(str(error)))
    else:
        logger.error("The handler for %s raised.", ascii(method), exc_info=error)
    return {"code": UNEXPECTED, "message": str(error)}


def _is_clients_fault(method: str, error: Exception) -> bool:
    """Whether a prompt is unknown or lacks arguments: what its function raises has a cause, these have none."""
    cause = error.__cause__
    return method == "prompts/get" and isinstance(cause, ValueError) and cause.__cause__ is None
