"""What is only to be found in MCPServer's registries, which have no public interface."""

import copy
import types
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.shared._callable_inspection import is_async_callable
from mcp_types import ToolAnnotations
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mcp_sessions.handles import arguments
from mcp_sessions.handles.handle import TooManyHandles, reading_arguments
from mcp_sessions.sdk.threads import in_thread

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


def tools_of(server: MCPServer[Any]) -> Mapping[str, Tool]:
    """The tools that are registered, by name."""
    return server._tool_manager._tools  # noqa: SLF001


def hosted_copy(server: MCPServer[Any], lowlevel: Server[Any]) -> MCPServer[Any]:
    """A copy of a server that runs sync functions in threads as `sdk.threads` says, and calls tools when their handles
    are checked.

    The server itself stays as it is. What is registered with either is registered with both. `lowlevel` is a copy of
    the server's low-level one; its handlers become those of the returned copy.
    """
    hosted = copy.copy(server)
    hosted._lowlevel_server = lowlevel  # noqa: SLF001
    for manager, registry in _REGISTRIES:
        if getattr(hosted, manager) is getattr(server, manager):
            setattr(hosted, manager, copy.copy(getattr(server, manager)))
        registered = getattr(getattr(server, manager), registry)
        setattr(getattr(hosted, manager), registry, HostedRegistry(registered))
    for method, entry in tuple(lowlevel._request_handlers.items()):  # noqa: SLF001
        handler = entry.handler
        if isinstance(handler, types.MethodType) and handler.__self__ is server:
            bound: Any = types.MethodType(handler.__func__, hosted)
            lowlevel._request_handlers[method] = replace(entry, handler=bound)  # noqa: SLF001
    hosted._install_extension_interceptor()  # noqa: SLF001 - it holds the bound handler of `tools/call`
    return hosted


class HostedRegistry(MutableMapping[str, Any]):
    """A registry whose sync functions run in threads as `sdk.threads` says, and whose tools are called when the state
    handles among their arguments are checked.

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
            known = self._known[name] = (registered, self._made(registered))
        return known[1]

    def _made(self, registered: Any) -> Any:
        hosted = _in_thread(registered)
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


def _in_thread(registered: Any) -> Any:
    """A tool, prompt or resource with an async function; itself if its function is async, or if it has none."""
    function = getattr(registered, "fn", None)
    if function is None or is_async_callable(function) or iscoroutinefunction(function):
        return registered
    hosted = copy.copy(registered)
    hosted.fn = in_thread(function)
    if isinstance(hosted, Tool):
        hosted.is_async = True
    return hosted


def _checking_handles(
    tool: Tool, handles: Mapping[str, frozenset[arguments.Kind]], givers: arguments.Givers
) -> Tool:
    """A tool that is called when its handles are checked, and whose schema names the tools that give them."""
    checking = copy.copy(tool)
    checking.fn = arguments.checking(tool.fn, parameters=handles, givers=givers)
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
