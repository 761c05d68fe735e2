"""Tools that not everybody sees: those that a session enables, and those that ask for a permission or a scope."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from asgiref.sync import sync_to_async
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from mcp_sessions.current import CurrentRequest, current_exchange, current_request
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.drivers.absent import NOT_NOW

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: What makes the name of a hidden tool one that no tool has. The server's log shows it.
_HIDDEN: Final = " (hidden from this client)"


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


class Requirement(NamedTuple):
    """What whoever calls a tool must have: all that is named here."""

    #: A permission of Django, "shop.change_price".
    permission: str | None = None
    #: A scope of the token. Credentials without scopes, such as a login, allow what their user may do.
    scope: str | None = None


class RestrictedTools:
    """The tools of one server that only those see and can call who have a Django permission or a scope, in both eras.

    For everybody else they are not listed, and a call gets what an MCPServer answers to that of an unknown tool; with a
    low-level server, a JSON-RPC error. What somebody may do is looked up in each request. With an MCPServer, decorate
    with `tool` of this class in the place of the server's; with a low-level server, pass `requirements` for tools that
    its own handlers list and call.
    """

    def __init__(
        self, server: MCPServer[Any] | Server[Any], requirements: Mapping[str, Requirement] | None = None
    ) -> None:
        """Raises: ValueError for a requirement that names nothing."""
        self._server = server
        self._requirements: dict[str, Requirement] = {}
        #: Whether the server has a tool of that name; None if only its handlers know. The server's host sets it.
        self.has_tool: Callable[[str], bool | None] = lambda name: None
        for name, requirement in (requirements or {}).items():
            self._add(name, requirement)
        server.middleware.append(self)

    def tool(
        self,
        name: str | None = None,
        *,
        permission: str | None = None,
        scope: str | None = None,
        **options: Any,
    ) -> Callable[[F], F]:
        """Register a function as a tool with a requirement; takes what `MCPServer.tool` takes.

        Raises: ValueError without a permission and a scope.
        """
        if not hasattr(self._server, "tool"):
            raise TypeError(
                "RestrictedTools.tool() needs an MCPServer; with a low-level Server pass requirements=…"
            )

        def register(function: F) -> F:
            self._add(name or function.__name__, Requirement(permission, scope))
            self._server.tool(name, **options)(function)  # type: ignore[union-attr]
            return function

        return register

    def _add(self, name: str, requirement: Requirement) -> None:
        if not (requirement.permission or requirement.scope):
            raise ValueError(f"The tool {name} needs a permission, a scope, or both.")
        self._requirements[name] = requirement

    async def __call__(
        self,
        ctx: ServerRequestContext[Any, Any],
        call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
    ) -> Any:
        """The SDK's middleware: hides from whoever asks the tools that they may not use."""
        name = (ctx.params or {}).get("name")
        if ctx.method == "tools/call" and isinstance(name, str) and await self.hides(name):
            if isinstance(self._server, MCPServer):
                return await _answer_as_unknown(name, ctx, call_next)
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown tool: {name}")
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            listed = [tool["name"] for tool in result["tools"] if tool["name"] in self._requirements]
            hidden = await self._hidden(listed)
            result["tools"] = [tool for tool in result["tools"] if tool["name"] not in hidden]
            if "cacheScope" in result:
                result["cacheScope"] = "private"  # the list is that of whoever asks
        return result

    async def hides(self, name: str) -> bool:
        """Whether there is a tool of that name that whoever asks may not use, and so not know of.

        If there is none, and it is known which tools there are, that is asked for as long as for one that is hidden.
        Raises: what looking up permissions raises.
        """
        requirement, request = self._requirements.get(name), current_request.get(None)
        if requirement is None and self.has_tool(name) is not False:
            return False
        if request is None or request.principal == ANONYMOUS:
            return requirement is not None
        scopes = request.identity.scopes
        lacks = requirement is None or _lacks_scope(requirement, scopes)
        permission = None if requirement is None else requirement.permission
        if lacks and permission is None:
            permission = next(
                (each.permission for each in self._requirements.values() if each.permission), None
            )
        if permission is not None:
            lacks = not await sync_to_async(_permitted)(request, {permission}) or lacks
        return requirement is not None and lacks

    async def _hidden(self, names: Iterable[str]) -> frozenset[str]:
        """Those of these tools that whoever asks may not use. Raises: what looking up permissions raises."""
        request = current_request.get(None)
        if request is None or request.principal == ANONYMOUS:
            return frozenset(names)
        scopes = request.identity.scopes
        wanted = {name: self._requirements[name] for name in names}
        hidden = {name for name, requirement in wanted.items() if _lacks_scope(requirement, scopes)}
        asked = {
            name: requirement.permission
            for name, requirement in wanted.items()
            if requirement.permission and name not in hidden
        }
        if asked:
            permitted = await sync_to_async(_permitted)(request, set(asked.values()))
            hidden |= {name for name, permission in asked.items() if permission not in permitted}
        return frozenset(hidden)


async def _answer_as_unknown(
    name: str,
    ctx: ServerRequestContext[Any, Any],
    call_next: Callable[[ServerRequestContext[Any, Any]], Awaitable[Any]],
) -> Any:
    """What an MCPServer answers to a call of a tool that it does not have, as if it had none of that name."""
    nothing = name + _HIDDEN
    result = await call_next(replace(ctx, params={**(ctx.params or {}), "name": nothing}))
    for part in result.get("content", ()) if isinstance(result, dict) else ():
        if isinstance(part.get("text"), str):
            part["text"] = part["text"].replace(nothing, name)
    return result


def _lacks_scope(requirement: Requirement, scopes: Collection[str] | None) -> bool:
    """Whether credentials with these scopes lack the required one; with None they have all."""
    return bool(requirement.scope) and scopes is not None and requirement.scope not in scopes


def _permitted(request: CurrentRequest, permissions: Iterable[str]) -> frozenset[str]:
    """Those of these permissions that the user has on whose behalf a request comes."""
    user = request.identity.find_user(request.conf)
    if user is None:
        return frozenset()
    return frozenset(permission for permission in permissions if user.has_perm(permission))
