"""Nodes and their doorbells: what every implementation promises."""

import asyncio

from mcp_sessions.store.streaming import Node
from tests.store.stream_worlds import Streams
from tests.store.worlds import MINUTE

#: Milliseconds for which to wait for a doorbell that comes, and for one that does not.
LONG, SHORT = 20_000, 20


async def join(streams: Streams, *nodes: str) -> None:
    for node in nodes:
        await streams.store.beat(node, about=f'{{"of": "{node}"}}', forget_after_ms=MINUTE)


async def newest(streams: Streams, node: str) -> str:
    """Where a node that starts to listen now goes on."""
    after, doorbells = await streams.store.listen(node, after="", block_ms=1)
    assert list(doorbells) == []
    return after


async def test_a_node_is_known_to_every_process(streams: Streams) -> None:
    await join(streams, "b", "a")

    nodes = await streams.other.nodes()

    now = streams.world.clock()
    assert nodes == [
        Node(id="a", about='{"of": "a"}', seen_ms=now),
        Node(id="b", about='{"of": "b"}', seen_ms=now),
    ]
    assert streams.directory.nodes() == nodes


async def test_a_node_is_forgotten_when_its_heart_stops(streams: Streams) -> None:
    await join(streams, "a", "b")
    streams.advance(MINUTE // 2)
    await join(streams, "b")
    streams.advance(MINUTE // 2 + 1)
    await join(streams, "b")

    assert [node.id for node in await streams.store.nodes()] == ["b"]


async def test_when_every_heart_stops_every_node_is_forgotten(streams: Streams) -> None:
    await join(streams, "a")
    streams.advance(MINUTE + 1)
    await join(streams, "b")
    await streams.store.leave("b")

    assert list(await streams.store.nodes()) == []


async def test_a_node_that_leaves_is_forgotten_at_once(streams: Streams) -> None:
    await join(streams, "a", "b")

    for _ in range(2):
        await streams.store.leave("a")

    assert [node.id for node in await streams.store.nodes()] == ["b"]


async def test_doorbells_arrive_in_order(streams: Streams) -> None:
    await join(streams, "a", "b")
    after = {node: await newest(streams, node) for node in "ab"}

    await streams.other.ring({"a": [b"one", b"two"], "b": [b"three"], "unknown": [b"four"]})
    streams.directory.ring({"a": [b"five\x00\xff"], "b": []})

    _, of_a = await streams.store.listen("a", after=after["a"], block_ms=LONG)
    _, of_b = await streams.store.listen("b", after=after["b"], block_ms=LONG)
    assert (list(of_a), list(of_b)) == ([b"one", b"two", b"five\x00\xff"], [b"three"])


async def test_listening_goes_on_where_it_stopped(streams: Streams) -> None:
    await join(streams, "a")
    after = await newest(streams, "a")
    heard: list[bytes] = []
    for n in range(5):
        await streams.store.ring({"a": [b"%d" % n]})
        after, doorbells = await streams.store.listen("a", after=after, block_ms=LONG)
        heard += doorbells
    again, nothing = await streams.store.listen("a", after=after, block_ms=SHORT)

    assert heard == [b"0", b"1", b"2", b"3", b"4"]
    assert (again, list(nothing)) == (after, [])


async def test_who_begins_to_listen_hears_nothing_old(streams: Streams) -> None:
    await join(streams, "a")
    await streams.other.ring({"a": [b"old"]})
    after = await newest(streams, "a")
    await streams.other.ring({"a": [b"new"]})

    _, doorbells = await streams.store.listen("a", after=after, block_ms=LONG)

    assert list(doorbells) == [b"new"]


async def test_a_doorbell_ends_the_waiting(streams: Streams) -> None:
    await join(streams, "a")
    after = await newest(streams, "a")
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)
    assert not waiting.done()

    await streams.other.ring({"a": [b"ding"]})

    async with asyncio.timeout(LONG / 2000):
        _, doorbells = await waiting
    assert list(doorbells) == [b"ding"]


async def test_a_doorbell_from_a_thread_ends_the_waiting(streams: Streams) -> None:
    await join(streams, "a")
    after = await newest(streams, "a")
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)

    await asyncio.to_thread(streams.directory.ring, {"a": [b"ding"]})

    async with asyncio.timeout(LONG / 2000):
        _, doorbells = await waiting
    assert list(doorbells) == [b"ding"]


async def test_what_was_rung_between_two_calls_is_not_lost(streams: Streams) -> None:
    await join(streams, "a")
    after = await newest(streams, "a")
    await streams.other.ring({"a": [b"one"]})
    await streams.other.ring({"a": [b"two"]})

    _, doorbells = await streams.store.listen("a", after=after, block_ms=LONG)

    assert list(doorbells) == [b"one", b"two"]


async def test_who_stops_waiting_takes_nothing_with_him(streams: Streams) -> None:
    await join(streams, "a")
    after = await newest(streams, "a")
    waiting = asyncio.create_task(streams.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()

    await streams.other.ring({"a": [b"ding"]})

    _, doorbells = await streams.store.listen("a", after=after, block_ms=LONG)
    assert list(doorbells) == [b"ding"]


async def test_ringing_at_everybody_reaches_every_node(streams: Streams) -> None:
    await join(streams, "a", "b")
    after = {node: await newest(streams, node) for node in "ab"}

    await streams.other.ring_all(b"fire")
    streams.directory.ring_all(b"all clear")

    for node in "ab":
        _, doorbells = await streams.store.listen(node, after=after[node], block_ms=LONG)
        assert list(doorbells) == [b"fire", b"all clear"]


async def test_doorbells_for_nodes_that_are_gone_are_dropped(streams: Streams) -> None:
    await join(streams, "a")
    await streams.store.leave("a")
    await streams.other.ring({"a": [b"ding"]})
    await streams.other.ring({})
    await join(streams, "a")

    _, doorbells = await streams.store.listen("a", after="0", block_ms=SHORT)

    assert list(doorbells) == []
