"""What becomes of the call of a dead process at the one that delivers its stream."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.cluster.notifications import StreamChanged
from mcp_sessions.records import Session
from mcp_sessions.store.calls import nodes, sessions, streams
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.orphans import LOST, MAX_RERUNS, Orphans
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport import jsonrpc
from tests.serving.contexts import Process
from tests.store.harness import EXCHANGE, MINUTE

CALL: Final[dict[str, Any]] = {"id": 7, "method": "tools/call", "params": {"name": "look"}}
RESPONSE: Final = {"jsonrpc": "2.0", "id": 7, "result": {"ok": 1}}
LOST_RESPONSE: Final = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32000, "message": LOST}}


class Deliverer(Process):
    """A process to which a client came for the stream of a call that another one, `dead`, has begun."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(**conf)
        self.now = 0.0
        self.ran: list[tuple[jsonrpc.Request, Any, str]] = []
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.open_streams = OpenStreams(self.context)
        self.orphans = Orphans(
            self.context, self.open_streams, run_again=self._run_again, clock=lambda: self.now
        )
        self.readers: list[tuple[StreamReader, asyncio.Task[None]]] = []

    async def _run_again(
        self, request: jsonrpc.Request, scope: Mapping[str, Any], session: Session
    ) -> dict[str, Any]:
        self.ran.append((request, scope, session.fingerprint))
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return dict(RESPONSE)

    async def deliver(self, request: dict[str, Any], *, reruns: int = 0) -> StreamReader:
        """The client resumes a stream whose exchange was run again so often."""
        fingerprint, store, limits = await self.harness.open(), self.harness.store, self.harness.stream_limits
        await store.run(
            streams.open_stream(
                fingerprint, EXCHANGE, node="dead0", request_id=json.dumps(request), limits=limits
            )
        )
        for number in range(reruns):
            await store.run(self.rerun(fingerprint, f"dead{number}", f"dead{number + 1}"))
        session = await store.run(sessions.get(fingerprint))
        assert session is not None
        reader = await self.open_streams.take_over(session, EXCHANGE, after=0, scope={"of": "the resumption"})
        assert reader is not None
        assert reader.origin == f"dead{reruns}"
        self.readers.append((reader, self.open_streams.start(reader)))
        return reader

    def rerun(self, fingerprint: str, dead: str, node: str) -> Any:
        return streams.rerun(fingerprint, EXCHANGE, dead=dead, node=node, most=MAX_RERUNS)

    async def beat(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += HEARTBEAT_SECONDS
            await self.store.run(nodes.beat(self.node.id, about="{}", forget_after_ms=MINUTE))
            await self.orphans.look()
            for _ in range(20):
                await asyncio.sleep(0)

    async def log(self, reader: StreamReader) -> list[Any]:
        kept = await self.harness.kept(reader.fingerprint)
        return [json.loads(payload) for _, payload in kept]


#: Heartbeats after which a node takes others for dead.
SETTLED = round(DEAD_AFTER_SECONDS / HEARTBEAT_SECONDS) + 1


@pytest.fixture
async def process() -> AsyncIterator[Deliverer]:
    made = Deliverer(rerun_lost_calls=True)
    yield made
    made.may_end.set()
    for reader, task in made.readers:
        made.open_streams.stop(reader, task)
    await made.settle()


async def test_it_runs_again_once_and_its_client_gets_the_response(
    process: Deliverer, caplog: pytest.LogCaptureFixture
) -> None:
    reader = await process.deliver(CALL)
    await process.beat(SETTLED - 1)
    assert process.ran == []
    await process.beat(3)
    assert process.ran == [(jsonrpc.Request(**CALL), {"of": "the resumption"}, reader.fingerprint)]
    assert reader.origin == process.node.id
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        f"Node dead0 died with a request of session {reader.fingerprint[:12]}: it runs again (1 of {MAX_RERUNS})."
    ]
    process.may_end.set()
    await process.beat()
    changed = StreamChanged(fingerprint=reader.fingerprint, stream=EXCHANGE)
    assert process.node.told[1:] == [(process.node.id, changed)]
    assert await process.log(reader) == [RESPONSE]
    assert not process.orphans._reruns


async def test_it_runs_again_once_for_two_connections_that_wait_for_it(process: Deliverer) -> None:
    reader = await process.deliver(CALL)
    session = await process.harness.store.run(sessions.get(reader.fingerprint))
    assert session is not None
    newer = await process.open_streams.take_over(session, EXCHANGE, after=0, scope={})
    assert newer is not None
    process.readers.append((newer, process.open_streams.start(newer)))
    await process.beat(SETTLED + 1)
    assert len(process.ran) == 1
    assert reader.origin == newer.origin == process.node.id


