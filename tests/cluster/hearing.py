"""A node whose store can be away, and what it heard."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import Announced, Notification, decode
from mcp_sessions.engine import Engine
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.keys import Keys

BOUND = 10


class Store(EmbeddedStore):
    """A store that can be away, and whose inboxes give what a test says first."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        super().__init__(SyncEmbeddedStore(Keys("trouble", str), Engine(clock)))
        self.away = False
        #: Called before broadcasts are read.
        self.before_reading: Callable[[], Awaitable[None]] | None = None
        #: What `listen` raises or gives before it listens.
        self.inbox: list[BaseException | Sequence[bytes]] = []
        #: The notifications of each round trip, by node.
        self.notified: list[list[tuple[str, list[Any]]]] = []
        self.posting: asyncio.Event | None = None
        self.beats = 0
        #: From where each inbox was read, and for how long at most.
        self.listened: list[tuple[str, str, int]] = []

    async def run(self, work: Any, /) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        if not isinstance(work, Call):
            [calls] = [list(batch) for batch in work]
            self.notified.append(
                [
                    (each.arguments[0], [decode(told).notification for told in each.arguments[2:]])
                    for each in calls
                ]
            )
            return None
        self.beats += work.script is nodes.BEAT
        if work.script is nodes.BROADCAST and self.posting is not None:
            await self.posting.wait()
        if work.script is nodes.BROADCASTS and self.before_reading is not None:
            await self.before_reading()
        return await super().run(work)

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        self.listened.append((node, after, block_ms))
        if not self.inbox:
            await asyncio.Event().wait()
        first = self.inbox.pop(0)
        if isinstance(first, BaseException):
            raise first
        return str(len(self.listened)), first


def announced(method: str) -> Announced:
    return Announced(method=method, uri=None)


class Hearing:
    """A node, and what it heard. Its heartbeats follow each other at once, unless there is a pause."""

    def __init__(self, store: Store, *, pause: float = 0) -> None:
        self.heard: list[str] = []
        #: Their names: "" for what is no broadcast.
        self.names: list[str] = []
        self.on_beat: list[BaseException] = []
        self.looked_after = 0
        self.node = Node(cast("Any", store), hear=self._hear, on_beat=self._on_beat, pause=lambda: pause)

    def _hear(self, notification: Notification, name: str) -> None:
        assert isinstance(notification, Announced)
        self.heard.append(notification.method)
        self.names.append(name)

    async def _on_beat(self) -> None:
        self.looked_after += 1
        if self.on_beat:
            raise self.on_beat.pop(0)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(BOUND):
            while not condition():
                await asyncio.sleep(0)


@asynccontextmanager
async def started(store: Store, *, pause: float = 0) -> AsyncIterator[Hearing]:
    hearing = Hearing(store, pause=pause)
    await hearing.node.start()
    try:
        yield hearing
    finally:
        await hearing.node.stop()
