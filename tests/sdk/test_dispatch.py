"""What the SDK's kernel sees of us: what is sent to the client, what is refused, and what an answer means."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.connection import Connection
from mcp.shared.exceptions import MCPError, NoBackChannelError

from mcp_sessions.cluster.client_requests import ClientRequest, SessionEnded, TimedOut
from mcp_sessions.records import KEPT_HANDSHAKE_CHARS, Handshake
from mcp_sessions.sdk.channel import NoChannel
from mcp_sessions.sdk.dispatch import DispatchContext, is_below_log_level, restored
from mcp_sessions.transport import jsonrpc
from tests.store.harness import CLAUDE, client_named

OK = jsonrpc.Reply(id="q", result={"ok": 1}, error=None)


class Channel:
    """Remembers what it carries; `replies` are what requests get, or what they raise."""

    can_send_request = True

    def __init__(self, *replies: Any, log_level: str | None = None) -> None:
        self.replies = list(replies)
        self.log_level = log_level
        self.notified: list[tuple[str, Any]] = []
        self.requests: list[ClientRequest] = []

    async def notify(self, method: str, params: Any) -> None:
        self.notified.append((method, params))

    async def send_request(self, request: ClientRequest) -> jsonrpc.Reply:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply  # type: ignore[no-any-return]


def connection(handshake: Any = CLAUDE, *, initialized: bool = True) -> Connection:
    session: Any = SimpleNamespace(handshake=handshake, fingerprint="f" * 64, initialized=initialized)
    return restored(session, NoChannel())


def context(channel: Any, of: Connection, **params: Any) -> DispatchContext:
    request = jsonrpc.Request(id=7, method="tools/call", params=params)
    return DispatchContext(request, {"type": "http", "headers": [(b"x-a", b"b")]}, channel, of)


async def test_a_request_has_the_options_of_the_handler_and_gives_the_clients_result() -> None:
    channel, of = Channel(OK, jsonrpc.Reply(id="q", result=None, error=None)), connection()
    dispatch = context(channel, of)
    assert await dispatch.send_raw_request("roots/list", {"a": 1}, {"timeout": 3}) == {"ok": 1}
    assert await dispatch.send_raw_request("ping", None) == {}
    first, second = channel.requests
    assert (first.method, first.params, first.timeout, first.on_progress) == ("roots/list", {"a": 1}, 3, None)
    assert (second.method, second.params, second.timeout) == ("ping", None, None)


@pytest.mark.parametrize(
    ("reply", "code", "message", "data"),
    [
        (TimedOut(), -32001, "Request 'ping' timed out", None),
        (SessionEnded(), -32000, "The session ended", None),
        (jsonrpc.Reply(id="q", result=None, error={"code": 5, "message": "no", "data": [1]}), 5, "no", [1]),
        (jsonrpc.Reply(id="q", result=None, error={"code": "x"}), -32603, "None", None),
    ],
)
async def test_what_is_no_result_is_an_error_of_the_handler(
    reply: Any, code: int, message: str, data: Any
) -> None:
    of = connection()
    with pytest.raises(MCPError) as raised:
        await context(Channel(reply), of).send_raw_request("ping", None)
    error = raised.value.error
    assert (error.code, error.message, error.data) == (code, message, data)


async def test_nothing_is_asked_without_a_stream_or_a_connection() -> None:
    channel, of = Channel(), connection()
    channel.can_send_request = False
    with pytest.raises(NoBackChannelError):
        await context(channel, of).send_raw_request("ping", None)
    dispatch = context(Channel(OK), of)
    dispatch.connection = lambda: None
    with pytest.raises(NoBackChannelError):
        await dispatch.send_raw_request("ping", None)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("elicitation/create", "Elicitation not supported"),
        ("sampling/createMessage", "Sampling not supported"),
        ("roots/list", "List roots not supported"),
    ],
)
async def test_a_client_is_only_asked_for_what_it_can_do_and_when_it_is_ready(
    method: str, message: str
) -> None:
    channel, without = Channel(OK), connection(client_named("plain"))
    with pytest.raises(MCPError) as raised:
        await context(channel, without).send_raw_request(method, None)
    assert (raised.value.error.code, raised.value.error.message) == (-32600, message)
    early = connection(initialized=False)
    with pytest.raises(MCPError) as raised:
        await context(channel, early).send_raw_request(method, None)
    assert raised.value.error.message == f"{method} cannot be sent before the client is initialized"
    assert channel.requests == []
    assert await context(channel, early).send_raw_request("ping", None) == {"ok": 1}


async def test_a_client_that_has_no_tools_for_sampling_is_not_given_any() -> None:
    channel, of = Channel(OK), connection()
    with pytest.raises(MCPError):
        await context(channel, of).send_raw_request("sampling/createMessage", {"tools": [{"name": "x"}]})
    assert channel.requests == []
    nothing: list[Any] = [{}, None]
    for params in nothing:
        channel.replies = [OK]
        assert await context(channel, of).send_raw_request("sampling/createMessage", params) == {"ok": 1}
    channel.replies = [OK]
    other = {"tools": [{"name": "x"}]}
    assert await context(channel, of).send_raw_request("roots/list", other) == {"ok": 1}


async def test_progress_of_the_client_goes_to_the_handlers_callback_which_may_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Any] = []

    async def hear(*said: Any) -> None:
        heard.append(said)
        if len(heard) == 2:
            raise RuntimeError("on purpose")

    channel, of = Channel(OK), connection()
    options: Any = {"on_progress": hear}
    await context(channel, of).send_raw_request("ping", None, options)
    on_progress = channel.requests[0].on_progress
    assert on_progress is not None
    await on_progress({"progress": 1, "total": 2, "message": "x"})
    await on_progress({})
    assert heard == [(1, 2, "x"), (0, None, None)]
    assert "A progress callback raised." in caplog.text


async def test_progress_of_a_handler_is_sent_to_a_client_that_asked_for_it() -> None:
    channel, of = Channel(), connection()
    await context(channel, of).progress(1, 2, "x")
    assert channel.notified == []
    dispatch = context(channel, of, _meta={"progressToken": "t"})
    await dispatch.progress(0.5, 1, "x")
    await dispatch.progress(1)
    assert channel.notified == [
        ("notifications/progress", {"progressToken": "t", "progress": 0.5, "total": 1, "message": "x"}),
        ("notifications/progress", {"progressToken": "t", "progress": 1}),
    ]


@pytest.mark.parametrize(
    ("level", "method", "params", "below"),
    [
        ("warning", "notifications/message", {"level": "notice"}, True),
        ("warning", "notifications/message", {"level": "warning"}, False),
        ("warning", "notifications/message", {"level": "error"}, False),
        ("emergency", "notifications/message", {"level": "alert"}, True),
        ("warning", "notifications/message", {"level": "unheard of"}, False),
        ("warning", "notifications/message", None, False),
        ("warning", "notifications/progress", {"level": "debug"}, False),
        (None, "notifications/message", {"level": "debug"}, False),
    ],
)
async def test_log_entries_less_severe_than_the_client_wants_are_not_sent(
    level: str | None, method: str, params: Any, below: bool
) -> None:
    assert is_below_log_level(level, method, params) is below
    channel, of = Channel(log_level=level), connection()
    await context(channel, of).notify(method, params)
    assert channel.notified == ([] if below else [(method, params)])


async def test_a_message_is_seen_with_its_http_request_its_id_and_its_channel() -> None:
    channel, of = Channel(), connection()
    dispatch = context(channel, of)
    assert (dispatch.request_id, dispatch.can_send_request) == (7, True)
    assert (dispatch.transport.kind, dispatch.transport.can_send_request) == ("streamable-http", True)
    assert dispatch.transport.headers is not None
    assert dispatch.transport.headers["x-a"] == "b"
    assert dispatch.cancel_requested is dispatch.cancel_requested
    assert not dispatch.cancel_requested.is_set()
    assert dispatch.message_metadata.close_sse_stream is None
    assert dispatch.message_metadata.close_standalone_sse_stream is None
    closing: Any = {"disconnect": lambda: "own", "disconnect_standalone": lambda: "standalone"}
    request = jsonrpc.Request(id=7, method="ping", params=None)
    seen: Any = DispatchContext(request, {"type": "http"}, channel, of, **closing).message_metadata
    assert (seen.close_sse_stream(), seen.close_standalone_sse_stream()) == ("own", "standalone")
    assert seen.request_context.scope == {"type": "http"}
    told = DispatchContext(jsonrpc.Notification(method="x", params=None), {"type": "http"}, channel, of)
    assert told.request_id is None


def test_what_handlers_read_of_their_client_is_their_own_copy() -> None:
    one, other = connection(), connection()
    assert one.client_params is not None
    assert other.client_params is not None
    assert one.client_params == other.client_params
    one.client_params.client_info.name = "changed"
    assert other.client_params.client_info.name == "claude-ai"
    assert connection().client_params.client_info.name == "claude-ai"  # type: ignore[union-attr]
    assert one.client_capabilities is not None
    with pytest.raises(AttributeError, match="'RestoredConnection' object has no attribute 'nothing'"):
        one.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert (one.initialized.is_set(), one.protocol_version) == (True, CLAUDE.protocol_version)
    assert not connection(initialized=False).initialized.is_set()


async def test_a_request_without_a_stream_sends_nothing() -> None:
    channel = NoChannel()
    assert (channel.can_send_request, channel.log_level) == (False, None)
    await channel.notify("x", None)
    with pytest.raises(RuntimeError, match="ping cannot be sent without a stream"):
        await channel.send_request(ClientRequest(method="ping", params=None))
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("name", "shared"), [("same", True), ("x" * KEPT_HANDSHAKE_CHARS, False)], ids=["short", "long"]
)
def test_clients_that_say_the_same_share_what_is_made_of_it_unless_it_is_long(
    name: str, shared: bool
) -> None:
    one, other = [connection(client_named(name)).shared_params for _ in range(2)]  # type: ignore[attr-defined]
    assert one == other
    assert (one is other) is shared


def test_only_the_names_of_the_protocol_count_in_what_a_client_says_of_itself() -> None:
    named = [
        connection(
            Handshake(
                protocol_version="2025-11-25",
                client_info={"name": "c", "version": "1"},
                capabilities={"roots": {name: True}},
            )
        )
        for name in ("listChanged", "list_changed")
    ]
    assert [each.client_params.capabilities.roots.list_changed for each in named] == [True, None]  # type: ignore[union-attr]
