"""What the kernel knows of a server: its tools, which of them may run again, and what it listens to."""

import threading
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp_types import NotificationParams, ToolAnnotations

from mcp_sessions.sdk.registries import HostedRegistry
from mcp_sessions.sdk.server import HostedServer
from mcp_sessions.tools import OptInTools, RestrictedTools
from mcp_sessions.transport import jsonrpc


def shop() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("shop")
    for name, annotations in (
        ("look", ToolAnnotations(read_only_hint=True)),
        ("keep", ToolAnnotations(idempotent_hint=True)),
        ("buy", ToolAnnotations(read_only_hint=False, idempotent_hint=False)),
        ("sell", None),
    ):
        server.add_tool(lambda: "x", name=name, annotations=annotations)
    return server


def kernel_of(server: Any) -> Any:
    return HostedServer(server, json_only=False, max_body=1_000).kernel


def call(name: str, method: str = "tools/call") -> jsonrpc.Request:
    return jsonrpc.Request(id=1, method=method, params={"name": name})


@pytest.mark.parametrize(
    ("request_", "repeatable"),
    [
        (call("look"), True),
        (call("keep"), True),
        (call("buy"), False),
        (call("sell"), False),
        (call("nothing like that"), False),
        (call("look", "prompts/get"), False),
        (jsonrpc.Request(id=1, method="tools/call", params=None), False),
    ],
)
def test_only_a_call_of_a_tool_that_says_so_may_run_again(
    request_: jsonrpc.Request, repeatable: bool
) -> None:
    assert kernel_of(shop()).is_repeatable(request_) is repeatable
    assert not kernel_of(Server("low-level")).is_repeatable(request_)


def test_whether_a_server_has_a_tool_is_known_unless_only_its_handlers_know() -> None:
    kernel = kernel_of(shop())
    assert (kernel.has_tool("look"), kernel.has_tool("nothing like that")) == (True, False)
    assert kernel_of(Server("low-level")).has_tool("look") is None


def test_a_notification_is_only_passed_on_where_something_hears_it() -> None:
    async def handle(*_: Any) -> None:
        """A handler, or middleware."""

    hear: Any = handle
    method, server = "notifications/roots/list_changed", shop()
    OptInTools(server, ["look"])
    RestrictedTools(server)
    assert not kernel_of(server).hears(method)
    server.middleware.append(hear)
    assert kernel_of(server).hears(method)
    listening: Server[Any] = Server("low-level")
    assert not kernel_of(listening).hears(method)
    listening.add_notification_handler(method, NotificationParams, hear)
    assert kernel_of(listening).hears(method)
    assert not kernel_of(listening).hears("notifications/progress")


def test_a_view_of_a_registry_follows_it() -> None:
    registered: dict[str, Any] = {"a": object()}
    view = HostedRegistry(registered)
    first = view["a"]
    assert first is registered["a"], "there is no function to run in a thread"
    assert (list(view), len(view)) == (["a"], 1)
    registered["a"] = object()
    assert view["a"] is registered["a"] is not first
    view["b"] = first
    assert registered["b"] is first
    del view["b"]
    assert ("b" in view, "b" in registered) == (False, False)
    with pytest.raises(KeyError):
        view["b"]
    with pytest.raises(KeyError):
        del view["b"]


class Called:
    """An object whose call is async."""

    async def __call__(self) -> str:
        return "called"


async def awaited() -> str:
    return "awaited"


def marked() -> str:
    """It returns an awaitable, whatever it looks like."""
    return "marked"


def plain() -> str:
    return threading.current_thread().name


@pytest.mark.parametrize(
    "function", [Called(), awaited, markcoroutinefunction(marked)], ids=["object", "function", "marked"]
)
def test_what_is_async_is_called_as_it_is(function: Any) -> None:
    tool = Tool.from_function(awaited, name="x").model_copy(update={"fn": function})
    assert HostedRegistry({"x": tool})["x"] is tool


async def test_a_sync_function_runs_in_a_thread_and_the_object_itself_is_left_as_it_is() -> None:
    tool, prompt = Tool.from_function(plain), Prompt.from_function(plain)
    view = HostedRegistry({"tool": tool, "prompt": prompt})
    hosted = view["tool"]
    assert (hosted.is_async, tool.is_async) == (True, False)
    assert (hosted.fn is tool.fn, tool.fn) == (False, plain)
    assert await hosted.fn() != threading.current_thread().name
    assert await view["prompt"].fn() != threading.current_thread().name
    assert view["tool"] is hosted, "it is made once"
    assert hosted.fn.__name__ == "plain", "it has the name of what it runs"
