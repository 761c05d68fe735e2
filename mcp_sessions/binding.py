"""The only module that knows the SDK's internals: it binds one MCP server to our exchanges.

The SDK keeps the kernel: validation, schemas, handlers, middleware, capabilities, and the whole modern era. We give it
a connection restored from the session's record, and a dispatch context that leads back to our streams.
"""

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, Protocol, cast

import anyio
from django.utils.module_loading import import_string
from mcp.server import MCPServer
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data, progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import EmptyResult, InitializeRequestParams, SetLevelRequestParams
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.requests import Request as HTTPRequest

from mcp_sessions import wire
from mcp_sessions.database import closes_connections
from mcp_sessions.session import Handshake
from mcp_sessions.tools import OptInTools

logger = logging.getLogger(__name__)

HANDSHAKE_VERSIONS: Final = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)
#: JSON-RPC error codes that the SDK answers with on handshake connections.
REQUEST_CANCELLED: Final = -32800
UNEXPECTED: Final = 0


class Channel(Protocol):
    """Where what a handler says goes: a stream of ours."""

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification; best effort."""
        ...


class _Standalone:
    """The SDK's view of the session's standalone stream."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        await self._channel.notify(method, params)


class _DispatchContext:
    """The SDK's view of one message being handled: its transport, its id, and its stream."""

    __slots__ = ("_cancel_requested", "_channel", "_token", "message_metadata", "request_id", "transport")

    def __init__(
        self, request: wire.Request | wire.Notification, scope: Mapping[str, Any], channel: Channel
    ) -> None:
        self.request_id = request.id if isinstance(request, wire.Request) else None
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=False, headers=Headers(scope=cast("Any", scope))
        )
        self.message_metadata = ServerMessageMetadata(request_context=HTTPRequest(cast("Any", scope)))
        self._token = progress_token_from_params(request.params)
        self._channel = channel
        self._cancel_requested: anyio.Event | None = None

    @property
    def can_send_request(self) -> bool:
        return False

    @property
    def cancel_requested(self) -> anyio.Event:
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        await self._channel.notify(method, params)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._token is None:
            return
        params = {"progressToken": self._token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {key: v for key, v in params.items() if v is not None})


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
        _serve_logging(self.lowlevel)
        self.opt_in = next((m for m in self.lowlevel.middleware if isinstance(m, OptInTools)), None)
        self._manager = StreamableHTTPSessionManager(
            app=self._sharing_lifespan(),
            stateless=True,
            json_response=json_only,
            max_request_body_size=max_body,
        )
        self._lifespan_state: Any = None
        self._running: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._starting = asyncio.Lock()

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

    @property
    def started(self) -> bool:
        return self._running is not None

    async def start(self) -> None:
        """Enter the server's lifespan, once per process; later calls return at once.

        Raises: whatever the lifespan raises; the next call tries again.
        """
        async with self._starting:
            if self._running is not None:
                return
            entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._live(entered))
            await entered
            self._running = task

    async def _live(self, entered: asyncio.Future[None]) -> None:
        """Hold the lifespan: entered and left in one task, as the SDK's task group demands."""
        try:
            async with self._manager.run():
                entered.set_result(None)
                await self._leave.wait()
        except Exception as error:
            if entered.done():
                raise
            entered.set_exception(error)

    async def stop(self) -> None:
        """Leave the server's lifespan."""
        self._leave.set()
        if self._running is not None:
            await self._running

    async def serve_modern(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a request of the modern era to the SDK."""
        await self._manager.handle_request(scope, receive, send)

    async def initialize(
        self, request: wire.Request, scope: Mapping[str, Any], channel: Channel
    ) -> tuple[dict[str, Any], Handshake]:
        """Run the handshake: the response, and what was negotiated.

        Raises: Refused for an error response.
        """
        connection = Connection.for_loop(_Standalone(channel))
        runner = ServerRunner(
            self.lowlevel, connection, self._lifespan_state, init_options=self._initialization_options()
        )
        response = await self._run(runner, request, scope, channel)
        if "error" in response or request.params is None:
            raise Refused(response)
        handshake = Handshake(
            protocol_version=connection.protocol_version,
            client_info=request.params["clientInfo"],
            capabilities=request.params["capabilities"],
        )
        return response, handshake

    def _initialization_options(self) -> Any:
        changes = NotificationOptions(tools_changed=self.opt_in is not None)
        return self.lowlevel.create_initialization_options(changes)

    async def answer(
        self,
        request: wire.Request,
        scope: Mapping[str, Any],
        channel: Channel,
        *,
        fingerprint: str,
        handshake: Handshake,
        standalone: Channel,
    ) -> dict[str, Any]:
        """The response to one request. Errors of handlers are responses, too; only cancellation is raised."""
        self._prepare_database(request)
        connection = _restored(handshake, fingerprint, standalone)
        return await self._run(
            ServerRunner(self.lowlevel, connection, self._lifespan_state), request, scope, channel
        )

    async def notify(
        self,
        notification: wire.Notification,
        scope: Mapping[str, Any],
        *,
        fingerprint: str,
        handshake: Handshake,
        standalone: Channel,
    ) -> None:
        """Let the server handle a notification. What its handler raises is logged by the kernel."""
        connection = _restored(handshake, fingerprint, standalone)
        runner = ServerRunner(self.lowlevel, connection, self._lifespan_state)
        context = _DispatchContext(notification, scope, standalone)
        try:
            await runner.on_notify(context, notification.method, notification.params)
        finally:
            await aclose_shielded(connection)

    async def _run(
        self, runner: ServerRunner[Any], request: wire.Request, scope: Mapping[str, Any], channel: Channel
    ) -> dict[str, Any]:
        try:
            result = await runner.on_request(
                _DispatchContext(request, scope, channel), request.method, request.params
            )
        except Exception as error:  # noqa: BLE001 - the edge to the wire: what a handler raises is a response
            return wire.error_response(request.id, _error(request.method, error))
        finally:
            await aclose_shielded(runner.connection)
        return wire.response(request.id, result)

    def _prepare_database(self, request: wire.Request) -> None:
        """See to it that sync functions, which the SDK runs in worker threads, close their database connections."""
        if isinstance(self.server, MCPServer) and request.method in _FUNCTIONS_OF:
            for registered in _FUNCTIONS_OF[request.method](self.server, request.params or {}):
                _close_connections_after(registered)


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


def _serve_logging(server: Server[Any]) -> None:
    """Serve `logging/setLevel` for servers that have no handler: the exchange remembers the level in the session."""

    async def accept(_: Any, __: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    if server.get_request_handler("logging/setLevel") is None:
        server.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)


def _restored(handshake: Handshake, fingerprint: str, standalone: Channel) -> Connection:
    """The connection as it was after the handshake, whichever process saw that."""
    connection = Connection.for_loop(
        _Standalone(standalone), session_id=fingerprint, protocol_version_hint=handshake.protocol_version
    )
    connection.client_params = _client_params(handshake)
    connection.initialized.set()
    return connection


@lru_cache(maxsize=1024)
def _client_params(handshake: Handshake) -> InitializeRequestParams:
    return InitializeRequestParams.model_validate(
        {
            "protocolVersion": handshake.protocol_version,
            "capabilities": handshake.capabilities,
            "clientInfo": handshake.client_info,
        },
        by_name=False,
    )


def _error(method: str, error: Exception) -> dict[str, Any]:
    """The JSON-RPC error that the SDK's own handshake transport gives for what a handler raised."""
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


# What follows reaches into MCPServer's registries, which have no public face. Only sync functions are touched, and
# only to close database connections in the thread that opened them.


def _called_tool(server: MCPServer[Any], params: Mapping[str, Any]) -> list[Any]:
    tool = server._tool_manager.get_tool(params.get("name", ""))  # noqa: SLF001
    return [] if tool is None or tool.is_async else [tool]


def _called_prompt(server: MCPServer[Any], params: Mapping[str, Any]) -> list[Any]:
    prompt = server._prompt_manager.get_prompt(params.get("name", ""))  # noqa: SLF001
    return [] if prompt is None else [prompt]


def _readable(server: MCPServer[Any], _: Mapping[str, Any]) -> list[Any]:
    manager = server._resource_manager  # noqa: SLF001
    return [*manager.list_resources(), *manager.list_templates()]


_FUNCTIONS_OF: Final[dict[str, Callable[[MCPServer[Any], Mapping[str, Any]], list[Any]]]] = {
    "tools/call": _called_tool,
    "prompts/get": _called_prompt,
    "resources/read": _readable,
}


def _close_connections_after(registered: Any) -> None:
    function = getattr(registered, "fn", None)
    if function is None or getattr(function, "closes_connections", False) or _is_async(function):
        return
    closing = closes_connections(function)
    closing.closes_connections = True  # type: ignore[attr-defined]
    registered.fn = closing


def _is_async(function: Callable[..., Any | Awaitable[Any]]) -> bool:
    return asyncio.iscoroutinefunction(function) or asyncio.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an instance may have an async __call__
    )
