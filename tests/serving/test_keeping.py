"""What a heartbeat keeps alive, how often, and what it finds out about what is open here."""

import asyncio
from math import inf
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.serving import heartbeat as serving_heartbeat
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.heartbeat import LONGEST_IDLE_MS, Heartbeat, _all_of, _batches, _held, keeps
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
        self.admission = Admission(self.context.conf)
        self.deadlines: Any = Mock(horizon_ms=0)
        self.missing: list[str] = []
        self.cares = nothing = Mock()
        self.heartbeat = Heartbeat(
            self.context,
            self.admission,
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


def runs(fingerprint: str, *, keeps_session: bool = True, stream: Any = None) -> Any:
    """A request of a session, with a stream of that name or none."""
    made = Mock(spec=Exchange, keeps_session=keeps_session, stream=stream and Mock(kept=-inf))
    made.session = SimpleNamespace(fingerprint=fingerprint)
    if stream:
        made.stream.name = stream
    return made


async def test_the_log_of_a_request_that_runs_here_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    process, kept = Keeping(), list[Any]()
    monkeypatch.setattr(serving_heartbeat.streams, "keep", kept.append)  # type: ignore[attr-defined]
    monkeypatch.setattr(process.store, "run", AsyncMock())
    streaming, plain = runs("a", stream="s"), runs("b")
    process.admission._exchanges = {"a": {streaming}, "b": {plain}}
    for _ in range(2):
        await process.heartbeat._renew_logs()
    assert kept == [[("a", "s")]]
    assert streaming.stream.kept == pytest.approx(asyncio.get_running_loop().time(), abs=60)


async def test_only_a_long_request_or_an_open_stream_keeps_its_session() -> None:
    process = Keeping()
    reader = await process.listens()
    process.admission._exchanges = {"a": {runs("a")}, "b": {runs("b", keeps_session=False)}}
    kept = [
        keeps(process.admission, process.open_streams, each) for each in (reader.fingerprint, "a", "b", "c")
    ]
    assert kept == [True, True, False, False]
    await process.close()


async def test_what_a_heartbeat_asks_for_is_what_this_process_knows_of_a_stream() -> None:
    process = Keeping()
    reader = await process.listens()
    assert reader.holder is not None
    token = reader.holder.token
    assert _held(reader) == (reader.fingerprint, STANDALONE, token, reader.after)
    reader.holder = None
    assert _held(reader) == (reader.fingerprint, STANDALONE, 0, None)
    assert _held(runs("a")) == ("a", "", None, None)
    await process.close()


async def test_a_session_that_does_not_count_any_more_ends_and_the_others_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process, ended = Keeping(), []

    async def end(*about: Any, **how: Any) -> None:
        ended.append((*about, how))

    monkeypatch.setattr(serving_heartbeat, "aend_session", end)
    old = await process.listens()
    process.harness.clock.advance(1_000)
    new = await process.listens()
    process.deadlines.horizon_ms = inf
    process.node.validity = Mock(first_ms=Mock(return_value=process.harness.clock.now))
    await process.heartbeat.keep()
    how = {"reason": "expired_by_operator", "by": "MIN_CREATED", "spawn": process.context.spawn}
    assert ended == [(process.node, "default", old.fingerprint, how)]
    assert [each.args[0] for each in process.deadlines.due_in.call_args_list] == [new.fingerprint]
    await process.close()


@pytest.mark.parametrize("away", ["", "keep", "settle"])
async def test_with_each_heartbeat_everything_is_looked_after_that_the_store_is_there_for(
    monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    process, done = Keeping(), []

    def care(name: str) -> Any:
        async def run(*about: Any) -> None:
            done.append((name, *about))
            if name == away:
                raise StoreUnavailable(name)

        return run

    blocks = Mock(due=True, load=care("blocks"))
    monkeypatch.setattr(serving_heartbeat, "blocks_of", lambda _: blocks)
    monkeypatch.setattr(Heartbeat, "keep", lambda _: care("keep")())
    monkeypatch.setattr(serving_heartbeat, "finish_endings", care("endings"))
    monkeypatch.setattr(serving_heartbeat, "sweep", care("sweep"))
    monkeypatch.setattr(serving_heartbeat.lifecycle, "heartbeat_hooks", {care("hook"): None})  # type: ignore[attr-defined]
    process.cares.keep, process.cares.look, process.cares.settle = (
        care("listeners"),
        care("look"),
        care("settle"),
    )
    for due in (True, False):
        done.clear()
        blocks.due = due
        if away:
            with pytest.raises(StoreUnavailable):
                await process.heartbeat.beat()
        else:
            await process.heartbeat.beat()
        await process.settle()
        node = (process.node, "default")
        looked: list[Any] = [
            ("keep",),
            ("listeners",),
            ("look",),
            ("look",),
            ("endings", *node),
            ("sweep", *node),
        ]
        whole: list[Any] = [("settle",), ("hook", "default")]
        then = {"": whole, "keep": [], "settle": whole[:1]}[away]
        read = [("blocks",)] if due else []
        assert sorted(done) == sorted([*looked, *then, *read])
        assert [each for each in done if each != ("blocks",)] == looked + then


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
