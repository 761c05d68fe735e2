"""A steady stream of calls that must not be done twice, while a test takes servers away; and their outcome."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import sessions, state
from tests.store.harness import Harness

#: Seconds between two calls of a client, unless a test says otherwise.
PACE: Final = 0.13


@dataclass(kw_only=True)
class Outcome:
    """What one client saw."""

    #: What was acknowledged, and when.
    appended: list[tuple[int, float]] = field(default_factory=list)
    #: When calls failed.
    failed: list[float] = field(default_factory=list)
    #: Seconds that the slowest call took.
    slowest: float = 0.0


@dataclass(kw_only=True)
class Load:
    """Clients that append to the states of their sessions, one of them in a thread, and one that ends sessions."""

    harness: Harness
    #: Seconds between two calls of a client.
    pace: float = PACE
    #: By session.
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    in_thread: Outcome = field(default_factory=Outcome)
    #: The sessions whose end was acknowledged, and when.
    ended: list[tuple[str, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def acknowledged(self) -> int:
        return sum(len(outcome.appended) for outcome in self.outcomes.values()) + len(self.ended)

    @property
    def failed(self) -> int:
        return sum(len(outcome.failed) for outcome in self.outcomes.values())

    @property
    def slowest(self) -> float:
        return max(outcome.slowest for outcome in self.outcomes.values())

    def forget(self) -> None:
        """Measure from now on; what was acknowledged stays."""
        for outcome in self.outcomes.values():
            outcome.slowest, outcome.failed = 0.0, []

    async def went_on(self, calls: int = 3) -> None:
        """Wait until each client has made so many more calls, successful or not."""
        goals = {fingerprint: self._calls(fingerprint) + calls for fingerprint in self.outcomes}
        while any(self._calls(fingerprint) < goal for fingerprint, goal in goals.items()):
            await self._pause()

    async def lost(self) -> list[float]:
        """When calls were acknowledged that the store does not know of. Fails if one was done twice."""
        found = []
        for fingerprint, outcome in self.outcomes.items():
            values = await self.harness.store.run(state.items(fingerprint))
            kept = values.get("list", [])
            assert len(kept) == len(set(kept)), "done twice"
            found += [when for item, when in outcome.appended if item not in kept]
        for fingerprint, when in self.ended:
            if await self.harness.store.run(sessions.get(fingerprint)) is not None:
                found.append(when)
        return sorted(found)

    async def run(self, clients: int) -> None:
        in_thread, *opened = [await self.harness.open() for _ in range(clients + 1)]
        self.outcomes = {in_thread: self.in_thread, **{fingerprint: Outcome() for fingerprint in opened}}
        async with asyncio.TaskGroup() as group:
            for fingerprint in opened:
                group.create_task(self._append(fingerprint))
            group.create_task(self._end())
            group.create_task(asyncio.to_thread(self._append_in_a_thread, in_thread))

    async def stop(self) -> None:
        self._over.set()
        self._stop.set()

    def _calls(self, fingerprint: str) -> int:
        outcome = self.outcomes[fingerprint]
        return len(outcome.appended) + len(outcome.failed)

    async def _append(self, fingerprint: str) -> None:
        n, outcome = 0, self.outcomes[fingerprint]
        while not self._over.is_set():
            n, begun = n + 1, time.monotonic()
            try:
                await self.harness.store.run(an_append(fingerprint, n))
                outcome.appended.append((n, time.monotonic()))
            except StoreUnavailable:
                outcome.failed.append(begun)
            outcome.slowest = max(outcome.slowest, time.monotonic() - begun)
            await self._pause()

    def _append_in_a_thread(self, fingerprint: str) -> None:
        n = 0
        while not self._over.is_set():
            n, begun = n + 1, time.monotonic()
            try:
                self.harness.sync.run(an_append(fingerprint, n))
                self.in_thread.appended.append((n, time.monotonic()))
            except StoreUnavailable:
                self.in_thread.failed.append(begun)
            self.in_thread.slowest = max(self.in_thread.slowest, time.monotonic() - begun)
            self._over.wait(self.pace / 2)

    async def _end(self) -> None:
        while not self._over.is_set():
            with suppress(StoreUnavailable):
                fingerprint = await self.harness.open()
                if await self.harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted")):
                    self.ended.append((fingerprint, time.monotonic()))
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pace):
                await self._stop.wait()


def an_append(fingerprint: str, item: int) -> Any:
    return state.append(fingerprint, "list", str(item), max_bytes=1_000_000)


@asynccontextmanager
async def load(harness: Harness, clients: int, *, pace: float = PACE) -> AsyncIterator[Load]:
    """Start the clients, and stop them at the end; yields when each has made calls."""
    made = Load(harness=harness, pace=pace)
    running = asyncio.create_task(made.run(clients))
    try:
        while not made.outcomes or not made.ended:
            await made._pause()
        await made.went_on()
        made.forget()
        yield made
    finally:
        await made.stop()
        await running
