"""Opt-in tools: tools that a session sees once it has enabled them."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from mcp_sessions.current import current_exchange
from mcp_sessions.store.drivers.absent import NOT_NOW

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class OptInTools:
    """The tools of one server that a session sees only after `current_session().enable_tools(name)`.

    With an MCPServer, decorate with `tool` of this class in the place of the server's; with a low-level server, pass
    the `names` of tools that its own handlers list and call. A session stores only names: whichever process serves it
    next looks the tools up again, and a name that the running release no longer has is logged and skipped. In the
    modern era there are no sessions, and so no opt-in tools.
    """

    def __init__(self, server: MCPServer[Any] | Server[Any], names: Iterable[str] = ()) -> None:
        self._server = server
        self._names = set(names)
        server.middleware.append(self)

    @property
    def names(self) -> frozenset[str]:
        """The names of all opt-in tools of this release."""
        return frozenset(self._names)

    def tool(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """Register a function as an opt-in tool; takes what `MCPServer.tool` takes."""
        if not hasattr(self._server, "tool"):
            raise TypeError("OptInTools.tool() needs an MCPServer; with a low-level Server pass names=…")

        def register(function: F) -> F:
            self._names.add(name or function.__name__)
            self._server.tool(name, **options)(function)  # type: ignore[union-attr]
            return function

        return register

    async def __call__(
        self,
        ctx: ServerRequestContext[Any, Any],
        call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
    ) -> Any:
        """The SDK's middleware: hides from a session the tools that it has not enabled."""
        name = (ctx.params or {}).get("name")
        if ctx.method == "tools/call" and isinstance(name, str) and name in self._names - self._enabled():
            exchange = current_exchange.get(None)
            if exchange is not None and not exchange.session.is_stored:
                raise MCPError(code=INTERNAL_ERROR, message=NOT_NOW)
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown tool: {name}")
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            hidden = self._names - self._enabled()
            result["tools"] = [tool for tool in result["tools"] if tool["name"] not in hidden]
        return result

    def _enabled(self) -> frozenset[str]:
        exchange = current_exchange.get(None)
        if exchange is None:
            return frozenset()
        enabled = exchange.session.tools
        for name in sorted(enabled - self._names):
            logger.info(
                "Session %.12s enabled the tool %r, which this release does not have.",
                exchange.session.fingerprint,
                name,
            )
        return enabled & self._names
