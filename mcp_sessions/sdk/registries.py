"""What is only to be found in MCPServer's registries, which have no public interface."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction
from django.db import close_old_connections
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

P = ParamSpec("P")
R = TypeVar("R")


def annotations_of(server: MCPServer[Any], params: Mapping[str, Any]) -> ToolAnnotations | None:
    """The annotations of the tool that is called."""
    tool = server._tool_manager.get_tool(str(params.get("name")))  # noqa: SLF001
    return None if tool is None else tool.annotations


def close_connections_after(server: MCPServer[Any], method: str, params: Mapping[str, Any]) -> None:
    """Make the sync functions that a request may call, in worker threads, close their database connections."""
    # Nobody has validated the params yet: a name may be anything.
    if method == "tools/call":
        tool = server._tool_manager.get_tool(str(params.get("name")))  # noqa: SLF001
        if tool is not None and not tool.is_async:
            _close_connections_after(tool)
    elif method == "prompts/get":
        _close_connections_after(server._prompt_manager.get_prompt(str(params.get("name"))))  # noqa: SLF001
    elif method == "resources/read":
        manager = server._resource_manager  # noqa: SLF001
        for registered in (*manager.list_resources(), *manager.list_templates()):
            _close_connections_after(registered)


def _close_connections_after(registered: Any) -> None:
    """The same for one tool, prompt or resource; once."""
    function = getattr(registered, "fn", None)
    if function is None or getattr(function, "closes_connections", False) or _is_async(function):
        return
    registered.fn = closes_connections(function)
    registered.fn.closes_connections = True


def closes_connections(function: Callable[P, R]) -> Callable[P, R]:
    """Close the thread's unusable and outdated database connections before and after a sync function.

    Django does this for views, with request_started and request_finished. Without it, a worker thread would keep its
    connection forever, and use it again long after the database has dropped it.
    """

    @functools.wraps(function)
    def closing(*args: P.args, **kwargs: P.kwargs) -> R:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return closing


def _is_async(function: Callable[..., Any]) -> bool:
    # An instance may have an async __call__.
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
