"""A request of the modern era: what the SDK answers, what is answered here, and who may listen."""

import json
from math import inf
from typing import Any
from unittest.mock import AsyncMock, Mock, call

import pytest

from mcp_sessions import counting
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.current import current_request
from mcp_sessions.errors import TooManySessions
from mcp_sessions.http import modern
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Message
from tests.support.mcp_client import ACCEPT, META

LISTEN = "subscriptions/listen"


def message(method: str = "tools/call", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"name": "add", "_meta": META}, **more}


class Modern:
    """A request, the runtime that it comes to, and what was sent."""

    def __init__(self, patch: pytest.MonkeyPatch, body: Any = None, **conf: Any) -> None:
        whole = message() if body is None else body
        self.parts: list[Message] = [
            {
                "type": "http.request",
                "body": whole if isinstance(whole, bytes) else json.dumps(whole).encode(),
            }
        ]
        self.headers = {b"content-type": b"application/json", b"accept": ACCEPT.encode()}
        self.scope: dict[str, Any] = {
            "method": "POST",
            "client": ("127.0.0.1", 5),
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        self.conf = Endpoint(**{"alias": "default", "server": "no.server", **conf})
        self.sent: list[Message] = []
        self.made: list[Any] = []
        #: Who is current when a handler runs.
        self.current: Any = None
        #: What is done by the time that the handler has run.
        self.meanwhile = Mock()
        runtime = self.runtime = Mock(ends_listening=False, modern=set())
        runtime.context.conf.return_value = self.conf
        runtime.blocks.any = False
        runtime.blocks.ending.side_effect = lambda *about: Within(self.meanwhile.blocking, *about)
        runtime.server.serve_modern = AsyncMock(side_effect=self._by_the_sdk)
        runtime.server.kernel.answer_modern = AsyncMock(side_effect=self._by_the_kernel)
        runtime.limits.refusal = AsyncMock(return_value=None)
        runtime.listeners.serve = AsyncMock()
        patch.setattr(modern, "ModernExchange", self._make)
        patch.setattr(modern, "ended_with", lambda *about: Within(self.meanwhile.rechecking, *about))
        self.response: Any = {"jsonrpc": "2.0", "id": 7, "result": {}}
        self.read_again: list[Message] = []

    def _make(self, **options: Any) -> Any:
        self.made.append(made := Mock(run=AsyncMock(side_effect=self._run)))
        made.configure_mock(**options)
        return made

    async def _run(self) -> None:
        self.current = current_request.get(None)
        assert self.runtime.modern == {self.made[-1]}, "it is in flight"
        self.meanwhile.ran(self.runtime.admission.close_stream.called)

    async def _by_the_kernel(self, *about: Any) -> Any:
        self.current = current_request.get(None)
        self.meanwhile.answered()
        return self.response

    async def _by_the_sdk(self, scope: Any, receive: Any, send: Any) -> None:
        assert (scope, send) == (self.scope, self.send)
        self.current = current_request.get(None)
        for _ in range(len(self.parts) + 1):
            self.read_again.append(await receive())

    async def _receive(self) -> Message:
        self.read += 1
        return self.parts[self.read] if self.read < len(self.parts) else {"type": "more"}

    async def send(self, each: Message) -> None:
        self.sent.append(each)

    async def come(self) -> "Modern":
        self.read = -1
        self.scope["headers"] = list(self.headers.items())
        await modern.serve_modern(self.runtime, self.scope, self._receive, self.send)
        return self

    def was_refused_with(self, rejection: Any) -> bool:
        return [self.sent[0]["status"], self.sent[1]["body"]] == [rejection.status, rejection.body]


class Within:
    """What ends a stream, for the block of a `with`: it does so at once."""

    def __init__(self, said: Mock, who: Any, end: Any) -> None:
        self.said = said
        said(who)
        end()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.said.over()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Modern:
    return Modern(monkeypatch)


async def test_each_request_counts_as_a_stream_while_it_is_answered(asked: Modern) -> None:
    admission = asked.runtime.admission
    await asked.come()
    assert (admission.open_stream.call_count, admission.close_stream.call_count) == (1, 1)
    admission.open_stream.return_value = False
    assert (await asked.come()).was_refused_with(rejections.TOO_MANY_STREAMS)
    assert admission.close_stream.call_count == 1
    assert len(asked.made) == 1


async def test_nobody_begins_to_listen_where_listening_ends(asked: Modern) -> None:
    asked.runtime.ends_listening = True
    await asked.come()
    assert asked.sent == []
    asked.headers[b"mcp-method"] = LISTEN.encode()
    assert (await asked.come()).was_refused_with(rejections.STOPPED)
    assert asked.runtime.admission.open_stream.call_count == 1


@pytest.mark.parametrize(("response", "json_only"), [("auto", False), ("sse", False), ("json", True)])
async def test_a_request_of_good_form_is_answered_here(
    monkeypatch: pytest.MonkeyPatch, response: str, json_only: bool
) -> None:
    asked = await Modern(monkeypatch, response=response, trusted_proxies=("10.0.0.1",)).come()
    [exchange] = asked.made
    assert exchange.request == jsonrpc.Request(id=7, method="tools/call", params=message()["params"])
    assert (exchange.scope, exchange.send) == (asked.scope, asked.send)
    assert (await exchange.receive())["type"] == "more", "the body is read"
    runtime = asked.runtime
    assert (exchange.kernel, exchange.note) == (runtime.server.kernel, runtime.observing.note)
    assert (exchange.principal, exchange.meta, exchange.trusted_proxies) == ("anonymous", META, ("10.0.0.1",))
    assert (exchange.json_only, exchange.max_seconds) == (json_only, inf)
    runtime.callers.count.assert_called_once_with("anonymous", META, "tools/call:add")
    assert asked.current.meta == META
    assert asked.meanwhile.mock_calls == [call.ran(False)]  # noqa: FBT003 - whether it counts no longer
    assert runtime.modern == set()
    assert not runtime.limits.refusal.called


async def test_an_exchange_that_fails_is_in_flight_no_longer(asked: Modern) -> None:
    asked.meanwhile.ran.side_effect = ConnectionResetError
    with pytest.raises(ConnectionResetError):
        await asked.come()
    assert asked.runtime.modern == set()
    assert asked.runtime.admission.close_stream.called


@pytest.mark.parametrize(
    ("headers", "conf", "method"),
    [
        ({}, {}, "GET"),
        ({b"content-type": b"text/plain"}, {}, "POST"),
        ({b"content-type": None}, {}, "POST"),
        ({b"accept": None}, {}, "POST"),
        ({b"accept": b"application/json"}, {}, "POST"),
        ({b"accept": b"application/json"}, {"response": "sse"}, "POST"),
        ({b"content-length": b"1001"}, {"max_body": 1000}, "POST"),
    ],
)
async def test_what_its_headers_refuse_is_refused_by_the_sdk_which_reads_it_itself(
    monkeypatch: pytest.MonkeyPatch, headers: dict[bytes, Any], conf: dict[str, Any], method: str
) -> None:
    asked = Modern(monkeypatch, **conf)
    asked.headers = {n: v for n, v in {**asked.headers, **headers}.items() if v is not None}
    asked.scope["method"] = method
    await asked.come()
    assert asked.read_again == [*asked.parts, {"type": "more"}]
    assert (asked.made, asked.current) == ([], None)


@pytest.mark.parametrize(
    ("headers", "conf"),
    [
        ({b"content-length": b"1000"}, {"max_body": 1000}),
        ({b"content-length": b"many"}, {}),
        ({b"content-type": b"application/json-seq"}, {}),
        ({b"content-type": b"Application/JSON; charset=utf-8"}, {}),
        ({b"accept": b"application/json"}, {"response": "json"}),
    ],
)
async def test_what_the_sdk_would_not_refuse_by_its_headers_is_answered_here(
    monkeypatch: pytest.MonkeyPatch, headers: dict[bytes, bytes], conf: dict[str, Any]
) -> None:
    asked = Modern(monkeypatch, **conf)
    asked.headers.update(headers)
    await asked.come()
    assert len(asked.made) == 1


def in_parts(*parts: bytes, left: bool = False) -> list[Message]:
    found: list[Message] = [{"type": "http.request", "body": each, "more_body": True} for each in parts]
    if left:
        return [*found, {"type": "http.disconnect"}]
    found[-1]["more_body"] = False
    return found


WHOLE = json.dumps(message()).encode()


@pytest.mark.parametrize(
    ("parts", "conf", "here", "again"),
    [
        (in_parts(WHOLE[:9], b"", WHOLE[9:]), {"max_body": len(WHOLE)}, True, 0),
        (in_parts(WHOLE[:9], WHOLE[9:]), {"max_body": len(WHOLE) - 1}, False, 3),
        (in_parts(WHOLE[:20], WHOLE[20:], b" "), {"max_body": 19}, False, 4),
        (in_parts(WHOLE), {"max_body": len(WHOLE) - 1}, False, 2),
        (in_parts(WHOLE[:9], left=True), {}, False, 0),
        (in_parts(b"{}"), {}, False, 2),
        (in_parts(b"nonsense"), {}, False, 2),
        ([{"type": "http.request"}], {}, False, 2),
        (in_parts(b'{"jsonrpc":"2.0","id":7,"result":{}}'), {}, False, 2),
    ],
)
async def test_what_is_no_whole_message_is_read_again_by_the_sdk_unless_its_client_left(
    monkeypatch: pytest.MonkeyPatch,
    parts: list[Message],
    conf: dict[str, Any],
    here: bool,
    again: int,
) -> None:
    asked = Modern(monkeypatch, **conf)
    asked.parts = parts
    await asked.come()
    assert len(asked.made) == here
    assert asked.read_again == [*parts, {"type": "more"}][:again]
    assert asked.sent == []


async def test_no_more_of_a_body_is_read_than_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Modern(monkeypatch, max_body=5)
    asked.parts = in_parts(b"12345", b"6", b"7", b"8")
    asked.runtime.server.serve_modern = AsyncMock()
    await asked.come()
    assert asked.read == 1


async def test_a_notification_is_handled_by_the_sdk_as_part_of_its_request(asked: Modern) -> None:
    notification = {key: value for key, value in message("notifications/x").items() if key != "id"}
    asked.parts = in_parts(json.dumps(notification).encode())
    await asked.come()
    assert asked.made == []
    assert asked.read_again == [*asked.parts, {"type": "more"}]
    assert asked.current.meta == META


@pytest.mark.parametrize("blocked", [True, False])
async def test_a_blocked_client_is_refused_where_anybody_is_blocked(asked: Modern, blocked: bool) -> None:
    asked.runtime.blocks.refuse.return_value = True
    await asked.come()
    asked.runtime.blocks.any = True
    asked.runtime.blocks.refuse.return_value = blocked
    asked.scope["user"] = Mock(is_authenticated=True, pk=5)
    await asked.come()
    asked.runtime.blocks.refuse.assert_called_once_with(Asker("user:5", "modern", None))
    assert len(asked.made) == (1 if blocked else 2)
    if blocked:
        assert asked.was_refused_with(rejections.BLOCKED)
    assert not asked.runtime.limits.refusal.called


async def test_a_request_counts_in_the_limits_of_its_principal_and_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Modern(monkeypatch, rate_limits={"requests per address": "1/s"})
    await asked.come()
    who = Who("anonymous", None, "127.0.0.1")
    asked.runtime.limits.refusal.assert_awaited_once_with(("requests", "tool add"), who)
    assert asked.current.address == "127.0.0.1"
    asked.runtime.limits.refusal.return_value = rejections.TOO_MANY_REQUESTS
    assert (await asked.come()).was_refused_with(rejections.TOO_MANY_REQUESTS)
    assert not asked.runtime.blocks.refuse.called
    assert len(asked.made) == 1


class Listening(Modern):
    """A request to listen."""

    def __init__(self, patch: pytest.MonkeyPatch, **more: Any) -> None:
        conf = {key: more.pop(key) for key in list(more) if key in ("response", "alias")}
        super().__init__(patch, message(LISTEN, **more), **conf)


async def test_who_listens_is_served_for_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await Listening(monkeypatch, response="json").come()
    runtime = asked.runtime
    [served] = runtime.listeners.serve.await_args_list
    request, response, receive, send = served.args
    assert (request.method, response, send) == (LISTEN, asked.response, asked.send)
    assert (await receive())["type"] == "more"
    options = served.kwargs
    assert options["identity"].principal == "anonymous"
    assert options["asker"] == Asker("anonymous", "modern", "127.0.0.1")
    assert options["handshake"].client_info == META["io.modelcontextprotocol/clientInfo"]
    assert options["max_bytes"] == inf
    assert asked.current.meta == META, "while the server accepts it"
    assert current_request.get(None) is None
    assert (asked.made, asked.sent) == ([], [])
    assert not runtime.callers.count.called
    runtime.server.kernel.answer_modern.assert_awaited_once()
    assert runtime.server.kernel.answer_modern.await_args.args[:2] == (request, asked.scope)


async def test_a_listener_that_is_refused_gets_the_error_and_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Listening(monkeypatch)
    asked.response = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "no"}}
    await asked.come()
    assert asked.sent[0]["status"] == 400
    assert json.loads(asked.sent[1]["body"]) == asked.response
    assert not asked.runtime.listeners.serve.called


