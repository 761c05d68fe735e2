"""One MCP server in one event loop: its lifespan, its kernel, and the SDK's own application for the modern era."""

import asyncio
import copy
import logging
from collections import ChainMap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction, signature
from typing import Any, Final

from django.utils.module_loading import import_string
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolResult, TextContent
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_sessions.errors import HandleError
from mcp_sessions.handles.handle import kinds_exist
from mcp_sessions.records import shown
from mcp_sessions.sdk.fastmcp import is_fastmcp, lowlevel_of
from mcp_sessions.sdk.kernel import Kernel
from mcp_sessions.sdk.listening import accept_listeners
from mcp_sessions.sdk.registries import hosted_copy

logger = logging.getLogger(__name__)

HANDSHAKE_VERSIONS: Final = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)


class HostedServer:
    """One MCP server. Its lifespan is entered once and shared by both eras."""

    def __init__(self, server: MCPServer[Any] | Server[Any], *, json_only: bool, max_body: int) -> None:
        # The SDK's public way to the server inside an MCPServer changes it.
        self._own = server if isinstance(server, Server) else server._lowlevel_server  # noqa: SLF001
        self._lowlevel = hosted_lowlevel(server, self._own)
        #: Announces events to the listeners that the kernel accepts; None if the server has a handler of its own.
        self.bus = accept_listeners(self._lowlevel)
        self.kernel = Kernel(server, self._lowlevel)
        self._json_only = json_only
        self._max_body = max_body
        self._manager = self._new_manager()
        self._entered: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    def _new_manager(self) -> StreamableHTTPSessionManager:
        """The SDK's entry for the modern era, which can be run once. It enters the lifespan for both eras.

        It gets what it refuses or drops, and has no handlers: one that it ran would be beyond every limit of ours.
        """
        shared = copy.copy(self._lowlevel)
        shared._request_handlers, shared._notification_handlers = {}, {}  # noqa: SLF001 - no public way to a copy

        @asynccontextmanager
        async def lifespan(_: Server[Any]) -> AsyncIterator[Any]:
            async with self._own.lifespan(self._own) as state:
                self.kernel.lifespan_state = state
                yield state

        shared.lifespan = lifespan
        return StreamableHTTPSessionManager(
            app=shared,
            stateless=True,
            json_response=self._json_only,
            max_request_body_size=self._max_body,
        )

    async def start(self) -> None:
        """Enter the server's lifespan, once per process; concurrent calls wait, later ones return at once.

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
        """Hand a request of the modern era to the SDK's own application, which refuses it as clients expect."""
        await self._manager.handle_request(scope, receive, send)


def _as_exception(error: BaseException) -> Exception:
    """What the waiting requests are told: a cancellation inside a lifespan is not a cancellation of theirs."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"The server's lifespan could not be entered: {error!r}")
    wrapped.__cause__ = error
    return wrapped


def import_server(path: str) -> Any:
    """The MCP server at a dotted path, or the callable there that returns one.

    Raises: ImportError; TypeError for anything else.
    """
    value = import_string(path)
    if not callable(value) or is_fastmcp(value):
        return _server(path, value)
    if problem := _problem_with_call(value):
        raise TypeError(f"{path} is no callable that returns a server: {problem}")
    return value


def _problem_with_call(value: Any) -> str | None:
    """Why a callable cannot be called as it is: seen when a process starts, and not with each request."""
    if iscoroutinefunction(value):
        return "it is async"
    try:
        signature(value).bind()
    except TypeError as error:
        return str(error)
    except ValueError:
        return None  # a built-in one, whose signature nobody knows
    return None


def load_server(path: str) -> MCPServer[Any] | Server[Any]:
    """The MCP server at a dotted path, or the one that the callable there returns.

    Raises: ImportError; TypeError for anything else.
    """
    value = import_server(path)
    return value if isinstance(value, (MCPServer, Server)) else _server(path, value())


def _server(path: str, value: Any) -> MCPServer[Any] | Server[Any]:
    """A server of the SDK, or the one inside a FastMCP. Raises: TypeError for anything else."""
    if isinstance(value, (MCPServer, Server)):
        return value
    if is_fastmcp(value):
        try:
            return lowlevel_of(value)
        except TypeError as error:
            raise TypeError(f"{path} is {error}") from None
    raise TypeError(
        f"{path} is {type(value).__name__}, neither an MCPServer, a low-level Server, nor a FastMCP"
    )


def hosted_lowlevel(server: MCPServer[Any] | Server[Any], own: Server[Any]) -> Server[Any]:
    """A copy of a server's low-level one, `own`: what hosting adds to it is not added to the user's own object.

    What is registered with the user's object later is found in the copy, too.
    """
    lowlevel = copy.copy(own)
    handlers = own._request_handlers  # noqa: SLF001 - no public way to a copy
    lowlevel._request_handlers = ChainMap({}, handlers)  # type: ignore[assignment]  # noqa: SLF001
    if isinstance(server, MCPServer):
        hosted_copy(server, lowlevel)
    elif kinds_exist() and (entry := own.get_request_handler("tools/call")) is not None:
        lowlevel.add_request_handler("tools/call", entry.params_type, _telling_of_handles(entry.handler))
    return lowlevel


def _telling_of_handles(handler: Any) -> Any:
    """A handler of `tools/call` whose errors about state handles are results that a model reads, as an MCPServer's."""

    async def tell(ctx: Any, params: Any) -> Any:
        try:
            return await handler(ctx, params)
        except HandleError as error:
            logger.info("Tool %s failed: %r", shown(params.name), str(error))
            return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)

    return tell
