"""One open event stream: what leaves, in which order, and how it ends."""

import asyncio
from math import inf
from typing import Any

import pytest

from mcp_sessions.transport import sse
from mcp_sessions.transport.event_stream import (
    COME_BACK,
    MAX_QUEUED_BYTES,
    MAX_UNPACED_BYTES,
    PACED,
    PART_BYTES,
    TOO_SLOW,
    Delivery,
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

    async def deliver(self, delivery: Delivery, *, max_seconds: float = 30, max_bytes: float = inf) -> bytes:
        """What left on the wire after the opening comment."""
        async with asyncio.timeout(10):
            await delivery.run(self.receive, self.send, max_seconds=max_seconds, max_bytes=max_bytes)
        assert self.sent[-1]["more_body"] is False
        body = b"".join(message.get("body", b"") for message in self.sent)
        assert body.startswith(sse.OPENING)
        return body.removeprefix(sse.OPENING)


async def test_frames_leave_in_order_and_the_end_follows_what_is_queued() -> None:
    delivery = Delivery()
    delivery.put(b"one")
    delivery.put(b"two")
    delivery.end()
    delivery.put(b"late")
    assert await Connection().deliver(delivery) == b"onetwo"


async def test_frames_put_while_it_runs_leave_at_once() -> None:
    delivery, connection = Delivery(), Connection()
    running = asyncio.create_task(connection.deliver(delivery))
    while len(connection.sent) < 2:
        await asyncio.sleep(0)
    delivery.put(b"now")
    while len(connection.sent) < 3:
        await asyncio.sleep(0)
    assert connection.sent[-1]["body"] == b"now"
    delivery.end()
    assert await running == b"now"


@pytest.mark.protocol("H9")
async def test_a_reader_that_is_too_slow_is_told_when_to_come_back() -> None:
    delivery = Delivery()
    delivery.put(b"x" * MAX_QUEUED_BYTES)
    delivery.put(b"one more")
    assert not delivery.open
    assert await Connection().deliver(delivery) == TOO_SLOW


async def test_what_waits_leaves_together_with_a_frame_larger_than_the_bound() -> None:
    delivery = Delivery()
    delivery.put(b"first")
    delivery.put(b"x" * (MAX_QUEUED_BYTES + 1))
    delivery.end()
    written = await Connection().deliver(delivery)
    assert (written[:5], len(written)) == (b"first", MAX_QUEUED_BYTES + 6)


async def test_one_frame_larger_than_the_bound_is_delivered_all_the_same() -> None:
    delivery = Delivery()
    delivery.put(b"x" * (MAX_QUEUED_BYTES + 1))
    delivery.end()
    assert len(await Connection().deliver(delivery)) == MAX_QUEUED_BYTES + 1


@pytest.mark.protocol("H9")
async def test_a_stream_that_is_open_for_long_enough_is_told_to_come_back() -> None:
    assert await Connection().deliver(Delivery(), max_seconds=0) == COME_BACK


@pytest.mark.protocol("H18")
async def test_a_silent_stream_carries_a_comment_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.transport.event_stream.KEEP_ALIVE_SECONDS", 0)
    delivery, connection = Delivery(), Connection()
    running = asyncio.create_task(connection.deliver(delivery))
    while len(connection.sent) < 4:
        await asyncio.sleep(0)
    delivery.end()
    assert (await running).startswith(sse.KEEP_ALIVE * 2)


async def test_a_client_that_leaves_closes_the_stream_and_is_reported() -> None:
    delivery, connection = Delivery(), Connection()
    closed: list[bool] = []
    delivery.on_close = lambda: closed.append(delivery.open)
    connection.left.set()
    assert await connection.deliver(delivery) == b""
    assert closed == [False]


def full(*, bytes_queued: int) -> Delivery:
    delivery = Delivery()
    for _ in range(bytes_queued // PART_BYTES):
        delivery.put(b"x" * PART_BYTES)
    return delivery


async def test_what_waits_for_a_slow_reader_leaves_in_parts_and_stays_counted() -> None:
    delivery, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    connection.takes = 2
    running = asyncio.create_task(connection.deliver(delivery))
    while len(connection.sent) < 3:
        await asyncio.sleep(0)
    assert len(connection.sent[-1]["body"]) == PART_BYTES
    delivery.put(b"x" * PART_BYTES)
    delivery.put(b"one more")
    assert not delivery.open
    connection.reads.set()
    assert (await running).endswith(TOO_SLOW)


async def test_who_feeds_a_stream_from_the_log_waits_until_it_is_hungry() -> None:
    delivery, connection = full(bytes_queued=10 * PART_BYTES), Connection()
    connection.takes = 0
    running = asyncio.create_task(connection.deliver(delivery))
    feeding = [asyncio.create_task(delivery.hungry()) for _ in range(2)]
    assert not await delivery.hungry(seconds=0)
    connection.reads.set()
    assert await asyncio.gather(*feeding) == [True, True]
    delivery.end()
    assert not await delivery.hungry()
    assert len(await running) == 10 * PART_BYTES


async def test_a_client_that_leaves_releases_who_waits_for_it() -> None:
    delivery, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    feeding = [asyncio.create_task(delivery.hungry()), asyncio.create_task(delivery.keep_up())]
    running = asyncio.create_task(connection.deliver(delivery))
    connection.left.set()
    assert await asyncio.gather(*feeding) == [False, None]
    assert (await running).strip(b"x") == b""


async def test_a_handler_waits_a_moment_for_a_reader_who_is_behind() -> None:
    delivery, connection = full(bytes_queued=MAX_QUEUED_BYTES), Connection()
    running = asyncio.create_task(connection.deliver(delivery))
    await delivery.keep_up()
    assert delivery.open
    delivery.end()
    assert len(await running) == MAX_QUEUED_BYTES


@pytest.mark.protocol("H9")
async def test_a_reader_who_does_not_catch_up_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.transport.event_stream.CATCH_UP_SECONDS", 0)
    delivery = full(bytes_queued=MAX_QUEUED_BYTES // 2)
    await delivery.keep_up()
    delivery.put(b"one more")
    await delivery.keep_up()
    assert await Connection().deliver(delivery) == TOO_SLOW


@pytest.mark.protocol("H9")
async def test_a_connection_carries_only_so_much_where_send_does_not_wait() -> None:
    delivery = full(bytes_queued=8 * PART_BYTES)
    sent = await Connection().deliver(delivery, max_bytes=4 * PART_BYTES)
    assert sent.endswith(COME_BACK)
    assert len(sent) - len(COME_BACK) == 5 * PART_BYTES


async def test_the_last_of_a_stream_is_not_cut_off() -> None:
    delivery = full(bytes_queued=8 * PART_BYTES)
    delivery.end()
    assert len(await Connection().deliver(delivery, max_bytes=4 * PART_BYTES)) == 8 * PART_BYTES


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
