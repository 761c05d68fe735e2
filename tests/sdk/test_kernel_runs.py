"""What the kernel runs for one message: the handshake, a call of either era, a notification, and what is left of it."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp_types import (
    CallToolResult,
    EmptyResult,
    ListResourcesResult,
    NotificationParams,
    RequestParams,
    SetLevelRequestParams,
)

from mcp_sessions.sdk import kernel as module
from mcp_sessions.sdk.channel import NoChannel
from mcp_sessions.sdk.kernel import Kernel, Refused
from mcp_sessions.sdk.server import HostedServer
from mcp_sessions.subscriptions import SharedSubscriptions
from mcp_sessions.tools import OptInTools, RestrictedTools
from mcp_sessions.transport import jsonrpc
from tests.store.harness import CLAUDE
from tests.support.mcp_client import META, MODERN

SCOPE: dict[str, Any] = {"type": "http", "headers": []}


def kernel_of(server: Any) -> Kernel:
    return HostedServer(server, json_only=False, max_body=1_000).kernel


async def initialized(server: Any, params: Any) -> tuple[dict[str, Any], Any]:
    request = jsonrpc.Request(id=1, method="initialize", params=params)
    return await kernel_of(server).initialize(request, SCOPE)


PARAMS: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "clientInfo": {"name": "c", "version": "1", "more": 1},
    "capabilities": {"roots": {}, "experimental": {"x": {"y": 1}}},
}


def with_everything(**options: Any) -> MCPServer[Any]:
    """A server with a tool, a prompt and a resource."""
    server: MCPServer[Any] = MCPServer("shop", **options)

    def said() -> str:
        return "x"

    server.tool("look")(said)
    server.prompt("ask")(said)
    server.resource("shop://goods")(said)
    return server


@pytest.mark.parametrize(
    ("shared", "opt_in", "announced"),
    [(False, False, [False] * 3), (False, True, [True, False, False]), (True, False, [True] * 3)],
)
async def test_a_server_promises_only_announcements_that_are_delivered(
    shared: bool, opt_in: bool, announced: list[bool]
) -> None:
    server = with_everything(**({"subscriptions": SharedSubscriptions()} if shared else {}))
    if opt_in:
        OptInTools(server, ["look"])
    response, handshake = await initialized(server, PARAMS)
    capabilities = response["result"]["capabilities"]
    promised = [capabilities[name].get("listChanged", False) for name in ("tools", "prompts", "resources")]
    assert promised == announced
    assert response["id"] == 1
    assert response["result"]["protocolVersion"] == handshake.protocol_version == "2025-06-18"
    assert (handshake.client_info, handshake.capabilities) == (PARAMS["clientInfo"], PARAMS["capabilities"])
    assert kernel_of(server).opt_in_tools == (frozenset({"look"}) if opt_in else frozenset())


@pytest.mark.parametrize("params", [None, {}, {**PARAMS, "clientInfo": 7}])
async def test_a_handshake_that_says_too_little_is_refused(params: Any) -> None:
    with pytest.raises(Refused) as raised:
        await initialized(Server("low"), params)
    assert raised.value.message["id"] == 1
    assert raised.value.message["error"]["code"] == -32602


class Cleaning(Server[Any]):
    """A server whose handlers leave something to be done when they have answered."""

    def __init__(self) -> None:
        super().__init__("cleaning", on_call_tool=self._call, on_list_tools=self._call)  # type: ignore[arg-type]
        self.done: list[str] = []
        self.leaves = True
        self.add_notification_handler("notifications/x", NotificationParams, self._hear)

    async def _leave(self, what: str, context: Any) -> None:
        async def clean_up() -> None:
            self.done.append(f"cleaned up after {what}")

        self.done.append(what)
        if self.leaves:
            context.session._connection.exit_stack.push_async_callback(clean_up)

    async def _call(self, context: Any, params: Any) -> CallToolResult:
        await self._leave("call", context)
        if params.name == "fail":
            raise RuntimeError("on purpose")
        return CallToolResult(content=[])

    async def _hear(self, context: Any, params: Any) -> None:
        await self._leave("notification", context)


async def run(kernel: Kernel, message: str, *, name: str = "look", modern: bool = False) -> Any:
    session: Any = SimpleNamespace(handshake=CLAUDE, fingerprint="f" * 64, initialized=True)
    if message == "notification":
        heard = jsonrpc.Notification(method="notifications/x", params=None)
        return await kernel.notify(heard, SCOPE, session, NoChannel())
    params: dict[str, Any] = {"name": name, "arguments": {}}
    if modern:
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": name}
        scope = {**SCOPE, "headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
        call = jsonrpc.Request(id=7, method="tools/call", params={**params, "_meta": META})
        return await kernel.answer_modern(call, scope, NoChannel())
    channels: Any = {"channel": NoChannel(), "standalone": NoChannel()}
    closing: Any = {"disconnect": None, "disconnect_standalone": None}
    call = jsonrpc.Request(id=7, method="tools/call", params=params)
    return await kernel.answer(call, SCOPE, session, **channels, **closing)


@pytest.mark.logs_fault("RuntimeError")
@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "modern"])
async def test_what_a_handler_left_to_be_done_is_done_when_it_has_answered_or_failed(modern: bool) -> None:
    server = Cleaning()
    kernel = kernel_of(server)
    answer = await run(kernel, "call", modern=modern)
    assert (answer["id"], answer["result"]["content"]) == (7, [])
    assert server.done == ["call", "cleaned up after call"]
    failed = await run(kernel, "call", name="fail", modern=modern)
    assert failed["error"]["code"] == (-32603 if modern else 0)
    assert server.done[2:] == ["call", "cleaned up after call"]


async def test_what_a_handler_of_a_notification_left_is_done_too() -> None:
    server = Cleaning()
    await run(kernel_of(server), "notification")
    assert server.done == ["notification", "cleaned up after notification"]


@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "modern"])
async def test_where_nothing_is_left_to_be_done_nothing_is_closed(
    modern: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Cleaning()
    server.leaves = False
    monkeypatch.setattr(module, "aclose_shielded", None)
    assert "result" in await run(kernel_of(server), "call", modern=modern)
    await run(kernel_of(server), "notification")
    assert server.done == ["call", "notification"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}


@pytest.mark.parametrize(("name", "told"), [("seen", True), ("opt-in", False), ("secret", False)])
async def test_what_the_parameters_of_a_hidden_tool_are_is_not_told(
    monkeypatch: pytest.MonkeyPatch, name: str, told: bool
) -> None:
    async def call(_: Any, __: Any) -> Any:
        return CallToolResult(content=[])

    async def hides(_: Any, of: str) -> bool:
        return of == "secret"

    server: Server[Any] = Server("low", on_call_tool=call, get_tool_input_schema=lambda _: SCHEMA)
    OptInTools(server, ["opt-in"])
    RestrictedTools(server)
    RestrictedTools(server)
    monkeypatch.setattr(RestrictedTools, "hides", hides)
    kernel = kernel_of(server)
    restricted = [each for each in server.middleware if isinstance(each, RestrictedTools)]
    assert [each.has_tool for each in restricted] == [kernel.has_tool] * 2
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": name}
    scope = {**SCOPE, "headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
    params = {"name": name, "arguments": {"a": "1"}, "_meta": META}
    request = jsonrpc.Request(id=7, method="tools/call", params=params)
    answer = await kernel.answer_modern(request, scope, NoChannel())
    assert ("Mcp-Param-A" in str(answer)) is told


async def test_a_message_that_asks_the_database_nothing_costs_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(connections, "close_all", lambda: closed.append(threading.current_thread().name))
    async with module.DatabaseScope():
        pass
    assert closed == []
    async with module.DatabaseScope():
        thread = await sync_to_async(lambda: threading.current_thread().name)()
    assert closed == [thread], "connections belong to the thread that opened them"


async def agreed(_: Any, __: Any) -> Any:
    return EmptyResult()


async def listed(_: Any, __: Any) -> Any:
    return ListResourcesResult(resources=[])


@pytest.mark.parametrize(
    ("handlers", "keeps", "subscribes"),
    [
        ({}, False, False),
        ({"on_list_resources": listed}, True, True),
        ({"on_list_resources": listed, "on_subscribe_resource": agreed}, False, True),
        ({"on_subscribe_resource": agreed}, False, True),
    ],
)
def test_a_session_remembers_subscriptions_of_servers_with_resources_and_no_handler(
    handlers: dict[str, Any], keeps: bool, subscribes: bool
) -> None:
    kernel = kernel_of(Server("low", **handlers))
    assert kernel.keeps_subscriptions is keeps
    entry = kernel.lowlevel.get_request_handler("resources/subscribe")
    assert (entry is not None) is subscribes
    if "on_subscribe_resource" in handlers:
        assert entry is not None
        assert entry.handler is agreed
    assert (kernel.lowlevel.get_request_handler("resources/unsubscribe") is not None) is keeps


async def test_a_log_level_is_agreed_to_unless_the_server_has_a_handler_of_its_own() -> None:
    plain: Server[Any] = Server("low")
    own: Server[Any] = Server("low")
    own.add_request_handler("logging/setLevel", SetLevelRequestParams, agreed)
    added, kept = (kernel_of(each).lowlevel.get_request_handler("logging/setLevel") for each in (plain, own))
    assert added is not None
    assert kept is not None
    nothing: Any = None
    assert isinstance(await added.handler(nothing, nothing), EmptyResult)
    assert kept.handler is agreed


def test_requests_are_traced_only_where_spans_go_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(*_: Any) -> None:
        """Middleware of the server's own."""

    mine: Any = handle
    server: Server[Any] = Server("low")
    kernel = kernel_of(server)
    traced, untraced = list(server.middleware), kernel.lowlevel
    assert [type(each).__name__ for each in traced] == ["OpenTelemetryMiddleware"]
    assert untraced.middleware == []
    assert kernel.lowlevel is untraced, "it is made once"
    server.middleware.append(mine)
    assert kernel.lowlevel.middleware == [mine]
    monkeypatch.setattr(module, "get_tracer_provider", object)
    assert kernel.lowlevel.middleware == [*traced, mine]
    monkeypatch.setattr(module, "_TELEMETRY", None)
    assert kernel.lowlevel.middleware == [*traced, mine]


async def test_a_handler_finds_what_the_lifespan_yielded() -> None:
    found: list[Any] = []

    async def tell(context: Any, _: Any) -> Any:
        found.append(context.lifespan_context)
        return CallToolResult(content=[])

    server: Server[Any] = Server("low", on_call_tool=tell)
    server.add_request_handler("custom/x", RequestParams, tell)
    kernel = kernel_of(server)
    kernel.lifespan_state = state = object()
    for modern in (False, True):
        await run(kernel, "call", modern=modern)
    assert found == [state, state]
