"""One open event stream: what leaves, in which order, and how it ends."""

import asyncio
from typing import Any

import pytest

from mcp_sessions import wire
from mcp_sessions.delivery import COME_BACK, MAX_QUEUED_BYTES, TOO_SLOW, Delivery


class Connection:
    """The server's side of one HTTP connection."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.left = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def deliver(self, delivery: Delivery, *, max_seconds: float = 30) -> bytes:
        """What left on the wire after the opening comment."""
        async with asyncio.timeout(10):
            await delivery.run(self.receive, self.send, max_seconds=max_seconds)
        assert self.sent[-1]["more_body"] is False
        body = b"".join(message.get("body", b"") for message in self.sent)
        assert body.startswith(wire.OPENING)
        return body.removeprefix(wire.OPENING)


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
    monkeypatch.setattr("mcp_sessions.delivery.KEEP_ALIVE_SECONDS", 0)
    delivery, connection = Delivery(), Connection()
    running = asyncio.create_task(connection.deliver(delivery))
    while len(connection.sent) < 4:
        await asyncio.sleep(0)
    delivery.end()
    assert (await running).startswith(wire.KEEP_ALIVE * 2)


async def test_a_client_that_leaves_closes_the_stream_and_is_reported() -> None:
    delivery, connection = Delivery(), Connection()
    closed: list[bool] = []
    delivery.on_close = lambda: closed.append(delivery.open)
    connection.left.set()
    assert await connection.deliver(delivery) == b""
    assert closed == [False]
