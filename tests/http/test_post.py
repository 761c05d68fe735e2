"""A POST of the handshake era: what is read of it, whom it comes to, and in which form it is answered."""

import asyncio
import json
from math import inf
from typing import Any
from unittest.mock import AsyncMock, Mock, call

import pytest

from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import endpoint as http_endpoint
from mcp_sessions.http import lookup
from mcp_sessions.http.lookup import Counts
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.event_stream import RECONNECT
from tests.http.asked import SESSION, Asked, session

DONE = {"jsonrpc": "2.0", "id": 7, "result": {}}
REPLY = {"jsonrpc": "2.0", "id": "q", "result": {}}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def request(method: str = "ping", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


@pytest.mark.parametrize(
    ("headers", "conf", "rejection"),
    [
        ({b"content-type": b"text/plain"}, {}, rejections.NOT_JSON),
        ({b"accept": b"application/json"}, {}, rejections.NOT_ACCEPTABLE),
        ({b"accept": b"text/event-stream"}, {"response": "json"}, rejections.NOT_ACCEPTABLE),
    ],
)
async def test_what_its_headers_refuse_is_not_read(
    monkeypatch: pytest.MonkeyPatch, headers: dict[bytes, bytes], conf: dict[str, Any], rejection: Any
) -> None:
    asked = Asked(monkeypatch, body=request(), headers=headers, **conf)
    await asked.request.post()
    assert asked.was_refused_with(rejection)
    assert (asked.read, asked.touched) == (0, [])


async def test_without_headers_nothing_is_accepted_and_where_json_is_all_no_streams_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for missing, rejection in (
        (b"content-type", rejections.NOT_JSON),
        (b"accept", rejections.NOT_ACCEPTABLE),
    ):
        asked = Asked(monkeypatch)
        del asked.request.headers[missing]
        await asked.request.post()
        assert asked.was_refused_with(rejection)
    json_only = {b"accept": b"application/json"}
    asked = Asked(monkeypatch, body=REPLY, headers=json_only, response="json")
    await asked.request.post()
    assert asked.status == 202


@pytest.mark.parametrize(
    ("parts", "declared", "read", "body"),
    [
        ([b"12", b"345"], b"0", 2, b"12345"),
        ([b"12", b"3456", b"7"], b"0", 2, None),
        ([b"123456"], b"0", 1, None),
        ([b"12345"], b"5", 1, b"12345"),
        ([b"1"], b"6", 0, None),
        ([b"1"], b"-6", 1, b"1"),
        ([b"1"], b"many", 1, b"1"),
        ([b"", b""], b"0", 2, b""),
    ],
)
async def test_a_body_is_read_up_to_its_limit(
    monkeypatch: pytest.MonkeyPatch, parts: list[bytes], declared: bytes, read: int, body: bytes | None
) -> None:
    asked = Asked(monkeypatch, parts=parts)
    receive = asked.request.receive
    assert await http_endpoint._body({b"content-length": declared}, receive, 5) == body
    assert asked.read == read
    bare = AsyncMock(return_value={"type": "http.request"})
    assert await http_endpoint._body({}, bare, 5) == b""


async def test_a_body_beyond_max_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, body=request(), max_body=10)
    await asked.request.post()
    assert asked.was_refused_with(rejections.TOO_LARGE)
    assert asked.touched == []


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1])
async def test_a_large_body_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    asked = Asked(monkeypatch, body=b"?" * size)
    looked: list[Any] = []

    async def refusal(*about: Any) -> Any:
        looked.append((*about, asked.runtime.admission.waiting))
        if len(looked) == 2:
            raise StoreUnavailable("away")
        return rejections.SESSION_NOT_FOUND if len(looked) == 1 else None

    monkeypatch.setattr(lookup, "refusal", refusal)
    is_large = size > http_endpoint.LARGE_BODY_BYTES
    await asked.request.post()
    assert asked.was_refused_with(rejections.SESSION_NOT_FOUND if is_large else rejections.UNPARSABLE)
    if not is_large:
        assert looked == []
        return
    assert looked == [(asked.runtime, b"id", asked.request.identity, asked.scope, 1)]
    asked.runtime.admission.may_wait.assert_called_once_with(runs=False)
    asked.read = 0
    with pytest.raises(StoreUnavailable):
        await asked.request.post()
    assert asked.runtime.admission.waiting == 0
    asked.read, asked.sent = 0, []
    await asked.request.post()
    assert asked.was_refused_with(rejections.UNPARSABLE)
    assert asked.runtime.admission.waiting == 0
    asked.read, asked.sent = 0, []
    asked.runtime.admission.may_wait.return_value = False
    await asked.request.post()
    assert asked.was_refused_with(rejections.TOO_MANY_REQUESTS)
    assert len(looked) == 3


