"""Broadcasts, which every node reads: what every driver promises."""

import asyncio

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.calls.nodes import BROADCASTS_READ, MOST_BROADCASTS
from tests.store.harness import MINUTE, Harness
from tests.support.redis import RedisServer


async def read_all(harness: Harness, after: str) -> list[bytes]:
    """Everything that a node reads, in as many calls as it takes."""
    found: list[bytes] = []
    while True:
        after, broadcasts = await harness.store.run(nodes.broadcasts(after=after))
        if not broadcasts:
            return found
        found += broadcasts


async def test_a_node_that_starts_to_read_has_missed_nothing(harness: Harness) -> None:
    await harness.other.run(nodes.broadcast(b"before"))

    after, broadcasts = await harness.store.run(nodes.broadcasts(after=""))

    assert list(broadcasts) == []
    assert await read_all(harness, after) == []


async def test_a_node_that_could_not_read_before_reads_what_was_posted_meanwhile(harness: Harness) -> None:
    await harness.other.run(nodes.broadcast(b"meanwhile"))

    _, broadcasts = await harness.store.run(nodes.broadcasts(after="", age_ms=MINUTE))

    assert list(broadcasts) == [b"meanwhile"]


async def test_broadcasts_come_in_order_to_every_reader(harness: Harness) -> None:
    places = [(await store.run(nodes.broadcasts(after="")))[0] for store in (harness.store, harness.other)]

    await harness.store.run(nodes.broadcast(b"one\x00\xff"))
    await harness.other.run(nodes.broadcast(b"two"))
    await asyncio.to_thread(harness.sync.run, nodes.broadcast(b"three"))

    for store, after in zip((harness.store, harness.other), places, strict=True):
        _, broadcasts = await store.run(nodes.broadcasts(after=after))
        assert list(broadcasts) == [b"one\x00\xff", b"two", b"three"]


async def test_reading_goes_on_where_it_stopped(harness: Harness) -> None:
    after, _ = await harness.store.run(nodes.broadcasts(after=""))
    await harness.other.run(nodes.broadcast(b"one"))
    after, broadcasts = await harness.store.run(nodes.broadcasts(after=after))
    assert list(broadcasts) == [b"one"]
    assert await harness.store.run(nodes.broadcasts(after=after)) == (after, [])

    await harness.other.run(nodes.broadcast(b"two"))

    assert await read_all(harness, after) == [b"two"]


async def test_a_broadcast_of_the_same_millisecond_as_the_last_one_that_was_read_is_read(
    redis_harness: Harness, redis_server: RedisServer
) -> None:
    """Ids have two parts: 5-0 and 5-1 are of the same millisecond."""
    key = redis_harness.key("", "broadcasts")
    with redis_server.client() as redis:
        redis.delete(key)
        for number, entry in enumerate(("5-0", "5-1", "5-2", "6-0", "6-1")):
            redis.xadd(key, {"d": str(number)}, id=entry)
            after = ["4-0", "5-0", "5-1", "5-2", "6-0"][number]
            _, new = await redis_harness.store.run(nodes.broadcasts(after=after))
            assert list(new) == [b"%d" % number]
            _, again = await redis_harness.store.run(nodes.broadcasts(after=entry))
            assert list(again) == []
        redis.delete(key)


async def test_one_call_reads_a_bounded_number_of_broadcasts(harness: Harness) -> None:
    start, _ = await harness.store.run(nodes.broadcasts(after=""))
    posted = [b"%d" % number for number in range(BROADCASTS_READ + 10)]
    for broadcast in posted:
        await harness.other.run(nodes.broadcast(broadcast))

    _, some = await harness.store.run(nodes.broadcasts(after=start))

    assert list(some) == posted[:BROADCASTS_READ]
    assert await read_all(harness, start) == posted


async def test_the_newest_broadcasts_are_kept_when_there_are_too_many(harness: Harness) -> None:
    start, _ = await harness.store.run(nodes.broadcasts(after=""))
    for first in range(0, MOST_BROADCASTS + 1_000, 500):
        await asyncio.gather(
            *[harness.other.run(nodes.broadcast(b"%d" % n)) for n in range(first, first + 500)]
        )

    kept = await read_all(harness, start)

    assert MOST_BROADCASTS <= len(kept) < MOST_BROADCASTS + 500
    assert kept[-1] == b"%d" % (MOST_BROADCASTS + 999)
