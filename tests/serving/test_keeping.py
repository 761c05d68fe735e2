"""What a heartbeat keeps alive, how often, and what it finds out about what is open here."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.heartbeat import LONGEST_IDLE_MS, Heartbeat, _all_of, _batches
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport.event_ids import STANDALONE
from tests.serving.contexts import Process


class Keeping(Process):
    """A process with open streams, and its heartbeats."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(**conf)
        self.open_streams = OpenStreams(self.context)
        self.deadlines: Any = Mock(horizon_ms=0)
        self.missing: list[str] = []
        nothing: Any = Mock()
        self.heartbeat = Heartbeat(
            self.context,
            Admission(self.context.conf),
            self.open_streams,
            client_requests=nothing,
            orphans=nothing,
            deadlines=self.deadlines,
            listeners=nothing,
            outage=nothing,
            session_missing=self._session_missing,
        )
        self.open: list[tuple[StreamReader, asyncio.Task[None]]] = []

    async def _session_missing(self, fingerprint: str) -> None:
        self.missing.append(fingerprint)

    async def session(self, fingerprint: str) -> Session:
        found = await self.harness.store.run(sessions.get(fingerprint))
        assert found is not None
        return found

    async def listens(self) -> StreamReader:
        """A client opens a session and its standalone stream."""
        session = await self.session(await self.harness.open())
        reader = await self.open_streams.take_over(session, STANDALONE, after=None, scope={})
        assert reader is not None
        self.open.append((reader, self.open_streams.start(reader)))
        return reader

    async def close(self) -> None:
        for reader, task in self.open:
            self.open_streams.stop(reader, task)
        self.open.clear()
        await self.settle()

    async def last_activity(self, reader: StreamReader) -> int:
        """By the clock of the test."""
        return (await self.session(reader.fingerprint)).last_activity_ms


@pytest.mark.parametrize(("idle_ttl", "after"), [(3_600, LONGEST_IDLE_MS), (600, 60_000)])
async def test_a_session_is_renewed_when_a_part_of_its_ttl_is_over_and_once_more_when_nothing_is_open(
    idle_ttl: float, after: int
) -> None:
    process = Keeping(idle_ttl=idle_ttl)
    reader, clock = await process.listens(), process.harness.clock
    opened = clock.now
    clock.advance(after - 1)
    await process.heartbeat.keep()
    assert await process.last_activity(reader) == opened
    clock.advance(1)
    await process.heartbeat.keep()
    assert await process.last_activity(reader) == opened + after
    clock.advance(2)
    await process.close()
    await process.heartbeat.keep()
    assert await process.last_activity(reader) == clock.now, "its idle time begins now"
    clock.advance(2)
    await process.heartbeat.keep()
    assert await process.last_activity(reader) == clock.now - 2


async def test_the_log_of_an_open_stream_is_renewed_when_a_part_of_its_ttl_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process, loop, seconds = Keeping(stream_ttl=600), asyncio.get_running_loop(), [1_000.0]
    monkeypatch.setattr(loop, "time", lambda: seconds[0])
    reader = await process.listens()
    kept = []
    for passed in (0.0, 59.9, 0.1, 1.0):
        seconds[0] += passed
        await process.heartbeat.keep()
        kept.append(reader.kept)
    assert kept == pytest.approx([1_000.0, 1_000.0, 1_060.0, 1_060.0])
    await process.close()


async def test_a_session_that_the_store_does_not_have_is_found() -> None:
    process = Keeping()
    reader, other = await process.listens(), await process.listens()
    await process.heartbeat.keep()
    assert process.missing == []
    await process.harness.store.run(sessions.end(reader.fingerprint, principal=None, reason="deleted"))
    await process.heartbeat.keep()
    assert process.missing == [reader.fingerprint]
    assert other.event_stream.open
    await process.close()


async def test_who_keeps_deadlines_is_told_of_those_that_are_near() -> None:
    process = Keeping()
    process.harness.limit(max_age_ms=600_000)
    reader = await process.listens()
    process.harness.clock.advance(591_000)
    process.deadlines.horizon_ms = 8_999
    await process.heartbeat.keep()
    process.deadlines.due_in.assert_not_called()
    process.deadlines.horizon_ms = 9_000
    await process.heartbeat.keep()
    process.deadlines.due_in.assert_called_once_with(reader.fingerprint, 9.0)
    await process.close()


async def test_a_reader_whose_notification_was_lost_looks_again() -> None:
    process = Keeping()
    reader = await process.listens()
    nudged = []
    for published in (False, True):
        reader._nudged = False
        if published:
            await process.harness.publish(reader.fingerprint, b"{}")
        await process.heartbeat.keep()
        nudged.append(reader._nudged)
    assert nudged == [False, True]
    await process.close()


async def test_each_care_is_taken_whether_or_not_the_store_was_there_for_the_others() -> None:
    done: list[str] = []

    async def care(name: str, *, away: bool = False) -> None:
        done.append(name)
        if away:
            raise StoreUnavailable(name)

    with pytest.raises(StoreUnavailable, match="second"):
        await _all_of(
            lambda: care("first", away=True), lambda: care("second", away=True), lambda: care("third")
        )
    assert done == ["first", "second", "third"]
    await _all_of(lambda: care("fourth"))
    await _all_of()


def test_what_is_renewed_together_is_bounded() -> None:
    assert list(_batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(_batches([1, 2], 2)) == [[1, 2]]
    assert list(_batches([], 2)) == []
