"""What a stream does with a client that reads more slowly than the server writes."""

import asyncio
from typing import Any

import pytest

from mcp_sessions import wire
from mcp_sessions.streams import MAX_QUEUED_BYTES, Delivery


async def delivered(delivery: Delivery) -> bytes:
    """What leaves on the wire, for a client that stays."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    await delivery.run(receive, send, headers=(), first=wire.KEEP_ALIVE)
    assert sent[-1]["more_body"] is False
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.protocol("H9")
async def test_a_stream_that_is_closed_before_its_response_says_when_to_come_back() -> None:
    delivery = Delivery()
    assert delivery.put(b"x" * MAX_QUEUED_BYTES)
    assert not delivery.put(b"one more")
    assert await delivered(delivery) == wire.KEEP_ALIVE + b"retry: 1000\n\n"


async def test_a_stream_with_its_response_just_ends() -> None:
    delivery = Delivery()
    assert delivery.put(b"data: response\n\n")
    delivery.end()
    assert await delivered(delivery) == wire.KEEP_ALIVE + b"data: response\n\n"


def test_nothing_is_queued_on_a_stream_that_was_closed() -> None:
    delivery = Delivery()
    delivery.put(b"x" * (MAX_QUEUED_BYTES + 1))
    assert not delivery.open
    assert not delivery.put(b"data: late\n\n")
