"""Hosting a server leaves the user's own objects as they are."""

from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.extension import Extension
from mcp.server.lowlevel.server import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, RequestParams

from mcp_sessions.errors import HandleError
from mcp_sessions.sdk import server as module
from mcp_sessions.sdk.server import HostedServer


class Intercepting(Extension):
    """It wraps the handler of `tools/call`."""

    identifier = "example.com/intercepting"

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
        return await call_next(ctx)


def shop(**options: Any) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("shop", **options)

    @server.tool()
    def buy() -> str:
        return "bought"

    @server.prompt()
    def ask() -> str:
        return "?"

    @server.resource("shop://goods")
    def goods() -> str:
        return "many"

    @server.resource("shop://goods/{name}")
    def good(name: str) -> str:
        return name

    return server


def facts(server: MCPServer[Any]) -> dict[str, Any]:
    """What hosting could change in a server."""
    lowlevel = server._lowlevel_server
    registries = {
        **server._tool_manager._tools,
        **server._prompt_manager._prompts,
        **server._resource_manager._resources,
        **server._resource_manager._templates,
    }
    return {
        "server": dict(vars(server)),
        "lowlevel": {**vars(lowlevel), "middleware": list(lowlevel.middleware)},
        "handlers": dict(lowlevel._request_handlers),
        "notifications": dict(lowlevel._notification_handlers),
        "functions": {name: getattr(registered, "fn", None) for name, registered in registries.items()},
        "managers": {
            name: dict(vars(getattr(server, name))) for name in ("_tool_manager", "_prompt_manager")
        },
    }


@pytest.mark.parametrize("extensions", [(), (Intercepting(),)])
async def test_an_mcpserver_is_not_changed(extensions: Any) -> None:
    server = shop(extensions=extensions)
    before = facts(server)
    hosted = HostedServer(server, json_only=False, max_body=1000)
    await hosted.start()
    lowlevel = hosted.kernel.lowlevel
    assert lowlevel.get_request_handler("logging/setLevel") is not None
    assert lowlevel.get_request_handler("resources/subscribe") is not None
    await hosted.stop()
    assert facts(server) == before


async def test_a_lowlevel_server_is_not_changed() -> None:
    async def none(*_: Any) -> Any:
        raise AssertionError

    server: Server[Any] = Server("low", on_list_resources=none, on_list_tools=none)
    before = {
        **vars(server),
        "handlers": dict(server._request_handlers),
        "middleware": list(server.middleware),
    }
    hosted = HostedServer(server, json_only=False, max_body=1000)
    await hosted.start()
    await hosted.stop()
    now = {**vars(server), "handlers": dict(server._request_handlers), "middleware": list(server.middleware)}
    assert now == before
    assert server.get_capabilities().logging is None
    assert hosted.kernel.lowlevel.get_capabilities().logging is not None


async def test_what_is_registered_while_the_server_is_hosted_is_served() -> None:
    server = shop()
    hosted = HostedServer(server, json_only=False, max_body=1000)

    @server.tool()
    def sell() -> str:
        return "sold"

    server.remove_tool("buy")

    async def pong(*_: Any) -> Any:
        return {}

    server._lowlevel_server.add_request_handler("custom/pong", RequestParams, pong)
    lowlevel = hosted.kernel.lowlevel
    entry = lowlevel.get_request_handler("tools/list")
    assert entry is not None
    listed = await entry.handler(None, None)  # type: ignore[arg-type] # it needs neither
    assert isinstance(listed, ListToolsResult)
    assert [tool.name for tool in listed.tools] == ["sell"]
    pongs = lowlevel.get_request_handler("custom/pong")
    assert pongs is not None
    assert pongs.handler is pong


def test_what_a_tool_registers_with_its_server_is_registered_with_the_users() -> None:
    server = shop()
    hosted = HostedServer(server, json_only=False, max_body=1000)
    entry = hosted.kernel.lowlevel.get_request_handler("tools/list")
    assert entry is not None
    inside: MCPServer[Any] = entry.handler.__self__  # type: ignore[attr-defined]
    assert inside is not server

    @inside.tool()
    def sell() -> str:
        return "sold"

    inside.remove_tool("buy")
    assert list(server._tool_manager._tools) == ["sell"]
    assert len(inside._tool_manager._tools) == 1


async def test_the_lifespan_gets_the_users_own_server() -> None:
    entered: list[Any] = []

    class Lifespan:
        def __init__(self, server: Any) -> None:
            entered.append(server)

        async def __aenter__(self) -> dict[str, Any]:
            return {}

        async def __aexit__(self, *_: object) -> None: ...

    server: Server[Any] = Server("low", lifespan=Lifespan)
    hosted = HostedServer(server, json_only=False, max_body=1000)
    await hosted.start()
    await hosted.stop()
    assert entered == [server]
    assert entered[0] is server


@pytest.mark.parametrize("kinds", [False, True], ids=["no handles", "handles"])
async def test_what_is_wrong_with_a_handle_is_a_result_of_a_lowlevel_tool_where_there_are_handles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kinds: bool
) -> None:
    caplog.set_level("INFO", "mcp_sessions")

    async def call(_: Any, params: Any) -> Any:
        if params.name == "look":
            return CallToolResult(content=[])
        raise HandleError("no such cart")

    monkeypatch.setattr(module, "kinds_exist", lambda: kinds)
    HostedServer(Server("no tools"), json_only=False, max_body=1000)
    server: Server[Any] = Server("low", on_call_tool=call)
    entry = HostedServer(server, json_only=False, max_body=1000).kernel.lowlevel.get_request_handler(
        "tools/call"
    )
    assert entry is not None
    nothing: Any = None
    assert await entry.handler(nothing, CallToolRequestParams(name="look")) == CallToolResult(content=[])
    buying = CallToolRequestParams(name="buy")
    if kinds:
        answer: Any = await entry.handler(nothing, buying)
        assert (answer.is_error, [each.text for each in answer.content]) == (True, ["no such cart"])
        assert "Tool 'buy' failed: 'no such cart'" in caplog.text
    else:
        with pytest.raises(HandleError):
            await entry.handler(nothing, buying)
