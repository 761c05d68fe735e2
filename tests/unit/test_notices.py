"""What every node must hear: read once, in order, and posted when the store comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_sessions.cluster.node import Bus, Doorbell
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.engine import Engine
from mcp_sessions.store.keys import Keys


class Store(EmbeddedStore):
    """A store that can be away, loses notifications, and lets a test step between a read and its reply."""

    def __init__(self) -> None:
        super().__init__(SyncEmbeddedStore(Keys("notices", str), Engine()))
        self.away = False
        self.replies_are_lost = False
        self.reading: asyncio.Event | None = None
        self.go_on = asyncio.Event()

    async def run(self, work: Any, /) -> Any:
        if self.away or not isinstance(work, Call):  # a notification of every node is an operation
            raise StoreUnavailable
        result = await super().run(work)
        if work.script is nodes.BROADCAST and self.replies_are_lost:
            raise StoreUnavailable
        if work.script is nodes.BROADCASTS and self.reading is not None:
            self.reading.set()
            await self.go_on.wait()
        return result


class Node:
    """A node, and what it heard. `beat` is its heartbeat, when the test says so."""

    def __init__(self, store: Store) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self._due, self._beaten = asyncio.Event(), asyncio.Event()
        self.bus = Bus(store, answer=self._answer, on_beat=self._on_beat, pause=lambda: 0)

    def _answer(self, doorbell: Doorbell) -> None:
        self.heard.put_nowait(doorbell["t"])

    async def _on_beat(self) -> None:
        self._beaten.set()
        await self._due.wait()
        self._due.clear()

    async def beat(self) -> None:
        """One whole heartbeat."""
        self._beaten.clear()
        self._due.set()
        await asyncio.wait_for(self._beaten.wait(), 10)

    async def hears(self) -> str:
        return await asyncio.wait_for(self.heard.get(), 10)


@pytest.fixture
def store() -> Store:
    return Store()


@asynccontextmanager
async def joined(store: Store) -> AsyncIterator[Node]:
    node = Node(store)
    await node.bus.start()
    await asyncio.wait_for(node._beaten.wait(), 10)
    try:
        yield node
    finally:
        store.away = False
        await node.bus.stop()


async def test_without_doorbells_a_heartbeat_finds_them(store: Store) -> None:
    async with joined(store) as one, joined(store) as other:
        await one.bus.post({"t": "first"})
        await one.bus.post({"t": "second"})
        assert [await one.hears(), await one.hears()] == ["first", "second"]
        assert other.heard.empty()

        await other.beat()

        assert [await other.hears(), await other.hears()] == ["first", "second"]
        await other.beat()
        assert other.heard.empty()


async def test_a_notice_that_comes_while_notices_are_read_is_read_too(store: Store) -> None:
    async with joined(store) as node:
        store.reading = asyncio.Event()
        await node.bus.post({"t": "first"})
        await store.reading.wait()
        store.reading = None
        await node.bus.post({"t": "second"})
        store.go_on.set()
        assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_what_the_store_could_not_take_is_posted_by_a_heartbeat(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(store) as one, joined(store) as other:
        store.away = True
        await one.bus.post({"t": "first"})
        await one.bus.post({"t": "second"})
        assert "told later" in caplog.text
        store.away = False

        await one.beat()
        await other.beat()

        for node in (one, other):
            assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_a_notice_goes_behind_those_that_wait(store: Store) -> None:
    async with joined(store) as one:
        store.away = True
        await one.bus.post({"t": "first"})
        store.away = False
        await one.bus.post({"t": "second"})
        assert [await one.hears(), await one.hears()] == ["first", "second"]


async def test_a_notice_that_is_posted_again_because_a_reply_was_lost_is_heard_once(store: Store) -> None:
    async with joined(store) as one, joined(store) as other:
        store.replies_are_lost = True
        await one.bus.post({"t": "first"})
        store.replies_are_lost = False
        await one.bus.post({"t": "second"})
        await other.beat()
        for node in (one, other):
            assert [await node.hears(), await node.hears()] == ["first", "second"]


async def test_a_process_that_starts_while_the_store_is_away_hears_what_is_said_from_then_on(
    store: Store,
) -> None:
    async with joined(store) as one:
        store.away = True
        late = Node(store)
        await late.bus.start()
        store.away = False
        await one.bus.post({"t": "first"})
        await late.bus.post({"t": "second"})
        assert [await late.hears(), await late.hears()] == ["first", "second"]
        await late.bus.stop()


async def test_what_waits_is_posted_when_the_process_stops(store: Store) -> None:
    async with joined(store) as other:
        async with joined(store) as one:
            store.away = True
            await one.bus.post({"t": "last"})
        await other.beat()
        assert await other.hears() == "last"


async def test_a_notice_of_another_release_silences_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(store) as node:
        for unreadable in (b"not JSON", b"[]", json.dumps({"no": "type"}).encode()):
            await store.run(nodes.broadcast(unreadable))
        await node.bus.post({"t": "known"})
        assert await node.hears() == "known"
    assert caplog.text.count("could not be answered") == 3
