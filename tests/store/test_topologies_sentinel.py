"""A planned failover under load: what was acknowledged is on the new primary, and what was ended stays ended."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.clients import make_async_client
from mcp_sessions.store.sentinel import Named, newest
from tests.store import harness as harnesses
from tests.store.conftest import disconnect
from tests.store.harness import Harness, a_fingerprint
from tests.support.processes import HOST, wait_until
from tests.support.redis import RedisServer, SentinelTrio, run_sentinels

CLIENTS: Final = 40
#: Seconds between two calls of a client: 300 calls/s in all.
PACE: Final = 0.13
#: Seconds of load before the failover, and after the Sentinels have agreed.
BEFORE, AFTER = 0.5, 2.5
#: Seconds after which nothing may be lost any more, from the moment when the failover was asked for.
WINDOW: Final = 1.0
#: Seconds that a failover with the timeouts of these tests may take on slow cores.
FAILOVER_BOUND: Final = 60.0


@pytest.fixture
def trio() -> Iterator[SentinelTrio]:
    """Sentinels of this test's own: it changes who is primary."""
    with run_sentinels(service=f"sessions-{a_fingerprint()[:8]}") as running:
        yield running


@pytest.fixture
async def harness(trio: SentinelTrio, settings: Settings) -> AsyncIterator[Harness]:
    settings.CACHES = {"default": harnesses.sentinel_cache(trio)}
    made = harnesses.redis_harness("sentinel")
    yield made
    await made.aclose()
    disconnect()


@dataclass(kw_only=True)
class Load:
    """Clients that append to the states of their sessions, on both faces, and one that opens and ends sessions."""

    harness: Harness
    #: By session, what was acknowledged and when.
    appended: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    #: The sessions whose end was acknowledged, and when.
    ended: list[tuple[str, float]] = field(default_factory=list)
    failed: int = 0
    #: Seconds that the slowest call took.
    slowest: float = 0.0
    #: No further calls, of the thread and of the tasks.
    over: threading.Event = field(default_factory=threading.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        opened = [await self.harness.open() for _ in range(CLIENTS + 1)]
        async with asyncio.TaskGroup() as group:
            for fingerprint in opened[1:]:
                group.create_task(self._append(fingerprint))
            group.create_task(self._end())
            group.create_task(asyncio.to_thread(self._append_in_a_thread, opened[0]))

    async def _append(self, fingerprint: str) -> None:
        for n in self._turns(fingerprint):
            await self._timed(self.harness.store.run(an_append(fingerprint, n)), fingerprint, n)
            await self._pause()

    async def _end(self) -> None:
        while not self.over.is_set():
            try:
                fingerprint = await self.harness.open()
                if await self.harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted")):
                    self.ended.append((fingerprint, time.monotonic()))
            except StoreUnavailable:
                self.failed += 1
            await self._pause()

    def _append_in_a_thread(self, fingerprint: str) -> None:
        for n in self._turns(fingerprint):
            try:
                self.harness.sync.run(an_append(fingerprint, n))
                self.appended[fingerprint].append((n, time.monotonic()))
            except StoreUnavailable:
                self.failed += 1
            self.over.wait(PACE / 4)

    async def _timed(self, call: Any, fingerprint: str, n: str) -> None:
        begun = time.monotonic()
        try:
            await call
            self.appended[fingerprint].append((n, time.monotonic()))
        except StoreUnavailable:
            self.failed += 1
        self.slowest = max(self.slowest, time.monotonic() - begun)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PACE):
                await self.stop.wait()

    def _turns(self, fingerprint: str) -> Iterator[str]:
        self.appended[fingerprint] = []
        n = 0
        while not self.over.is_set():
            n += 1
            yield str(n)


def an_append(fingerprint: str, item: str) -> Any:
    return state.append(fingerprint, "list", item, max_bytes=1_000_000)


