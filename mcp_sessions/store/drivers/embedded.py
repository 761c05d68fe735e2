"""Calls without Redis: the same scripts on an engine in this process. For one process; nothing survives it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mcp_sessions.connections.listener import BATCH
from mcp_sessions.connections.round_trips import Job
from mcp_sessions.engine import Engine
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.synchronous import SyncRunner
from mcp_sessions.store.keys import Keys

T = TypeVar("T")


class SyncEmbeddedStore(SyncRunner):
    """See `drivers.SyncStore`."""

    shared = False

    def __init__(self, keys: Keys, engine: Engine) -> None:
        super().__init__(keys)
        self.engine = self.server = engine

    def inbox(self, node: str) -> bytes:
        """The key of a node's notifications."""
        return self._keys.resolve("", [nodes.inbox(node)])[0].encode()

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        return [self.engine.eval(script.text, keys, arguments) for script, keys, arguments in jobs]


class EmbeddedStore:
    """See `drivers.Store`. The only one on its engine; event loops may run in several threads."""

    shared = False

    def __init__(self, sync: SyncEmbeddedStore) -> None:
        #: The face for threads.
        self.sync = sync
        self._lock = threading.Lock()
        self._waiters: dict[bytes, list[_Waiter]] = {}
        sync.engine.on_append = self._wake

    async def run(self, work: Call[T] | Operation[T], /) -> T:
        return self.sync.run(work)

    async def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        return self.sync.run_all(calls)

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        engine, key, waiter = self.sync.engine, self.sync.inbox(node), _Waiter()
        with self._lock:
            self._waiters.setdefault(key, []).append(waiter)
        try:
            entries = engine.xread(key, after.encode(), BATCH)
            if not entries:
                await waiter.wait(block_ms)
                entries = engine.xread(key, after.encode(), BATCH)
        finally:
            with self._lock:
                self._waiters[key].remove(waiter)
                if not self._waiters[key]:
                    del self._waiters[key]
        return (entries[-1][0].decode() if entries else after), [fields[b"d"] for _, fields in entries]

    async def aclose(self) -> None:
        """Nothing to close."""

    def _wake(self, key: bytes) -> None:
        with self._lock:
            for waiter in self._waiters.get(key, ()):
                waiter.wake()


class _Waiter:
    """Waits for notifications in the event loop that makes it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """From any thread. A loop that is closed waits for nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self, milliseconds: int) -> None:
        """Until it is woken, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                await self._woken.wait()
