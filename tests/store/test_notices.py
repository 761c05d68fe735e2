"""Notices, which every node reads: what every implementation promises."""

import asyncio

from mcp_sessions.store.stream_commands import MOST_NOTICES, NOTICES_READ
from tests.store.stream_worlds import Streams
from tests.store.worlds import MINUTE


async def read_all(streams: Streams, after: str) -> list[bytes]:
    """What a node reads that reads until there is nothing more."""
    found: list[bytes] = []
    while True:
        after, notices = await streams.store.notices(after=after)
        if not notices:
            return found
        found += notices


async def test_who_starts_to_read_has_missed_nothing(streams: Streams) -> None:
    await streams.other.post(b"before")

    after, notices = await streams.store.notices(after="")

    assert list(notices) == []
    assert await read_all(streams, after) == []


async def test_who_could_not_read_so_far_reads_what_was_posted_meanwhile(streams: Streams) -> None:
    await streams.other.post(b"meanwhile")

    _, notices = await streams.store.notices(after="", age_ms=MINUTE)

    assert list(notices) == [b"meanwhile"]


async def test_notices_come_in_order_to_every_reader(streams: Streams) -> None:
    places = [(await store.notices(after=""))[0] for store in (streams.store, streams.other)]

    await streams.store.post(b"one\x00\xff")
    await streams.other.post(b"two")
    await asyncio.to_thread(streams.directory.post, b"three")

    for store, after in zip((streams.store, streams.other), places, strict=True):
        _, notices = await store.notices(after=after)
        assert list(notices) == [b"one\x00\xff", b"two", b"three"]


async def test_reading_goes_on_where_it_stopped(streams: Streams) -> None:
    after, _ = await streams.store.notices(after="")
    await streams.other.post(b"one")
    after, notices = await streams.store.notices(after=after)
    assert list(notices) == [b"one"]
    assert await streams.store.notices(after=after) == (after, [])

    await streams.other.post(b"two")

    assert await read_all(streams, after) == [b"two"]


async def test_however_many_notices_there_are_one_call_reads_some(streams: Streams) -> None:
    start, _ = await streams.store.notices(after="")
    posted = [b"%d" % number for number in range(NOTICES_READ + 10)]
    for notice in posted:
        await streams.other.post(notice)

    _, some = await streams.store.notices(after=start)

    assert list(some) == posted[:NOTICES_READ]
    assert await read_all(streams, start) == posted


async def test_of_too_many_notices_the_newest_are_kept(streams: Streams) -> None:
    start, _ = await streams.store.notices(after="")
    for first in range(0, MOST_NOTICES + 1_000, 500):
        await asyncio.gather(*[streams.other.post(b"%d" % n) for n in range(first, first + 500)])

    kept = await read_all(streams, start)

    assert MOST_NOTICES <= len(kept) < MOST_NOTICES + 500
    assert kept[-1] == b"%d" % (MOST_NOTICES + 999)