def lost(load: Load, primary: RedisServer) -> list[float]:
    """When calls were acknowledged whose outcome the primary does not have."""
    harness, found = load.harness, []
    with primary.client() as client:
        for fingerprint, acknowledged in load.appended.items():
            text = client.hget(harness.key(fingerprint, "state"), "list")
            kept = json.loads(text) if text else []
            assert len(kept) == len(set(kept)), "appended twice"
            found += [when for item, when in acknowledged if int(item) not in kept]
        found += [
            when for fingerprint, when in load.ended if client.exists(harness.key(fingerprint, "session"))
        ]
    return found


def fail_over(trio: SentinelTrio) -> float:
    """Ask for a planned failover and wait until the Sentinels agree. Returns when it was asked for."""
    with trio.sentinels[0].client() as client:
        client.sentinel_failover(trio.service)
    begun = time.monotonic()
    wait_until(lambda: trio.primary_port() == trio.replica.port, seconds=FAILOVER_BOUND, what="a failover")
    return begun


@pytest.mark.slow
async def test_a_planned_failover_loses_nothing_that_was_acknowledged_although_a_sentinel_hangs(
    trio: SentinelTrio, harness: Harness
) -> None:
    load = Load(harness=harness)
    running = asyncio.create_task(load.run())
    await asyncio.to_thread(wait_until, lambda: len(load.ended) >= BEFORE / PACE, what="calls")
    trio.sentinels[2].pause()
    try:
        begun = await asyncio.to_thread(fail_over, trio)
        agreed = time.monotonic()
        await asyncio.to_thread(wait_until, lambda: time.monotonic() > agreed + AFTER, what="more calls")
    finally:
        trio.sentinels[2].resume()
    load.over.set()
    load.stop.set()
    await running

    late = sorted(when - begun for when in lost(load, trio.replica))
    acknowledged = sum(map(len, load.appended.values())) + len(load.ended)
    print(  # noqa: T201 - the figures of docs/operations.md
        f"planned failover: the Sentinels agreed after {agreed - begun:.2f} s; {acknowledged} calls acknowledged, "
        f"{len(late)} of them lost (the last after {max(late, default=0):.2f} s), {load.failed} failed; "
        f"the slowest took {load.slowest:.2f} s"
    )
    assert load.ended[-1][1] > agreed, "nothing was acknowledged afterwards"
    assert not [when for when in late if when > WINDOW]
    assert load.slowest < 2.5


async def test_a_connection_to_a_replica_is_refused(sentinels: SentinelTrio, settings: Settings) -> None:
    settings.CACHES = {"default": harnesses.sentinel_cache(sentinels)}
    client: Any = make_async_client("default")
    connection = client.connection_pool.make_connection()

    await connection.connect_to((HOST, sentinels.primary.port))
    await connection.disconnect()
    with pytest.raises(RedisConnectionError, match="is not the primary"):
        await connection.connect_to((HOST, sentinels.replica.port))

    assert not connection.is_connected
    await client.aclose()


OLD, NEW = ("old", 1), ("new", 2)


def says(epoch: int, address: tuple[str, int], *, down: bool = False) -> Named:
    return Named(epoch, address, is_down=down, is_failing_over=False)


@pytest.mark.parametrize(
    ("answers", "known", "expected"),
    [
        ([], None, None),
        ([says(1, OLD), says(2, NEW), says(1, OLD)], None, NEW),
        ([says(1, OLD), says(1, OLD)], says(2, NEW), OLD),  # most agree: they were set up anew
        ([says(1, OLD)], says(2, NEW), None),  # one that was cut off
        ([says(1, OLD), says(1, NEW)], says(2, NEW), None),
        ([says(2, NEW)], says(2, NEW), NEW),
    ],
)
def test_of_several_sentinels_the_one_that_saw_the_last_failover_counts(
    answers: list[Named], known: Named | None, expected: tuple[str, int] | None
) -> None:
    best = newest(answers, known=known, asked=3)
    assert (best.address if best else None) == expected
