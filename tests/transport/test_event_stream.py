"""One open event stream: what leaves, in which order, and how it ends."""

import asyncio
from math import inf
from typing import Any

import pytest

from mcp_sessions.transport import sse
from mcp_sessions.transport.event_stream import (
    MAX_QUEUED_BYTES,
    MAX_UNPACED_BYTES,
    PACED,
    PART_BYTES,
    RECONNECT,
    TOO_SLOW,
    EventStream,
    max_bytes,
)


class Connection:
    """The server's side of one HTTP connection."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.left = asyncio.Event()
        #: How many messages the client's system takes while the client does not read; then `send` waits.
        self.takes = inf
        self.reads = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) > self.takes:
            await self.reads.wait()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def carry(self, stream: EventStream, *, max_seconds: float = 30, max_bytes: float = inf) -> bytes:
        """What left on the wire after the opening comment."""
        async with asyncio.timeout(10):
            await stream.run(self.receive, self.send, max_seconds=max_seconds, max_bytes=max_bytes)
        start, *parts, last = self.sent
        assert (start["type"], start["status"]) == ("http.response.start", 200)
        assert start["headers"] == list(sse.STREAM_HEADERS)
        assert (last["more_body"], {part["more_body"] for part in parts}) == (False, {True})
        body = b"".join(message.get("body", b"") for message in self.sent)
        assert body.startswith(sse.OPENING)
        return body.removeprefix(sse.OPENING)


async def test_frames_leave_in_order_and_the_end_follows_what_is_queued() -> None:
    stream = EventStream()
    stream.put(b"one")
    stream.put(b"two")
    stream.end()
    stream.put(b"late")
    assert await Connection().carry(stream) == b"onetwo"


async def test_frames_put_while_it_runs_leave_at_once() -> None:
    stream, connection = EventStream(), Connection()
    running = asyncio.create_task(connection.carry(stream))
    while len(connection.sent) < 2:
        await asyncio.sleep(0)
    stream.put(b"now")
    while len(connection.sent) < 3:
        await asyncio.sleep(0)
    assert connection.sent[-1]["body"] == b"now"
    stream.end()
    assert await running == b"now"


@pytest.mark.protocol("H9")
async def test_a_reader_that_is_too_slow_is_told_when_to_reconnect() -> None:
    stream = EventStream()
    stream.put(b"x" * MAX_QUEUED_BYTES)
    stream.put(b"one more")
    assert not stream.open
    assert await Connection().carry(stream) == TOO_SLOW


async def test_what_waits_leaves_together_with_a_frame_larger_than_the_bound() -> None:
    stream = EventStream()
    stream.put(b"first")
    stream.put(b"x" * (MAX_QUEUED_BYTES + 1))
    stream.end()
    written = await Connection().carry(stream)
    assert (written[:5], len(written)) == (b"first", MAX_QUEUED_BYTES + 6)


async def test_one_frame_larger_than_the_bound_is_still_delivered() -> None:
    stream = EventStream()
    stream.put(b"x" * (MAX_QUEUED_BYTES + 1))
    stream.end()
    assert len(await Connection().carry(stream)) == MAX_QUEUED_BYTES + 1


@pytest.mark.protocol("H9")
async def test_a_stream_that_is_open_for_long_enough_is_told_to_reconnect() -> None:
    assert await Connection().carry(EventStream(), max_seconds=0) == RECONNECT


@pytest.mark.protocol("H18")
async def test_a_silent_stream_carries_a_comment_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.transport.event_stream.KEEP_ALIVE_SECONDS", 0)
    stream, connection = EventStream(), Connection()
    running = asyncio.create_task(connection.carry(stream))
    while len(connection.sent) < 4:
        await asyncio.sleep(0)
    stream.end()
    assert (await running).startswith(sse.KEEP_ALIVE * 2)


async def test_a_client_that_leaves_closes_the_stream_and_is_reported() -> None:
    stream, connection = EventStream(), Connection()
    closed: list[bool] = []
    stream.on_close = lambda: closed.append(stream.open)
    connection.left.set()
    assert await connection.carry(stream) == b""
    assert closed == [False]


def full(*, bytes_queued: int) -> EventStream:
    stream = EventStream()
    for _ in range(bytes_queued // PART_BYTES):
        stream.put(b"x" * PART_BYTES)
    return stream


async def test_what_waits_for_a_slow_reader_leaves_in_parts_and_stays_counted() -> None:
    stream, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    connection.takes = 2
    running = asyncio.create_task(connection.carry(stream))
    while len(connection.sent) < 3:
        await asyncio.sleep(0)
    assert len(connection.sent[-1]["body"]) == PART_BYTES
    stream.put(b"x" * PART_BYTES)
    stream.put(b"one more")
    assert not stream.open
    connection.reads.set()
    assert (await running).endswith(TOO_SLOW)


async def test_a_part_is_filled_with_whole_frames_in_their_order() -> None:
    stream, connection = EventStream(), Connection()
    half = PART_BYTES // 2
    for frame in (b"a" * half, b"b" * half, b"c" * half, b"d" * PART_BYTES, b"e", b"f"):
        stream.put(frame)
    stream.end()
    sent = await connection.carry(stream)
    assert sent == b"a" * half + b"b" * half + b"c" * half + b"d" * PART_BYTES + b"ef"
    parts = [len(message["body"]) for message in connection.sent[2:-1]]
    assert parts == [PART_BYTES, half, PART_BYTES, 2]


async def test_a_connection_that_breaks_releases_those_that_wait_and_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    stream, connection = EventStream(), Connection()
    closed: list[bool] = []
    stream.on_close = lambda: closed.append(stream.open)
    for _ in range(2):
        stream.put(b"x" * PART_BYTES)

    async def send(message: Any) -> None:
        await connection.send(message)
        if len(connection.sent) == 3:
            raise ConnectionResetError

    waiting = asyncio.create_task(stream.wait_drained())
    gone = stream.gone()
    with pytest.raises(ConnectionResetError):
        await stream.run(connection.receive, send, max_seconds=30)
    assert closed == [False]
    assert gone.done()
    async with asyncio.timeout(10):
        assert not await waiting
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(("max_seconds", "timers"), [(30, 2), (inf, 1)], ids=["bounded", "unbounded"])
async def test_a_stream_that_is_over_leaves_no_timer(
    monkeypatch: pytest.MonkeyPatch, max_seconds: float, timers: int
) -> None:
    loop = asyncio.get_running_loop()
    stream, connection, begun, call_later = EventStream(), Connection(), [], loop.call_later

    def spied(seconds: float, call: Any, *arguments: Any) -> asyncio.TimerHandle:
        handle = call_later(seconds, call, *arguments)
        begun.append((call, handle))
        return handle

    monkeypatch.setattr(loop, "call_later", spied)
    running = asyncio.create_task(stream.run(connection.receive, connection.send, max_seconds=max_seconds))
    while stream._waker is None:
        await asyncio.sleep(0)
    stream.end()
    await running
    own = [handle for call, handle in begun if getattr(call, "__self__", None) is stream]
    assert [each.cancelled() for each in own] == [True] * timers


async def test_who_asks_when_a_stream_is_over_learns_it_then_or_later() -> None:
    before = asyncio.all_tasks()
    stream = EventStream()
    gone = stream.gone()
    assert not gone.done()
    stream.end()
    await Connection().carry(stream)
    assert gone.done()
    assert stream.gone() is gone
    other = EventStream()
    other.end()
    await Connection().carry(other)
    assert other.gone().done()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_the_rest_of_a_request_body_is_no_reason_to_close() -> None:
    stream, connection = EventStream(), Connection()
    rest = [{"type": "http.request", "more_body": True}, {"type": "http.request"}]

    async def receive() -> Any:
        return rest.pop(0) if rest else await connection.receive()

    running = asyncio.create_task(stream.run(receive, connection.send, max_seconds=30))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (rest, stream.open) == ([], True)
    connection.left.set()
    await running
    assert not stream.open


async def test_a_reader_of_the_log_waits_until_its_stream_has_drained() -> None:
    stream, connection = full(bytes_queued=10 * PART_BYTES), Connection()
    connection.takes = 0
    running = asyncio.create_task(connection.carry(stream))
    feeding = [asyncio.create_task(stream.wait_drained()) for _ in range(2)]
    assert not await stream.wait_drained(seconds=0)
    connection.reads.set()
    assert await asyncio.gather(*feeding) == [True, True]
    stream.end()
    assert not await stream.wait_drained()
    assert len(await running) == 10 * PART_BYTES


@pytest.mark.parametrize("frames", [[], [b"one", b"two"]], ids=["nothing is queued", "something is"])
async def test_who_waits_before_a_stream_runs_waits_until_all_of_it_has_been_sent(
    frames: list[bytes],
) -> None:
    stream, connection = EventStream(), Connection()
    for frame in frames:
        stream.put(frame)
    waiting = asyncio.create_task(stream.wait_drained())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done(), "nobody is known to read"
    running = asyncio.create_task(connection.carry(stream))
    async with asyncio.timeout(10):
        assert await waiting
        assert await stream.wait_drained()
    stream.end()
    assert await running == b"".join(frames)


async def test_a_client_that_leaves_releases_those_that_wait_for_it() -> None:
    stream, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    feeding = [asyncio.create_task(stream.wait_drained()), asyncio.create_task(stream.keep_up())]
    running = asyncio.create_task(connection.carry(stream))
    connection.left.set()
    assert await asyncio.gather(*feeding) == [False, None]
    assert (await running).strip(b"x") == b""


async def test_a_handler_waits_a_moment_for_a_reader_who_is_behind() -> None:
    stream, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    running = asyncio.create_task(connection.carry(stream))
    await stream.keep_up()
    assert stream.open
    stream.end()
    assert len(await running) == MAX_QUEUED_BYTES


@pytest.mark.protocol("H9")
async def test_a_reader_who_does_not_catch_up_is_told_to_reconnect() -> None:
    stream = full(bytes_queued=MAX_QUEUED_BYTES // 2)
    await stream.keep_up()
    assert stream.open, "half of what may wait is not too much"
    stream.put(b"one more")
    await stream.keep_up(0)
    assert await Connection().carry(stream) == TOO_SLOW


@pytest.mark.protocol("H9")
async def test_a_connection_carries_only_so_much_where_send_does_not_wait() -> None:
    stream = full(bytes_queued=8 * PART_BYTES)
    sent = await Connection().carry(stream, max_bytes=4 * PART_BYTES)
    assert sent.endswith(RECONNECT)
    assert len(sent) - len(RECONNECT) == 5 * PART_BYTES


async def test_the_last_of_a_stream_is_not_cut_off() -> None:
    stream = full(bytes_queued=8 * PART_BYTES)
    stream.end()
    assert len(await Connection().carry(stream, max_bytes=4 * PART_BYTES)) == 8 * PART_BYTES


@pytest.mark.parametrize(
    ("scope", "limit"),
    [
        ({"asgi": {"version": "3.0"}}, MAX_UNPACED_BYTES),
        ({"asgi": {"version": "3.0"}, "extensions": {"another": {}}}, MAX_UNPACED_BYTES),
        ({"asgi": {"version": "3.0"}, "extensions": {PACED: {}}}, inf),
        ({"asgi": {"version": "3.0", "spec_version": "2.3"}}, inf),
    ],
)
def test_a_server_that_waits_for_readers_needs_no_limit(scope: Any, limit: float) -> None:
    assert max_bytes(scope) == limit
