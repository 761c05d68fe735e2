"""The stream of an exchange and its own connection: when that is closed, and what is sent without the log."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from mcp_sessions.cluster.notifications import StreamChanged, StreamDisconnected
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.streams import writer
from mcp_sessions.streams.writer import KEPT_FULL_STREAMS, KEPT_STREAMS
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_ids import EventId
from tests.streams.exchanges import BOUND, Exchange
from tests.streams.peers import EVENT

ELSEWHERE = Claim(node="b", token=1)


async def turns() -> None:
    """Let everything happen that waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_handler_closes_the_connection_of_its_exchange_and_goes_on(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin(retry=2.5)
    exchange.stream.disconnect()
    await exchange.running
    assert exchange.sent.endswith(sse.retry(2.5))
    [(node, told)] = exchange.notified
    assert node == "a"
    assert told == StreamDisconnected(
        fingerprint=exchange.fingerprint, stream=exchange.stream.name, token=exchange.stream.claim.token
    )
    exchange.put(2, last=True)
    await exchange.stream.written()
    assert exchange.events() == [(1, 1)]
    assert len(exchange.notified) == 1, "that was for once"
    assert await exchange.log() == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("said", "closed"),
    [
        ([StoreUnavailable("away")], True),
        ([None], False),
        ([ELSEWHERE], False),
        (["own", ELSEWHERE], True),
        ([ELSEWHERE, "own"], True),
        ([ELSEWHERE, ELSEWHERE], False),
    ],
    ids=str,
)
async def test_the_own_connection_stays_open_if_the_client_has_resumed_with_others(
    begin: Callable[..., Any], said: list[Any], closed: bool
) -> None:
    exchange = await begin()
    exchange.delivered_by = [exchange.stream.claim if each == "own" else each for each in said]
    exchange.may_disconnect.clear()
    exchange.stream.disconnect()
    await turns()
    if len(said) > 1:
        exchange.stream.disconnect()
    exchange.may_disconnect.set()
    await exchange.stream.written()
    assert exchange.delivered_by == []
    assert exchange.stream.event_stream.open is not closed
    exchange.put(2, last=True)
    await exchange.stream.written()
    await exchange.running
    assert exchange.events() == ([(1, 1)] if closed else [(1, 1), (2, 2)])
    assert (sse.retry(1) in exchange.sent) is closed


@pytest.mark.parametrize("lost", [False, True], ids=["the store was away", "the store has lost it"])
async def test_a_connection_that_nobody_could_resume_stays_open(
    begin: Callable[..., Any], lost: bool
) -> None:
    exchange = await begin(away=not lost)
    if lost:
        parts = [part + exchange.stream.name for part in ("stream:", "stream-info:")]
        await exchange.harness.store.run(
            Call(streams.DROP, exchange.fingerprint, parts, (), lambda _, __: None)
        )
    exchange.stream.disconnect()
    await exchange.stream.written()
    exchange.away = False
    exchange.put(2, last=True)
    await exchange.running
    assert sse.retry(1) not in exchange.sent
    assert (exchange.events(), exchange.without_ids()) == (([(1, 1)], 1) if lost else ([], 2))


