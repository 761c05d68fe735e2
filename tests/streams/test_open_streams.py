"""The connections of one process that deliver streams: which make room, which are closed, and what others are told."""

import asyncio
import secrets
from typing import Any

import pytest

from mcp_sessions import counting
from mcp_sessions.cluster.notifications import StreamClaimed, StreamDisconnected, StreamReleased
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.open_streams import OpenStreams, disconnect
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_ids import STANDALONE
from tests.serving.contexts import Process
from tests.store.harness import EXCHANGE, client_named


class Delivering(Process):
    """A process with open streams."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(alias=f"streams-{secrets.token_hex(4)}", **conf)
        self.streams = OpenStreams(self.context)

    async def session(self, **options: Any) -> Session:
        fingerprint = await self.harness.open(**options)
        found = await self.harness.store.run(sessions.get(fingerprint))
        assert found is not None
        return found

    async def take(self, session: Session, stream: str = STANDALONE) -> StreamReader:
        reader = await self.streams.take_over(session, stream, after=None, scope={})
        assert reader is not None
        return reader


async def test_the_oldest_connections_of_a_session_make_room() -> None:
    process = Delivering(max_streams_per_session=2)
    session, another = await process.session(), await process.session()
    tasks, readers = [], []
    for each in (session, session, another, session):
        readers.append(await process.take(each))
        tasks.append(process.streams.start(readers[-1]))
    assert [each.event_stream.open for each in readers] == [False, True, True, True]
    readers.append(await process.take(session))
    readers[1].event_stream.end()
    tasks.append(process.streams.start(readers[-1]))
    assert [each.event_stream.open for each in readers] == [False, False, True, True, True], (
        "a closed one needs none"
    )
    assert counting.since_the_start(process.conf.alias).numbers == {"limited:MAX_STREAMS_PER_SESSION": 1}
    assert process.streams.of(session.fingerprint) == [readers[0], readers[1], readers[3], readers[4]]
    for reader, task in zip(readers, tasks, strict=True):
        process.streams.stop(reader, task)
    await process.settle()
    assert all(task.done() for task in tasks)
    assert (list(process.streams), process.streams._readers) == ([], {})


async def test_who_listens_has_a_standalone_stream_here() -> None:
    process = Delivering()
    session, other = await process.session(), await process.session()
    read_from_an_event_id = "".join(list(STANDALONE))
    reader = await process.take(session, read_from_an_event_id)
    task = process.streams.start(reader)
    assert process.streams.listening == {session.fingerprint}
    assert process.streams.has(session.fingerprint, reader.claim.token)
    assert not process.streams.has(session.fingerprint, reader.claim.token + 1)
    assert not process.streams.has(session.fingerprint, reader.claim.token - 1)
    assert not process.streams.has(other.fingerprint, reader.claim.token)
    process.streams.stop(reader, task)
    assert process.streams.listening == set()
    assert process.tasks, "the stream goes back"
    await process.settle()


async def test_a_stream_that_goes_back_is_told_to_the_process_that_delivers_it() -> None:
    process = Delivering()
    session = await process.session()
    older = await process.harness.claim(session.fingerprint, stream=STANDALONE, node="elsewhere", after=None)
    reader = await process.take(session)
    task = process.streams.start(reader)
    process.streams.stop(reader, task)
    await process.settle()
    released = StreamReleased(fingerprint=session.fingerprint, token=older.claim.token)
    assert process.node.told == [("elsewhere", released)]


async def test_the_process_that_delivered_a_call_is_told_and_that_of_a_standalone_stream_is_not() -> None:
    process = Delivering()
    fingerprint = await process.harness.exchange(node="elsewhere")
    session = await process.harness.store.run(sessions.get(fingerprint))
    assert session is not None
    reader = await process.streams.take_over(session, EXCHANGE, after=0, scope={})
    assert reader is not None
    claimed = StreamClaimed(fingerprint=fingerprint, stream=EXCHANGE, token=reader.claim.token)
    assert process.node.told == [("elsewhere", claimed)]
    task = process.streams.start(reader)
    assert process.streams.listening == set()
    process.streams.stop(reader, task)
    assert not process.tasks, "nobody else delivers it"
    for _ in range(2):
        await process.take(session)
    assert process.node.told == [("elsewhere", claimed)]
    assert await process.streams.take_over(session, "0" * 16, after=0, scope={}) is None
    assert not process.streams._claiming


@pytest.mark.parametrize(
    ("protocol", "primed"), [("2025-11-25", True), ("2025-06-18", False), ("2026-01-01", True)]
)
async def test_a_client_that_understands_it_has_an_id_to_resume_from_at_once(
    protocol: str, primed: bool
) -> None:
    process = Delivering()
    reader = await process.take(await process.session(handshake=client_named("c", protocol=protocol)))
    frames = reader.event_stream._frames
    assert bool(frames) is primed
    assert all(frame.startswith(b"id: ") and frame.endswith(b"data: \n\n") for frame in frames)


async def test_only_the_connection_with_the_claim_is_closed_or_looks_again() -> None:
    process = Delivering(retry=2.5)
    session = await process.session()
    readers = [await process.take(session) for _ in range(2)]
    tasks = [process.streams.start(each) for each in readers]
    first, second = readers
    process.streams.disconnect(session.fingerprint, EXCHANGE, second.claim.token)
    process.streams.disconnect(session.fingerprint, STANDALONE, second.claim.token + 1)
    assert [each.event_stream.open for each in readers] == [True, True]
    process.streams.disconnect(session.fingerprint, STANDALONE, first.claim.token)
    assert [each.event_stream.open for each in readers] == [False, True]
    assert first.event_stream._frames[-1] == sse.retry(2.5)
    second._nudged = first._nudged = False
    process.streams.hear_released(session.fingerprint, second.claim.token)
    assert (first._nudged, second._nudged) == (False, True)
    assert not process.tasks
    process.streams.hear_released(session.fingerprint, 12345)
    assert len(process.tasks) == 1, "it is not here: whoever has it is told"
    for reader, task in zip(readers, tasks, strict=True):
        process.streams.stop(reader, task)
    await process.settle()


async def test_while_a_stream_is_being_taken_over_its_claim_may_be_one_that_is_not_known_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Delivering(stream_ttl=40)
    session, gates, run = await process.session(), [asyncio.Event(), asyncio.Event()], process.store.run
    ttls = []

    async def slowly(work: Any) -> Any:
        ttls.append(work.arguments[-1])
        taken = await run(work)
        await gates[len(ttls) - 1].wait()
        return taken

    monkeypatch.setattr(process.store, "run", slowly)
    taking = [asyncio.create_task(process.take(session)) for _ in gates]
    for gate, task in zip(gates, taking, strict=True):
        for _ in range(3):
            await asyncio.sleep(0)
        process.streams.hear_released(session.fingerprint, 12345)
        assert not process.tasks
        gate.set()
        await task
    assert ttls == [40_000, 40_000]
    monkeypatch.setattr(process.store, "run", run)
    process.store.away = True
    with pytest.raises(StoreUnavailable):
        await process.take(session)
    process.streams.hear_released(session.fingerprint, 12345)
    assert len(process.tasks) == 1
    await process.settle()


async def test_news_is_for_the_connection_that_delivers_or_for_all_if_that_is_not_known() -> None:
    process = Delivering()
    fingerprint = await process.harness.exchange(node="elsewhere")
    session = await process.harness.store.run(sessions.get(fingerprint))
    assert session is not None
    readers = [await process.take(session, stream) for stream in (STANDALONE, STANDALONE, EXCHANGE)]
    older, newer, _ = readers
    tasks = [process.streams.start(each) for each in readers]
    older.holder = newer.claim
    for stream in (EXCHANGE, STANDALONE):
        process.streams.nudge(fingerprint, stream)
        assert [each._nudged for each in readers] == [False, stream == STANDALONE, True]
    newer.holder, newer._nudged = None, False
    process.streams.nudge("f" * 64, STANDALONE)
    assert [each._nudged for each in readers] == [False, False, True]
    process.streams.nudge(fingerprint, STANDALONE)
    assert [each._nudged for each in readers] == [True, True, True]
    for reader, task in zip(readers, tasks, strict=True):
        process.streams.stop(reader, task)
    await process.settle()


async def test_a_connection_is_closed_wherever_it_is() -> None:
    process = Delivering()
    session = await process.session()
    assert await disconnect(process.context, session.fingerprint, STANDALONE) is None
    taken = await process.harness.claim(session.fingerprint, stream=STANDALONE, node="elsewhere", after=None)
    assert await disconnect(process.context, session.fingerprint, STANDALONE) == taken.claim
    told = StreamDisconnected(fingerprint=session.fingerprint, stream=STANDALONE, token=taken.claim.token)
    assert process.node.told == [("elsewhere", told)]
    process.store.away = True
    with pytest.raises(StoreUnavailable):
        await disconnect(process.context, session.fingerprint, STANDALONE)


async def test_a_stream_cannot_go_back_while_the_store_is_away() -> None:
    process = Delivering()
    process.store.away = True
    await process.streams.release("f" * 64, 7)
    assert process.node.told == []