@pytest.mark.parametrize(
    ("message", "runs", "touched", "counted"),
    [
        (request("tools/call", name="add"), True, ("tools/call:add", False), ("requests", "tool add")),
        (READY, False, ("notifications/initialized", True), ("requests",)),
        ({**READY, "method": "notifications/a"}, False, ("notifications/a", False), ("requests",)),
        ({**READY, "method": "notifications/x"}, False, ("notifications/x", False), ("requests",)),
        (request("notifications/initialized"), True, ("notifications/initialized", False), ("requests",)),
        (REPLY, False, ("response", False), ("requests",)),
    ],
)
async def test_its_session_is_looked_up_while_it_counts_as_one_that_waits(
    monkeypatch: pytest.MonkeyPatch,
    message: Any,
    runs: bool,
    touched: tuple[str, bool],
    counted: tuple[str, ...],
) -> None:
    for rates, counts in (({}, None), ({"requests per principal": "1/s"}, Counts(counted, "127.0.0.1"))):
        asked = Asked(monkeypatch, body=message, found=rejections.SESSION_NOT_FOUND, rate_limits=rates)
        await asked.request.post()
        assert asked.was_refused_with(rejections.SESSION_NOT_FOUND)
        asked.runtime.admission.may_wait.assert_called_once_with(runs=runs)
        expected = {"header": b"id", "call": touched[0], "initialized": touched[1], "counts": counts}
        assert asked.touched == [expected]
        assert (asked.waiting, asked.runtime.admission.waiting) == ([1], 0)


async def test_it_waits_no_longer_when_the_look_up_fails_and_is_refused_where_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch, body=request(), found=StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await asked.request.post()
    assert asked.runtime.admission.waiting == 0
    asked = Asked(monkeypatch, body=request())
    asked.runtime.admission.may_wait.return_value = False
    await asked.request.post()
    assert asked.was_refused_with(rejections.TOO_MANY_REQUESTS)
    assert (asked.touched, asked.runtime.admission.waiting) == ([], 0)


async def test_only_a_request_called_initialize_opens_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    accepted: list[Any] = []

    async def initialize(*about: Any) -> None:
        opened.append((*about, asked.runtime.admission.waiting))

    async def accept(*about: Any) -> None:
        accepted.append(about)

    monkeypatch.setattr(http_endpoint, "initialize", initialize)
    monkeypatch.setattr(http_endpoint, "accept", accept)
    for message in (request("initialize"), {"jsonrpc": "2.0", "method": "initialize"}):
        asked = Asked(monkeypatch, body=message)
        await asked.request.post()
    assert [each[1:3] + each[3:] for each in accepted] == [
        (jsonrpc.Notification(method="initialize", params=None), asked.found, asked.scope, asked.request.send)
    ]
    [(_, message, identity, scope, _, waiting)] = opened
    assert message == jsonrpc.Request(id=7, method="initialize", params={})
    assert (identity.principal, scope, waiting) == ("user:1", asked.scope, 1)


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_reply_is_accepted_if_somebody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    asked = Asked(monkeypatch, body=REPLY)
    asked.runtime.client_requests.answer.return_value = awaited
    await asked.request.post()
    reply = jsonrpc.Reply(id="q", result={}, error=None)
    asked.runtime.client_requests.answer.assert_awaited_once_with(SESSION, reply)
    if awaited:
        assert asked.status == 202
    else:
        assert asked.was_refused_with(rejections.NOT_AWAITED)


class Answering(Asked):
    """A request that may run. Its exchange settles first with what `settles` says: "json", "stream" or nothing yet."""

    def __init__(self, patch: pytest.MonkeyPatch, settles: str, *, streams: bool = True, **more: Any) -> None:
        super().__init__(patch, body=request("tools/call", name="add"), **more)
        self.runtime.admission.may_run.return_value = True
        self.runtime.admission.open_stream.return_value = streams
        self.exchange = exchange = Mock(response=DONE if settles == "json" else None, stream=None)
        self.settled: list[float | None] = []
        self.delivered: list[Any] = []
        self.runtime.new_exchange.return_value = exchange

        async def settled(seconds: float | None) -> None:
            self.settled.append(seconds)
            if seconds is None:
                exchange.response = DONE

        def opened() -> Any:
            exchange.stream = exchange.stream or Mock(event_stream="the stream")
            return exchange.stream

        async def deliver(_: Any, stream: Any, client: str) -> None:
            self.delivered.append((stream, client, self.runtime.admission.close_stream.called))

        exchange.settled, exchange.open = settled, Mock(side_effect=opened)
        patch.setattr(http_endpoint._HandshakeRequest, "_send_stream", deliver)


