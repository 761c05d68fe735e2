"""MCPServer's registries, which have no public face: so that sync functions close their database connections."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from mcp_sessions.serving.database import closes_connections


def close_connections_after(server: MCPServer[Any], method: str, params: Mapping[str, Any]) -> None:
    """See to it that the sync functions that a request may call, in worker threads, close their connections."""
    if method in _FUNCTIONS_OF:
        for registered in _FUNCTIONS_OF[method](server, params):
            _wrap(registered)


def annotations_of(server: MCPServer[Any], params: Mapping[str, Any]) -> ToolAnnotations | None:
    """What the tool that is called says of itself."""
    tool = server._tool_manager.get_tool(_name(params))  # noqa: SLF001
    return None if tool is None else tool.annotations


def _name(params: Mapping[str, Any]) -> str:
    """The name in params that nobody has validated yet; "" for anything but a text."""
    name = params.get("name")
    return name if isinstance(name, str) else ""


def _called_tool(server: MCPServer[Any], params: Mapping[str, Any]) -> list[Any]:
    tool = server._tool_manager.get_tool(_name(params))  # noqa: SLF001
    return [] if tool is None or tool.is_async else [tool]


def _called_prompt(server: MCPServer[Any], params: Mapping[str, Any]) -> list[Any]:
    prompt = server._prompt_manager.get_prompt(_name(params))  # noqa: SLF001
    return [] if prompt is None else [prompt]


def _readable(server: MCPServer[Any], _: Mapping[str, Any]) -> list[Any]:
    manager = server._resource_manager  # noqa: SLF001
    return [*manager.list_resources(), *manager.list_templates()]


_FUNCTIONS_OF: Final[dict[str, Callable[[MCPServer[Any], Mapping[str, Any]], list[Any]]]] = {
    "tools/call": _called_tool,
    "prompts/get": _called_prompt,
    "resources/read": _readable,
}


def _wrap(registered: Any) -> None:
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
