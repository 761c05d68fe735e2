"""A node whose store fails, and that is told too much: it goes on, and says once what is wrong."""

import asyncio
import json
import logging

import pytest

from mcp_sessions import ids
from mcp_sessions.cluster import node as cluster_node
from mcp_sessions.cluster.notifications import BroadcastsPosted, encode
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from tests.cluster.hearing import BOUND, Hearing, Store, announced, started


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_node, "PAUSE_SECONDS", 0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.logs_fault("RuntimeError")
async def test_an_inbox_that_cannot_be_read_is_read_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    store.inbox = [
        StoreUnavailable("away"),
        RuntimeError("on purpose"),
        [encode(announced("first")), encode(announced("second"))],
    ]
    async with started(store) as hearing:
        await hearing.until(lambda: hearing.heard == ["first", "second"])
    assert caplog.text.count("The inbox cannot be read: away") == 1
    assert caplog.text.count("RuntimeError: on purpose") == 1


@pytest.mark.logs_fault("RuntimeError")
async def test_streams_are_looked_after_again_after_a_failure(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(store) as hearing:
        hearing.on_beat = [StoreUnavailable("away"), RuntimeError("on purpose")]
        await hearing.until(lambda: hearing.looked_after >= 4)
    assert caplog.text.count("RuntimeError: on purpose") == 1


@pytest.mark.logs_fault("RuntimeError")
async def test_a_heartbeat_that_fails_for_any_reason_is_followed_by_the_next(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(store) as hearing:
        broken = [RuntimeError("on purpose")]
        register, beaten = hearing.node._register, asyncio.Event()

        async def fail_once() -> None:
            if broken:
                raise broken.pop()
            await register()
            beaten.set()

        monkeypatch.setattr(hearing.node, "_register", fail_once)
        await asyncio.wait_for(beaten.wait(), BOUND)
    assert caplog.text.count("RuntimeError: on purpose") == 1


async def test_whether_a_node_reaches_the_store_is_known(store: Store) -> None:
    store.away = True
    async with started(store) as hearing:
        assert (hearing.node.has_joined, hearing.node.is_in_touch) == (False, False)
        store.away = False
        await hearing.until(lambda: hearing.node.is_in_touch)
        assert hearing.node.has_joined
        store.away = True
        await hearing.until(lambda: not hearing.node.is_in_touch)
        assert hearing.node.has_joined
        store.away = False


async def test_a_node_that_stops_is_forgotten_at_once_unless_the_store_is_away(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mcp_sessions")
    async with started(store) as one, started(store) as other:
        assert {each.id for each in await store.run(nodes.list_nodes())} == {one.node.id, other.node.id}
        await other.node.stop()
        assert [each.id for each in await store.run(nodes.list_nodes())] == [one.node.id]
        store.away = True
        await one.node.stop()
        assert f"Node {one.node.id} could not sign off" in caplog.text


async def test_signs_of_life_do_not_wait_for_a_broadcast(store: Store) -> None:
    async with started(store) as hearing:
        store.posting = asyncio.Event()
        posting = asyncio.create_task(hearing.node.broadcast(announced("slow")))
        before = store.beats
        await hearing.until(lambda: store.beats > before + 3)
        assert not posting.done()
        store.posting.set()
        assert await posting


async def test_notifications_beyond_a_bound_are_dropped_until_the_waiting_ones_are_sent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_node, "MAX_WAITING", 2)
    async with started(store) as hearing:
        for method in ("first", "second", "third"):
            hearing.node.notify("another", announced(method))
        await hearing.until(lambda: store.notified)
        for method in ("fourth", "fifth", "sixth"):
            hearing.node.notify("another", announced(method))
        await hearing.until(lambda: len(store.notified) == 2)
    assert store.notified[:2] == [
        [("another", [announced("first"), announced("second")])],
        [("another", [announced("fourth"), announced("fifth")])],
    ]


async def test_notifications_that_are_lost_hold_up_no_later_ones(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    async with started(store) as hearing:
        store.away = True
        hearing.node.notify("another", announced("lost"))
        await hearing.until(lambda: "Notifications were lost: away" in caplog.text)
        store.away = False
        hearing.node.notify("another", announced("next"))
        await hearing.until(lambda: store.notified)
        assert store.notified == [[("another", [announced("next")])]]


async def test_the_others_are_told_and_the_node_itself_is_not(store: Store) -> None:
    async with started(store) as one, started(store) as other:
        await one.node.notify_others(announced("x"))
        assert store.notified == [[(other.node.id, [announced("x")])]]
        await one.node.broadcast(announced("y"))
        assert store.notified[1:] == [[(other.node.id, [BroadcastsPosted()])]]
        await one.until(lambda: one.heard == ["y"])


async def test_of_broadcasts_that_wait_for_the_store_the_newest_are_posted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_node, "MAX_UNPOSTED", 2)
    async with started(store) as hearing:
        store.posting = asyncio.Event()
        posting = [asyncio.create_task(hearing.node.broadcast(announced(each))) for each in "abcd"]
        for _ in range(5):
            await asyncio.sleep(0)
        store.posting.set()
        assert await asyncio.gather(*posting) == [True] * 4
        await hearing.until(lambda: len(hearing.heard) == 3)
        assert hearing.heard == ["a", "c", "d"], "b made room, and a was being posted"


@pytest.mark.parametrize(("way", "left"), [([0.5], 0), ([9.0, 3.0], 0), ([2.0, 3.9], 0), ([2.0] * 9, 5)])
async def test_what_is_said_while_the_first_look_is_on_its_way_is_heard_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch, way: list[float], left: int
) -> None:
    loop, seconds = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
    store = Store(lambda: round((1_800_000_000 + seconds) * 1000))

    async def travel() -> None:
        nonlocal seconds
        seconds += way.pop(0) if way else 0

    way, store.before_reading = list(way), travel
    await store.run(nodes.broadcast(encode(announced("long ago"), name="0")))
    seconds = 60.0
    async with started(store) as hearing:
        await store.run(nodes.broadcast(encode(announced("now"), name="1")))
        await hearing.until(lambda: hearing.heard)
        assert len(way) >= left, "it need not be quicker than a second"
    assert hearing.heard == ["now"]


async def test_names_of_broadcasts_are_forgotten_and_those_of_the_last_ones_are_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_node, "MOST_REPEATED", 2)
    hearing = Hearing(store)
    for name in "abbca":
        hearing.node._receive(encode(announced(name), name=name))
    assert hearing.heard == ["a", "b", "c", "a"]


async def test_a_node_with_another_secret_key_is_named_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for name, keys in (("stranger", ["0" * 8]), ("silent", []), ("friend", ids.key_digests())):
        about = json.dumps({"host": "h", "pid": 1, "keys": keys})
        await store.run(nodes.beat(name, about=about, forget_after_ms=60_000))
    async with started(store) as hearing:
        await hearing.until(lambda: hearing.looked_after > 3)
    assert caplog.text.count("another SECRET_KEY") == 1
    assert "another SECRET_KEY than 1 of 3 others (stranger)" in caplog.text
    caplog.clear()
    await store.run(nodes.leave("stranger"))
    async with started(store):
        pass
    assert "SECRET_KEY" not in caplog.text


async def test_a_node_says_of_itself_where_it_runs_and_which_keys_it_has(store: Store) -> None:
    async with started(store) as hearing:
        [known] = await store.run(nodes.list_nodes())
        assert known.id == hearing.node.id
        assert known.told().keys() == {"host", "pid", "keys"}
        assert known.keys == list(ids.key_digests())
