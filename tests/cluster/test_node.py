"""What every node must hear: broadcasts are read once, in order, and posted when the store comes back."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mcp_sessions.cluster.node import MOST_SKIPPED_KINDS, Node
from mcp_sessions.cluster.notifications import (
    Announced,
    Notification,
    SessionsEnded,
    encode,
)
from mcp_sessions.engine import Engine
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.keys import Keys


class Store(EmbeddedStore):
    """A store that can be away, loses notifications, and lets a test step between a read and its reply."""

    def __init__(self) -> None:
        super().__init__(SyncEmbeddedStore(Keys("node", str), Engine()))
        self.away = False
        self.replies_are_lost = False
        self.reading: asyncio.Event | None = None
        self.posting: asyncio.Event | None = None
        self.go_on = asyncio.Event()

    async def run(self, work: Any, /) -> Any:
        if isinstance(work, Call) and work.script is nodes.BROADCAST and self.posting is not None:
            self.posting.set()
            await self.go_on.wait()
        if self.away or not isinstance(work, Call):  # notifications are an operation
            raise StoreUnavailable
        result = await super().run(work)
        if work.script is nodes.BROADCAST and self.replies_are_lost:
            raise StoreUnavailable
        if work.script is nodes.BROADCASTS and self.reading is not None:
            self.reading.set()
            await self.go_on.wait()
        return result


class Paced:
    """A node's view of a store: each heartbeat but the first waits until it is due."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.beating = asyncio.Event()
        self.due = asyncio.Event()
        self.due.set()

    async def run(self, work: Any, /) -> Any:
        if isinstance(work, Call) and work.script is nodes.BEAT:
            self.beating.set()
            await self.due.wait()
            self.due.clear()
        return await self._store.run(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Hearing:
    """A node, and the announcements that it heard. `beat` is its heartbeat, when the test says so.

    What it does for its sessions and streams with a heartbeat never ends.
    """

    def __init__(self, store: EmbeddedStore) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.looked_after = 0
        self._paced = Paced(store)
        self.node = Node(cast("Any", self._paced), hear=self._hear, on_beat=self._on_beat, pause=lambda: 0)

    def _hear(self, notification: Notification, name: str) -> None:
        assert isinstance(notification, Announced)
        self.heard.put_nowait(notification.method)

    async def broadcast(self, method: str) -> None:
        await self.node.broadcast(announced(method))

    async def _on_beat(self) -> None:
        self.looked_after += 1
        await asyncio.Event().wait()

    async def joins(self) -> None:
        await self.node.start()
        self._paced.beating.clear()
        await asyncio.wait_for(self._paced.beating.wait(), 10)

    async def beat(self) -> None:
        """One whole heartbeat: the next one is about to begin."""
        self._paced.beating.clear()
        self._paced.due.set()
        await asyncio.wait_for(self._paced.beating.wait(), 10)

    async def hears(self) -> str:
        return await asyncio.wait_for(self.heard.get(), 10)


def announced(method: str) -> Announced:
    return Announced(method=method, uri=None)


@pytest.fixture
def store() -> Store:
    return Store()


@asynccontextmanager
async def joined(store: EmbeddedStore) -> AsyncIterator[Hearing]:
    node = Hearing(store)
    await node.joins()
    try:
        yield node
    finally:
        if isinstance(store, Store):
            store.away = False
        await node.node.stop()


async def test_a_node_that_is_busy_with_its_streams_shows_that_it_is_alive() -> None:
    now = 1_800_000_000_000
    store = EmbeddedStore(SyncEmbeddedStore(Keys("busy", str), Engine(lambda: now)))
    async with joined(store) as node:
        for _ in range(3):
            now += 4_000
            await node.beat()
            [known] = await store.run(nodes.list_nodes())
            assert known.seen_ms == now
        assert node.looked_after == 1


async def test_a_node_learns_that_the_store_had_forgotten_it_or_its_last_heartbeats() -> None:
    now = 1_800_000_000_000
    store = EmbeddedStore(SyncEmbeddedStore(Keys("forgetful", str), Engine(lambda: now)))
    async with joined(store) as hearing:
        node, known = hearing.node, hearing.node.forgotten
        for seconds, times in ((4, 0), (8, 0), (9, 1), (4, 1)):
            now += seconds * 1000
            await hearing.beat()
            assert node.forgotten - known == times
        await store.run(nodes.leave(node.id))
        await hearing.beat()
        assert node.forgotten - known == 2


async def test_without_notifications_a_heartbeat_finds_them(store: Store) -> None:
    async with joined(store) as one, joined(store) as other:
        await one.broadcast("first")
        await one.broadcast("second")
        assert [await one.hears(), await one.hears()] == ["first", "second"]
        assert other.heard.empty()

        await other.beat()

        assert [await other.hears(), await other.hears()] == ["first", "second"]
        await other.beat()
        assert other.heard.empty()


async def test_a_broadcast_that_comes_while_broadcasts_are_read_is_read_too(store: Store) -> None:
    async with joined(store) as node:
        store.reading = asyncio.Event()
        await node.broadcast("first")
        await store.reading.wait()
        store.reading = None
        await node.broadcast("second")
        store.go_on.set()
        assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_what_the_store_could_not_take_is_posted_by_a_heartbeat(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(store) as one, joined(store) as other:
        store.away = True
        await one.broadcast("first")
        await one.broadcast("second")
        assert "told later" in caplog.text
        store.away = False

        await one.beat()
        await other.beat()

        for node in (one, other):
            assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_what_fails_again_and_again_is_logged_at_its_begin_and_at_its_end(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(store) as one:
        store.away = True
        for _ in range(5):
            await one.broadcast("again")
            await one.beat()
        assert sorted(warnings(caplog)) == ["A heartbeat failed: ", "The nodes are told later: "]
        store.away = False
        await one.beat()
        await one.beat()
        [failed] = warnings(caplog)[2:]
        assert failed.startswith(f"Heartbeats of node {one.node.id} that failed: 5 in ")
    [late] = warnings(caplog)[3:]
    assert late.startswith("Messages that the nodes were not told at once: ")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_broadcast_goes_behind_those_that_wait(store: Store) -> None:
    async with joined(store) as one:
        store.away = True
        await one.broadcast("first")
        store.away = False
        await one.broadcast("second")
        assert [await one.hears(), await one.hears()] == ["first", "second"]


async def test_who_tells_while_another_one_posts_knows_afterwards_whether_the_store_has_it(
    store: Store,
) -> None:
    async with joined(store) as one:
        store.posting = asyncio.Event()
        first = asyncio.create_task(one.node.broadcast(announced("first")))
        await asyncio.wait_for(store.posting.wait(), 10)
        second = asyncio.create_task(one.node.broadcast(announced("second")))
        await asyncio.sleep(0)
        store.away = True
        store.go_on.set()
        assert [await first, await second] == [False, False]
        store.away, store.posting = False, None
        await one.beat()
        assert [await one.hears(), await one.hears()] == ["first", "second"]
        assert await one.node.broadcast(announced("third"))


async def test_a_broadcast_that_is_posted_again_because_a_reply_was_lost_is_heard_once(store: Store) -> None:
    async with joined(store) as one, joined(store) as other:
        store.replies_are_lost = True
        await one.broadcast("first")
        store.replies_are_lost = False
        await one.broadcast("second")
        await other.beat()
        for node in (one, other):
            assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_a_process_that_starts_while_the_store_is_away_hears_what_is_said_from_then_on(
    store: Store,
) -> None:
    async with joined(store) as one:
        store.away = True
        late = Hearing(store)
        await late.node.start()
        store.away = False
        await one.broadcast("first")
        await late.broadcast("second")
        assert [await late.hears(), await late.hears()] == ["first", "second"]
        await late.node.stop()


async def test_what_waits_is_posted_when_the_process_stops(store: Store) -> None:
    async with joined(store) as other:
        async with joined(store) as one:
            store.away = True
            await one.broadcast("last")
        await other.beat()
        assert await other.hears() == "last"


async def test_what_another_release_posts_is_skipped_counted_and_logged_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    newer = json.dumps({"version": 1, "type": "SessionMoved", "fields": {}}).encode()
    async with joined(store) as hearing:
        for unreadable in (newer, b"not JSON", newer, b'{"version": 2}', newer):
            await store.run(nodes.broadcast(unreadable))
        await hearing.broadcast("known")
        assert await hearing.hears() == "known"
    assert hearing.node.skipped == {"type 'SessionMoved'": 3, "not JSON": 1, "version 2": 1}
    assert caplog.text.count("Skipped a notification") == 3
    assert caplog.text.count("SessionMoved") == 1


async def test_only_a_few_kinds_that_cannot_be_read_are_counted_separately(store: Store) -> None:
    async with joined(store) as hearing:
        for version in range(2, 2 * MOST_SKIPPED_KINDS + 2):
            await store.run(nodes.broadcast(json.dumps({"version": version}).encode()))
        await hearing.broadcast("known")
        assert await hearing.hears() == "known"
    assert len(hearing.node.skipped) == MOST_SKIPPED_KINDS + 1
    assert hearing.node.skipped.total() == 2 * MOST_SKIPPED_KINDS


async def test_a_notification_that_cannot_be_handled_does_not_stop_the_next_ones(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(store) as hearing:
        await store.run(nodes.broadcast(encode(SessionsEnded(fingerprints=()))))
        await hearing.broadcast("known")
        assert await hearing.hears() == "known"
    assert caplog.text.count("could not be answered") == 1


async def test_a_node_hears_its_own_notifications_without_the_store(store: Store) -> None:
    async with joined(store) as hearing, joined(store) as other:
        store.away = True
        hearing.node.notify(hearing.node.id, announced("to itself"))
        assert hearing.heard.get_nowait() == "to itself"
        assert other.heard.empty()


async def test_notifications_of_one_tick_share_a_round_trip() -> None:
    carried: list[list[Any]] = []

    class Counting(EmbeddedStore):
        async def run(self, work: Any, /) -> Any:
            if isinstance(work, Call):
                return await super().run(work)
            calls = list(work)
            carried.append([call for batch in calls for call in batch])
            return await self.run_all(carried[-1])

    store = Counting(SyncEmbeddedStore(Keys("ticks", str), Engine()))
    async with joined(store) as one, joined(store) as other:
        for method in ("first", "second"):
            one.node.notify(other.node.id, announced(method))
        assert [await other.hears(), await other.hears()] == ["first", "second"]
    [[call]] = carried
    assert list(call.arguments[2:]) == [encode(announced("first")), encode(announced("second"))]


async def test_a_node_that_posts_while_it_stops_leaves_nothing_running(store: Store) -> None:
    before = asyncio.all_tasks()
    async with joined(store) as node:
        store.away = True
        await node.broadcast("late")
        store.reading = asyncio.Event()
        store.away = False
    assert asyncio.all_tasks() == before