@pytest.mark.parametrize(
    ("request_", "reruns", "conf"),
    [
        ({"id": 7}, 0, True),
        (CALL, MAX_RERUNS, True),
        (CALL, 0, False),
    ],
)
async def test_what_may_not_run_again_ends_with_an_error(
    process: Deliverer, request_: dict[str, Any], reruns: int, conf: bool
) -> None:
    process.conf = Deliverer(rerun_lost_calls=conf).conf
    reader = await process.deliver(request_, reruns=reruns)
    reader._nudged = False
    await process.beat(SETTLED + 1)
    assert reader._nudged, "it looks for the end itself"
    assert (process.ran, reader.origin) == ([], "")
    assert await process.log(reader) == [LOST_RESPONSE]


async def test_the_last_time_that_it_may_run_again_it_does(process: Deliverer) -> None:
    await process.deliver(CALL, reruns=MAX_RERUNS - 1)
    await process.beat(SETTLED)
    assert len(process.ran) == 1


async def test_one_of_several_processes_runs_it_again(process: Deliverer) -> None:
    reader = await process.deliver(CALL)
    await process.beat(SETTLED - 1)
    await process.store.run(process.rerun(reader.fingerprint, "dead0", "quicker"))
    await process.beat()
    assert (process.ran, reader.origin) == ([], "quicker")


@pytest.mark.parametrize("gone", [False, True], ids=["it runs elsewhere", "its session is gone"])
async def test_what_another_process_runs_again_or_nobody_waits_for_gets_no_error(
    process: Deliverer, gone: bool
) -> None:
    process.conf = Deliverer(rerun_lost_calls=False).conf
    reader = await process.deliver(CALL)
    await process.store.run(process.rerun(reader.fingerprint, "dead0", "quicker"))
    if gone:
        await process.harness.store.run(sessions.end(reader.fingerprint, principal=None, reason="deleted"))
    await process.orphans._end(reader)
    assert reader.origin == ("" if gone else "quicker")
    if not gone:
        assert await process.log(reader) == []


async def test_calls_that_another_one_runs_by_now_or_whose_session_ended_are_cancelled_here(
    process: Deliverer,
) -> None:
    taken, over, going_on = [await process.deliver(CALL) for _ in range(3)]
    await process.beat(SETTLED)
    assert len(process.ran) == 3
    await process.store.run(process.rerun(taken.fingerprint, process.node.id, "quicker"))
    await process.harness.store.run(sessions.end(over.fingerprint, principal=None, reason="deleted"))
    await process.beat()
    assert process.cancelled == 2
    assert list(process.orphans._reruns) == [(going_on.fingerprint, EXCHANGE)]


@pytest.mark.parametrize("has_ended", [False, True], ids=["while it runs", "when it has ended"])
async def test_a_call_runs_again_if_the_store_has_lost_that_it_ran_here(
    process: Deliverer, has_ended: bool
) -> None:
    """It came back with an older state, in which the call is that of the dead process."""
    reader = await process.deliver(CALL)
    await process.beat(SETTLED)
    await process.store.run(process.rerun(reader.fingerprint, process.node.id, "dead0"))
    if has_ended:
        process.may_end.set()
        await process.settle()
        process.may_end.clear()
    await process.beat(1 if has_ended else 2)
    assert len(process.ran) == 2
    process.may_end.set()
    await process.beat()
    assert await process.log(reader) == [RESPONSE]


async def test_a_stream_is_ended_once_although_the_store_is_slow(
    process: Deliverer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, asked, answers, run = await process.deliver({"id": 7}), 0, asyncio.Event(), process.store.run

    async def slowly(work: Any) -> Any:
        nonlocal asked
        if getattr(work, "script", None) is streams.CLOSE:
            asked += 1
            await answers.wait()
        return await run(work)

    monkeypatch.setattr(process.store, "run", slowly)
    await process.beat(SETTLED + 2)
    answers.set()
    await process.beat()
    assert (asked, caplog.text.count("Node dead0 died")) == (1, 1)
    assert await process.log(reader) == [LOST_RESPONSE]


async def test_nothing_is_done_for_a_connection_that_is_closed(process: Deliverer) -> None:
    reader = await process.deliver(CALL)
    reader.event_stream.end()
    await process.beat(SETTLED + 1)
    assert process.ran == []