async def test_a_listener_is_refused_where_listening_has_ended_or_its_principal_has_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Listening(monkeypatch, alias="listens")
    asked.meanwhile.answered.side_effect = lambda: setattr(asked.runtime, "ends_listening", True)
    assert (await asked.come()).was_refused_with(rejections.STOPPED)
    assert not asked.runtime.listeners.serve.called
    full = Listening(monkeypatch, alias="listens")
    full.runtime.listeners.serve.side_effect = TooManySessions(per_principal=True)
    assert (await full.come()).was_refused_with(rejections.TOO_MANY_STREAMS)
    assert counting.since_the_start("listens").numbers == {"limited:MAX_LISTENERS_PER_PRINCIPAL": 1}


@pytest.mark.parametrize("response", ["json", "auto"])
@pytest.mark.parametrize("why", ["own handler", "long id"])
async def test_a_handler_of_the_servers_own_streams_until_its_client_may_listen_no_longer(
    monkeypatch: pytest.MonkeyPatch, why: str, response: str
) -> None:
    asked = Listening(monkeypatch, response=response, **({"id": "7" * 1000} if why == "long id" else {}))
    asked.runtime.listeners.accepts = why != "own handler"
    monkeypatch.setattr(Identity, "seconds_left", lambda _: 60.0)
    await asked.come()
    [exchange] = asked.made
    assert (exchange.json_only, exchange.max_seconds) == (False, 60.0)
    assert asked.meanwhile.mock_calls == [
        call.rechecking(asked.current.identity),
        call.blocking(Asker("anonymous", "modern", "127.0.0.1")),
        call.ran(False),  # noqa: FBT003 - whether it counts no longer
        call.blocking.over(),
        call.rechecking.over(),
    ]
    assert asked.runtime.spawn.call_args_list == [call(exchange.abort.return_value)] * 2
    assert asked.runtime.modern == set()


async def test_a_handler_of_the_servers_own_does_not_begin_where_listening_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Listening(monkeypatch)
    asked.runtime.listeners.accepts = False
    asked.runtime.ends_listening = True  # the header did not say that it listens
    assert (await asked.come()).was_refused_with(rejections.STOPPED)
    asked.made[0].run.assert_not_awaited()


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_listener_that_takes_no_stream_is_refused_by_the_sdk(
    monkeypatch: pytest.MonkeyPatch, accepts: bool
) -> None:
    asked = Listening(monkeypatch, response="json")
    asked.runtime.listeners.accepts = accepts
    asked.headers[b"accept"] = b"application/json"
    await asked.come()
    assert asked.made == []
    assert asked.read_again == [*asked.parts, {"type": "more"}]
    assert not asked.runtime.listeners.serve.called


async def test_a_client_without_a_name_has_none(asked: Modern) -> None:
    asked.parts = in_parts(json.dumps(message(params={})).encode())
    asked.runtime.blocks.any = True
    await asked.come()
    asked.runtime.blocks.refuse.assert_called_once_with(Asker("anonymous", "", None))