async def test_the_own_connection_is_closed_although_the_store_goes_away_meanwhile(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin()
    exchange.delivered_by = [exchange.stream.claim]
    exchange.may_disconnect.clear()
    exchange.stream.disconnect()
    await turns()
    exchange.put(2)
    exchange.away = True
    exchange.may_disconnect.set()
    await exchange.stream.written()
    assert not exchange.stream.event_stream.open
    await exchange.running
    assert exchange.events() == [(1, 1), (2, 2)]
    assert exchange.sent.endswith(sse.retry(1))
    exchange.away = False
    await exchange.logged()
    assert await exchange.log() == [(1, 1), (2, 2)]


def priming(exchange: Exchange) -> bytes:
    return sse.priming(f"{exchange.fingerprint[:8]}-{exchange.stream.name}-0", 1)


async def test_the_first_event_is_one_to_resume_from_if_the_client_understands_it(
    begin: Callable[..., Any],
) -> None:
    primed, plain = await begin(), await begin(primed=False)
    for exchange in (primed, plain):
        exchange.put(2, last=True)
        await exchange.running
        assert exchange.events() == await exchange.log() == [(1, 1), (2, 2)]
    assert primed.sent.startswith(sse.OPENING + priming(primed))
    assert plain.sent.startswith(sse.OPENING + b"event: message\nid: ")
    for event_id, _ in EVENT.findall(plain.sent):
        found = EventId.parse(event_id.decode(), fingerprint=plain.fingerprint)
        assert found is not None
        assert found.stream == plain.stream.name


@pytest.mark.parametrize("why", ["away", "gone", "not to be logged"])
async def test_a_stream_that_was_never_logged_is_delivered_without_ids(
    begin: Callable[..., Any], why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_unlogged", Repeats(writer.logger, "Streams"))
    if why == "gone":
        open_ = Exchange.__init__

        def over(self: Exchange, harness: Any, fingerprint: str, **options: Any) -> None:
            harness.sync.run(sessions.end(fingerprint, principal=None, reason="deleted"))
            open_(self, harness, fingerprint, **options)

        monkeypatch.setattr(Exchange, "__init__", over)
    exchange = await begin(away=why == "away", logged=why != "not to be logged")
    exchange.away = False
    exchange.put(2, last=True)
    await exchange.running
    await exchange.logged()
    assert (exchange.events(), exchange.without_ids()) == ([], 2)
    assert b"id: " not in exchange.sent, "there is nothing to resume from"
    assert exchange.stream.claim is None
    assert caplog.text.count("is delivered unlogged: away") == (why == "away")
    claim = streams.claim(exchange.fingerprint, exchange.stream.name, node="b", after=0, ttl_ms=1_000)
    assert await exchange.harness.store.run(claim) is None, "the store has no such stream"


MEGABYTE = 1024 * 1024


async def test_a_handler_waits_while_more_than_a_megabyte_is_to_be_logged(begin: Callable[..., Any]) -> None:
    exchange = await begin()
    exchange.may_log.clear()
    empty = len(json.dumps({"x": ""}, separators=(",", ":")))
    exchange.stream.put({"x": (MEGABYTE - empty) * "x"})
    full = asyncio.create_task(exchange.stream.room())
    await turns()
    assert full.done()
    exchange.stream.put({})
    more = asyncio.create_task(exchange.stream.room())
    everything = asyncio.create_task(exchange.stream.written())
    await turns()
    assert not more.done()
    assert not everything.done()
    exchange.may_log.set()
    async with asyncio.timeout(BOUND):
        await asyncio.gather(more, everything)
    assert exchange.stream._unlogged_bytes == 0


async def test_one_message_that_is_larger_than_a_stream_is_kept_for_a_store_that_is_away(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin(stream_max_bytes=10)
    exchange.away = True
    exchange.put(2)
    exchange.stream.put({"n": 3, "long": "x" * 100}, last=True)
    await exchange.running
    assert len(exchange.stream._unlogged) == 1
    exchange.away = False
    await exchange.logged()
    assert await exchange.log() == [(3, 3)]
    assert exchange.stream._unlogged_bytes == 0


async def test_whoever_delivers_is_told_of_each_message_that_is_logged(begin: Callable[..., Any]) -> None:
    exchange = await begin()
    taken = await exchange.harness.claim(exchange.fingerprint, stream=exchange.stream.name)
    for number in (2, 3):
        exchange.put(number)
        await exchange.stream.written()
    changed = StreamChanged(fingerprint=exchange.fingerprint, stream=exchange.stream.name)
    assert exchange.notified == [(taken.claim.node, changed)] * 2
    assert not exchange.stream.superseded
    await exchange.running
    assert exchange.events() == [(1, 1)]
    assert await exchange.log() == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
async def test_the_store_is_told_once_that_a_log_is_complete(
    begin: Callable[..., Any],
    late: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, finish = [], streams.finish

    def spied(*names: str, **bounds: Any) -> Any:
        told.append((names, bounds))
        return finish(*names, **bounds)

    monkeypatch.setattr(streams, "finish", spied)
    monkeypatch.setattr(writer, "_late", Repeats(writer.logger, "Streams"))
    exchange = await begin(stream_max_bytes=100)
    exchange.away = late
    exchange.put(2)
    await exchange.stream.written()
    assert (told, caplog.text.count("is logged later: away")) == ([], int(late))
    exchange.put(3, last=True)
    exchange.away = False
    await exchange.logged()
    await exchange.running
    assert exchange.events() == await exchange.log() == [(1, 1), (2, 2), (3, 3)]
    [(names, bounds)] = told
    assert names == (exchange.fingerprint, exchange.stream.name)
    ttl_ms = bounds.pop("ttl_ms")
    assert bounds == {"kept": KEPT_STREAMS, "kept_bytes": KEPT_FULL_STREAMS * 100}
    assert ttl_ms == exchange.settings.stream_limits.ttl_ms


async def test_a_log_that_cannot_be_called_complete_is_left_to_its_ttl(
    begin: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")

    def away(*_: Any, **__: Any) -> Any:
        yield from ()
        raise StoreUnavailable("away")

    monkeypatch.setattr(streams, "finish", away)
    exchange = await begin()
    exchange.put(2, last=True)
    await exchange.running
    await exchange.stream.written()
    assert "is left to its TTL: away" in caplog.text
    assert await exchange.log() == [(1, 1), (2, 2)]
