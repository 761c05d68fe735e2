"""Nodes and their notifications: what every driver promises."""

import asyncio
import json
from typing import Any

import pytest

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.calls.nodes import NodeEntry
from tests.store.harness import MINUTE, Harness

#: Milliseconds for which to wait for a notification that comes, and for one that does not.
LONG, SHORT = 20_000, 20


async def join(harness: Harness, *names: str) -> None:
    for node in names:
        await harness.store.run(nodes.beat(node, about=f'{{"of": "{node}"}}', forget_after_ms=MINUTE))


async def start(harness: Harness, node: str) -> str:
    """The position from which a node reads its inbox, which is empty."""
    after, notifications = await harness.store.listen(node, after="0-0", block_ms=1)
    assert list(notifications) == []
    return after


async def test_a_node_is_known_to_every_process(harness: Harness) -> None:
    await join(harness, "b", "a")

    found = await harness.other.run(nodes.list_nodes())

    now = harness.clock()
    assert found == [
        NodeEntry(id="a", about='{"of": "a"}', seen_ms=now),
        NodeEntry(id="b", about='{"of": "b"}', seen_ms=now),
    ]
    assert harness.sync.run(nodes.list_nodes()) == found


async def test_a_node_is_forgotten_when_its_heartbeats_stop(harness: Harness) -> None:
    await join(harness, "a", "b")
    harness.advance(MINUTE // 2)
    await join(harness, "b")
    harness.advance(MINUTE // 2 + 1)
    await join(harness, "b")

    assert [node.id for node in await harness.store.run(nodes.list_nodes())] == ["b"]


async def test_a_clock_that_is_set_back_keeps_no_dead_node(harness: Harness) -> None:
    await join(harness, "dead", "alive")
    harness.clock.advance(-10 * MINUTE)
    await join(harness, "alive")
    assert [node.id for node in await harness.store.run(nodes.list_nodes())] == ["alive", "dead"]

    harness.clock.advance(MINUTE // 2)
    await join(harness, "alive")
    harness.clock.advance(MINUTE // 2 + 1)
    await join(harness, "alive")

    assert [node.id for node in await harness.store.run(nodes.list_nodes())] == ["alive"]


async def test_every_node_is_forgotten_when_all_heartbeats_stop(harness: Harness) -> None:
    await join(harness, "a")
    harness.advance(MINUTE + 1)
    await join(harness, "b")
    await harness.store.run(nodes.leave("b"))

    assert list(await harness.store.run(nodes.list_nodes())) == []


async def test_a_node_that_leaves_is_forgotten_at_once(harness: Harness) -> None:
    await join(harness, "a", "b")

    for _ in range(2):
        await harness.store.run(nodes.leave("a"))

    assert [node.id for node in await harness.store.run(nodes.list_nodes())] == ["b"]


async def test_notifications_arrive_in_order(harness: Harness) -> None:
    await join(harness, "a", "b")
    after = {node: await start(harness, node) for node in "ab"}

    await harness.other.run(nodes.notify({"a": [b"one", b"two"], "b": [b"three"], "unknown": [b"four"]}))
    harness.sync.run(nodes.notify({"a": [b"five\x00\xff"], "b": []}))

    _, of_a = await harness.store.listen("a", after=after["a"], block_ms=LONG)
    _, of_b = await harness.store.listen("b", after=after["b"], block_ms=LONG)
    assert (list(of_a), list(of_b)) == ([b"one", b"two", b"five\x00\xff"], [b"three"])


async def test_listening_goes_on_where_it_stopped(harness: Harness) -> None:
    await join(harness, "a")
    after = await start(harness, "a")
    heard: list[bytes] = []
    for n in range(5):
        await harness.store.run(nodes.notify({"a": [b"%d" % n]}))
        after, notifications = await harness.store.listen("a", after=after, block_ms=LONG)
        heard += notifications
    again, nothing = await harness.store.listen("a", after=after, block_ms=SHORT)

    assert heard == [b"0", b"1", b"2", b"3", b"4"]
    assert (again, list(nothing)) == (after, [])


async def test_a_node_that_begins_to_listen_hears_what_came_since_it_registered(harness: Harness) -> None:
    await join(harness, "a")
    await harness.other.run(nodes.notify({"a": [b"one"]}))
    after, notifications = await harness.store.listen("a", after="0-0", block_ms=LONG)
    assert list(notifications) == [b"one"]
    await harness.other.run(nodes.notify({"a": [b"two"]}))
    _, notifications = await harness.store.listen("a", after=after, block_ms=LONG)
    assert list(notifications) == [b"two"]


async def test_a_notification_ends_the_waiting(harness: Harness) -> None:
    await join(harness, "a")
    after = await start(harness, "a")
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)
    assert not waiting.done()

    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    async with asyncio.timeout(LONG / 2000):
        _, notifications = await waiting
    assert list(notifications) == [b"ding"]


async def test_a_notification_from_a_thread_ends_the_waiting(harness: Harness) -> None:
    await join(harness, "a")
    after = await start(harness, "a")
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)

    await asyncio.to_thread(harness.sync.run, nodes.notify({"a": [b"ding"]}))

    async with asyncio.timeout(LONG / 2000):
        _, notifications = await waiting
    assert list(notifications) == [b"ding"]


async def test_notifications_between_two_calls_are_not_lost(harness: Harness) -> None:
    await join(harness, "a")
    after = await start(harness, "a")
    await harness.other.run(nodes.notify({"a": [b"one"]}))
    await harness.other.run(nodes.notify({"a": [b"two"]}))

    _, notifications = await harness.store.listen("a", after=after, block_ms=LONG)

    assert list(notifications) == [b"one", b"two"]


async def test_a_listener_that_stops_waiting_takes_no_notification(harness: Harness) -> None:
    await join(harness, "a")
    after = await start(harness, "a")
    waiting = asyncio.create_task(harness.store.listen("a", after=after, block_ms=LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()

    await harness.other.run(nodes.notify({"a": [b"ding"]}))

    _, notifications = await harness.store.listen("a", after=after, block_ms=LONG)
    assert list(notifications) == [b"ding"]


async def test_a_notification_to_all_reaches_every_node(harness: Harness) -> None:
    await join(harness, "a", "b")
    after = {node: await start(harness, node) for node in "ab"}

    await harness.other.run(nodes.notify_all(b"fire"))
    harness.sync.run(nodes.notify_all(b"all clear"))

    for node in "ab":
        _, notifications = await harness.store.listen(node, after=after[node], block_ms=LONG)
        assert list(notifications) == [b"fire", b"all clear"]


async def test_notifications_for_nodes_that_are_gone_are_dropped(harness: Harness) -> None:
    await join(harness, "a")
    await harness.store.run(nodes.leave("a"))
    await harness.other.run(nodes.notify({"a": [b"ding"]}))
    await harness.other.run(nodes.notify({}))
    await join(harness, "a")

    _, notifications = await harness.store.listen("a", after="0", block_ms=SHORT)

    assert list(notifications) == []


@pytest.mark.parametrize(
    ("about", "told", "keys"),
    [
        ('{"keys": ["a", 1], "of": "x"}', {"keys": ["a", 1], "of": "x"}, ["a", "1"]),
        ('{"keys": "a"}', {"keys": "a"}, []),
        ("{}", {}, []),
        ("[1]", {}, []),
        ("no json", {}, []),
    ],
)
def test_what_a_node_tells_is_read_if_it_can_be(about: str, told: dict[str, Any], keys: list[str]) -> None:
    entry = NodeEntry(id="a", about=about, seen_ms=0)
    assert (entry.told(), entry.keys) == (told, keys)


@pytest.mark.parametrize(
    ("theirs", "ours", "shares"),
    [
        (["new"], ["new"], True),
        (["new", "old"], ["old", "new"], True),
        (["new"], ["old", "new"], False),
        (["new", "old"], ["old"], False),
        (["other"], ["new"], False),
        ([], ["new"], True),
    ],
)
def test_nodes_share_keys_if_each_knows_that_with_which_the_other_signs(
    theirs: list[str], ours: list[str], shares: bool
) -> None:
    entry = NodeEntry(id="a", about=json.dumps({"keys": theirs}), seen_ms=0)
    assert entry.shares_keys(ours) == shares
