"""One connection that delivers a stream from its log: what it reads, when it waits, and how it ends."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf
from types import SimpleNamespace
from typing import Any, Final

import pytest

from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls.streams import Batch, Claim, Event, Taken
from mcp_sessions.streams.reader import BATCH_BYTES, StreamReader
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import EXCHANGE
from tests.streams.peers import EVENT

SESSION: Final = "f" * 64
OURS, NEWER = Claim(node="a", token=3), Claim(node="b", token=4)


def batch(*positions: int, holder: Claim = OURS, ended: bool = False) -> Batch:
    events = [Event(position=each, payload=b"%d" % each) for each in positions]
    return Batch(events=events, ended=ended, valid=holder == OURS, holder=replace(holder))


class Delivery:
    """A connection, and a log that says what the test wants: batches, errors, or what a function returns."""

    def __init__(self, *found: Any, stream: str = EXCHANGE) -> None:
        self.found = list(found)
        self.asked: list[tuple[Any, ...]] = []
        self.sent = b""
        self.leaves = asyncio.Event()
        context: Any = SimpleNamespace(
            store=SimpleNamespace(run=self._run),
            conf=lambda: Endpoint(alias="default", server="no.server", retry=2.5),
        )
        taken = Taken(claim=OURS, replaced=None, origin="a", after=3, request_id="7")
        self.reader = StreamReader(context, SESSION, stream, taken=taken, primed=True, scope={})
        self.reading = asyncio.create_task(self.reader.run())
        self.connection = asyncio.create_task(
            self.reader.event_stream.run(self._receive, self._send, max_seconds=1000)
        )

    async def _run(self, call: Any) -> Batch | None:
        self.asked.append(tuple(call.arguments))
        found = self.found.pop(0)
        if isinstance(found, Exception):
            raise found
        if callable(found):
            found = found()
        assert found is None or isinstance(found, Batch)
        return found

    async def _receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent += message.get("body", b"")

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)
        assert self.found == [], "it was read as often as the test expects"

    async def nudged(self, *found: Any) -> None:
        """There is news, and the log says what it is."""
        self.found += found
        self.reader.nudge()
        self.reader.nudge()
        await self.settle()

    async def over(self) -> bool:
        """Whether everything has ended."""
        await self.settle()
        return self.reading.done() and self.connection.done()

    def delivered(self) -> list[tuple[str, str]]:
        """The ids and the messages."""
        return [(event_id.decode(), data.decode()) for event_id, data in EVENT.findall(self.sent)]


def event(position: int, stream: str = EXCHANGE) -> tuple[str, str]:
    return (f"{SESSION[:8]}-{stream}-{position}", str(position))


async def test_it_reads_on_until_there_is_no_more_and_then_when_it_is_told() -> None:
    delivery = Delivery(batch(4, 5), batch(6), batch())
    await delivery.settle()
    assert delivery.sent.startswith(sse.OPENING + sse.priming(f"{SESSION[:8]}-{EXCHANGE}-3", 2.5))
    assert delivery.delivered() == [event(4), event(5), event(6)]
    assert delivery.asked == [("a", 3, after, BATCH_BYTES) for after in (3, 5, 6)]
    assert not delivery.reading.done()
    assert delivery.reader.is_current
    assert delivery.reader.kept == -inf, "nobody has renewed the log"
    await delivery.nudged(batch())
    await delivery.nudged(batch(7, ended=True))
    assert await delivery.over()
    assert delivery.delivered()[3:] == [event(7)]
    assert [after for *_, after, _ in delivery.asked[3:]] == [6, 6]


async def test_news_that_comes_while_it_reads_is_read_at_once() -> None:
    def meanwhile() -> Batch:
        delivery.reader.nudge()
        return batch()

    delivery = Delivery(meanwhile, meanwhile, batch())
    await delivery.settle()
    assert not delivery.reading.done()
    delivery.reader.event_stream.close()
    assert await delivery.over()


async def test_it_reads_again_when_it_is_told_after_the_store_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    delivery = Delivery(batch(4), StoreUnavailable("away"))
    await delivery.settle()
    assert f"A stream of session {SESSION[:12]} cannot be read: away" in caplog.text
    assert delivery.reader.event_stream.open
    await delivery.nudged(batch(5, ended=True))
    assert await delivery.over()
    assert delivery.delivered() == [event(4), event(5)]


@pytest.mark.parametrize("stream", [EXCHANGE, STANDALONE])
async def test_a_stream_that_is_gone_ends(stream: str) -> None:
    delivery = Delivery(batch(4), None, stream=stream)
    assert await delivery.over()
    assert delivery.delivered() == [event(4, stream)]


async def test_the_stream_of_a_call_ends_here_when_another_connection_delivers_it() -> None:
    delivery = Delivery(batch(4), batch(holder=NEWER))
    assert await delivery.over()
    assert not delivery.reader.is_current


async def test_a_standalone_stream_stays_open_and_delivers_when_it_comes_back() -> None:
    delivery = Delivery(batch(holder=NEWER), stream=STANDALONE)
    await delivery.settle()
    reader = delivery.reader
    assert (reader.event_stream.open, reader.is_current, reader.holder) == (True, False, NEWER)
    await delivery.nudged(batch(9), batch())
    assert (reader.event_stream.open, reader.is_current, reader.holder) == (True, True, OURS)
    assert delivery.delivered() == [event(9, STANDALONE)]
    delivery.reader.event_stream.end()
    delivery.reader.nudge()
    assert await delivery.over()


@pytest.mark.parametrize(
    "leave",
    [
        lambda delivery: delivery.leaves.set(),
        lambda delivery: delivery.reader.event_stream.close(),
        lambda delivery: delivery.reader.disconnect(),
    ],
    ids=["the client leaves", "the server closes it", "the handler closes it"],
)
async def test_it_ends_with_its_connection(leave: Callable[[Delivery], None]) -> None:
    delivery = Delivery(batch())
    await delivery.settle()
    leave(delivery)
    assert await delivery.over()
    assert len(delivery.asked) == 1
