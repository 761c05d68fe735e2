"""What is only to be found in MCPServer's registries, which have no public interface."""

import copy
import functools
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction
from django.db import close_old_connections
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mcp_sessions.handles import arguments
from mcp_sessions.handles.handle import TooManyHandles, reading_arguments

P = ParamSpec("P")
R = TypeVar("R")

#: The registries of an MCPServer: the attribute that has the manager, and the attribute there.
_REGISTRIES: Final = (
    ("_tool_manager", "_tools"),
    ("_prompt_manager", "_prompts"),
    ("_resource_manager", "_resources"),
    ("_resource_manager", "_templates"),
)


def annotations_of(server: MCPServer[Any], params: Mapping[str, Any]) -> ToolAnnotations | None:
    """The annotations of the tool that is called."""
    tool = server._tool_manager.get_tool(str(params.get("name")))  # noqa: SLF001
    return None if tool is None else tool.annotations


def hosted_copy(server: MCPServer[Any], lowlevel: Server[Any]) -> MCPServer[Any]:
    """A copy of a server that calls sync functions so that they close their database connections, and tools when their
    handles are checked.

    The server itself stays as it is. What is registered with either is registered with both. `lowlevel` is a copy of
    the server's low-level one; its handlers become those of the returned copy.
    """
    hosted = copy.copy(server)
    hosted._lowlevel_server = lowlevel  # noqa: SLF001
    for manager, registry in _REGISTRIES:
        if getattr(hosted, manager) is getattr(server, manager):
            setattr(hosted, manager, copy.copy(getattr(server, manager)))
        registered = getattr(getattr(server, manager), registry)
        setattr(getattr(hosted, manager), registry, ClosingConnections(registered))
    for method, entry in tuple(lowlevel._request_handlers.items()):  # noqa: SLF001
        handler = entry.handler
        if isinstance(handler, types.MethodType) and handler.__self__ is server:
            bound: Any = types.MethodType(handler.__func__, hosted)
            lowlevel._request_handlers[method] = replace(entry, handler=bound)  # noqa: SLF001
    hosted._install_extension_interceptor()  # noqa: SLF001 - it holds the bound handler of `tools/call`
    return hosted


class ClosingConnections(MutableMapping[str, Any]):
    """A registry whose sync functions close the database connections of their worker thread, and whose tools are called
    when the state handles among their arguments are checked.

    A view: what is registered here or in the registry behind it is in both. The objects there are left as they are.
    """

    def __init__(self, registered: MutableMapping[str, Any]) -> None:
        self._registered = registered
        #: What is registered under a name, and what stands for it here.
        self._known: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, name: str) -> Any:
        registered = self._registered[name]
        known = self._known.get(name)
        if known is None or known[0] is not registered:
            known = self._known[name] = (registered, self._hosted(registered))
        return known[1]

    def _hosted(self, registered: Any) -> Any:
        hosted = _closing_connections(registered)
        if not isinstance(registered, Tool):
            return hosted
        handles = arguments.parameters_of(registered.fn)
        if handles:
            hosted = _checking_handles(hosted, handles, self._givers())
        return _bounding_arguments(hosted) if arguments.reads_handles(registered.fn) else hosted

    def _givers(self) -> arguments.Givers:
        """Which tools return handles, of all that are registered by now."""
        return arguments.Givers({name: tool.fn for name, tool in self._registered.items()})

    def __setitem__(self, name: str, value: Any) -> None:
        self._registered[name] = value

    def __delitem__(self, name: str) -> None:
        self._known.pop(name, None)
        del self._registered[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._registered)

    def __len__(self) -> int:
        return len(self._registered)


def _closing_connections(registered: Any) -> Any:
    """A tool, prompt or resource with such a function; itself if its function is async, or if it has none."""
    function = getattr(registered, "fn", None)
    if function is None or _is_async(function):
        return registered
    closing = copy.copy(registered)
    closing.fn = closes_connections(function)
    return closing


def _checking_handles(
    tool: Tool, handles: Mapping[str, frozenset[arguments.Kind]], givers: arguments.Givers
) -> Tool:
    """A tool that is called when its handles are checked, and whose schema names the tools that give them."""
    checking = copy.copy(tool)
    checking.fn = arguments.checking(tool.fn, is_async=tool.is_async, parameters=handles, givers=givers)
    checking.is_async = True
    checking.parameters = arguments.described(tool.parameters, handles, givers)
    return checking


def _bounding_arguments(tool: Tool) -> Tool:
    bounding = copy.copy(tool)
    bounding.fn_metadata = BoundedArguments(**dict(tool.fn_metadata))
    return bounding


class BoundedArguments(FuncMetadata):
    """Reads arguments with handles until there are too many: each costs far more than the few bytes of its text."""

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """As the SDK. Raises: ValidationError, which it makes a tool error."""
        try:
            with reading_arguments():
                return super().validate_arguments(arguments_to_validate)
        except TooManyHandles:
            text = f"One call may have {arguments.MOST_IN_A_CALL} handles at most."
            problem = PydanticCustomError("too_many_handles", "{text}", {"text": text})
            title = self.arg_model.__name__
        raise ValidationError.from_exception_data(title, [{"type": problem, "input": None}])


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