@pytest.mark.parametrize(
    ("mode", "streams", "settles", "is_json", "waits", "keeps"),
    [
        ("auto", True, "json", True, [0.25], False),
        ("auto", True, "nothing", False, [0.25], True),
        ("auto", False, "nothing", True, [0.25, None], True),
        ("json", True, "json", True, [0.25], False),
        ("json", True, "nothing", True, [0.25, None], True),
        ("sse", True, "json", False, [], False),
        ("sse", True, "nothing", False, [], True),
        ("sse", False, "json", True, [0.25], False),
        ("sse", False, "nothing", True, [0.25, None], True),
    ],
)
async def test_a_request_is_answered_as_json_or_as_a_stream(
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    streams: bool,
    settles: str,
    is_json: bool,
    waits: list[float | None],
    keeps: bool,
) -> None:
    asked = Answering(monkeypatch, settles, streams=streams, response=mode)
    await asked.request.post()
    assert asked.settled == waits
    assert asked.delivered == ([] if is_json else [("the stream", "inspector", False)])
    if is_json:
        assert json.loads(asked.answer) == DONE
        headers = dict(asked.sent[0]["headers"])
        assert (asked.status, headers[b"content-type"]) == (200, b"application/json")
        assert int(headers[b"content-length"]) == len(asked.answer)
    counted = mode != "json" and streams
    assert asked.runtime.admission.open_stream.called is (mode != "json")
    assert asked.runtime.admission.close_stream.called is counted
    assert asked.runtime.new_exchange.call_args.kwargs["may_stream"] is counted
    watched = asked.runtime.deadlines.watch.call_args_list
    assert len(watched) == keeps
    if keeps:
        assert asked.exchange.keeps_session is True
        assert watched[0].args == (asked.found,)
        assert watched[0].kwargs["touched"] <= asyncio.get_running_loop().time()


@pytest.mark.parametrize("is_stored", [True, False])
async def test_its_handler_runs_with_the_store_or_without_it(
    monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    asked = Answering(monkeypatch, "json", found=session(is_stored=is_stored))
    await asked.request.post()
    runtime = asked.runtime
    runtime.admission.may_run.assert_called_once_with(SESSION)
    runtime.new_exchange.assert_called_once_with(
        context=runtime.context if is_stored else runtime.outage.context,
        request=jsonrpc.Request(id=7, method="tools/call", params={"name": "add"}),
        scope=asked.scope,
        session=asked.found,
        may_stream=True,
    )
    runtime.admission.run.assert_called_once_with(asked.exchange)


async def test_where_no_more_may_run_nothing_is_counted_and_nothing_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Answering(monkeypatch, "json")
    asked.runtime.admission.may_run.return_value = False
    await asked.request.post()
    assert asked.was_refused_with(rejections.TOO_MANY_REQUESTS)
    for part in ("open_stream", "run", "close_stream"):
        assert not getattr(asked.runtime.admission, part).called


@pytest.mark.parametrize(("left", "lasts"), [(inf, 60.0), (5.0, 5.0)])
async def test_a_stream_ends_with_its_credentials_and_when_its_client_is_blocked(
    monkeypatch: pytest.MonkeyPatch, left: float, lasts: float
) -> None:
    watched: list[Any] = []
    identity = Identity(principal="user:1")
    monkeypatch.setattr(Identity, "seconds_left", lambda _: left)
    asked = Asked(monkeypatch, identity=identity, stream_max_age=60.0)

    class Within:
        def __init__(self, who: Any, end: Any) -> None:
            watched.append(who)
            end()

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            watched.append("over")

    monkeypatch.setattr(http_endpoint, "ended_with", Within)
    monkeypatch.setattr(http_endpoint, "max_bytes", lambda scope: 7 if scope is asked.scope else 0)
    asked.runtime.blocks.ending = Within
    stream = Mock(run=AsyncMock())
    await asked.request._send_stream(stream, "inspector")
    assert watched == [identity, Asker("user:1", "inspector", "127.0.0.1"), "over", "over"]
    assert stream.close.call_args_list == [call(RECONNECT)] * 2
    stream.run.assert_awaited_once_with(
        asked.request.receive, asked.request.send, max_seconds=lasts, max_bytes=7
    )
