"""What a stream does with a client that reads more slowly than the server writes, or stays too long."""

import asyncio
from typing import Any

import pytest

from mcp_sessions import wire
from mcp_sessions.delivery import MAX_QUEUED_BYTES, Delivery

FOR_EVER = 3600.0


async def delivered(delivery: Delivery, *, max_seconds: float = FOR_EVER) -> bytes:
    """What leaves on the wire, for a client that stays."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    await delivery.run(receive, send, max_seconds=max_seconds)
    assert sent[-1]["more_body"] is False
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.protocol("H9")
async def test_a_stream_that_is_closed_before_its_response_says_when_to_come_back() -> None:
    delivery = Delivery()
    delivery.put(b"x" * MAX_QUEUED_BYTES)
    delivery.put(b"one more")
    assert await delivered(delivery) == wire.OPENING + b"retry: 1000\n\n"


@pytest.mark.protocol("H9")
async def test_a_stream_that_was_open_for_long_enough_says_so_and_ends() -> None:
    assert await delivered(Delivery(), max_seconds=0) == wire.OPENING + b"retry: 100\n\n"


async def test_a_stream_with_its_response_just_ends() -> None:
    delivery = Delivery()
    delivery.put(b"data: response\n\n")
    delivery.end()
    assert await delivered(delivery) == wire.OPENING + b"data: response\n\n"


def test_one_message_that_is_larger_than_the_queue_is_delivered() -> None:
    delivery = Delivery()
    delivery.put(b"x" * (MAX_QUEUED_BYTES + 1))
    assert delivery.open


async def test_nothing_is_queued_on_a_stream_that_was_closed() -> None:
    delivery = Delivery()
    delivery.close()
    delivery.put(b"data: late\n\n")
    assert await delivered(delivery) == wire.OPENING
