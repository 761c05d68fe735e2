"""However Redis is set up and whatever hangs: after the first timeout nobody waits until there is an answer again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from itertools import chain
from typing import Final

import pytest
from pytest_django import Settings

from mcp_sessions.connections.breaker import PATIENCE, PAUSE
from mcp_sessions.errors import StoreUnavailable
from tests.store.harness import Harness, a_fingerprint, harness_on, redis_harness
from tests.support.caches import cluster_cache, sentinel_cache, standalone_cache, with_timeouts
from tests.support.processes import Process
from tests.support.redis import RedisServer, run_cluster, run_sentinels, run_server

#: Seconds: the socket timeout of these tests, what a busy machine adds, and what "at once" may take.
TIMEOUT, MARGIN, AT_ONCE = 0.5, 0.5, 0.1
CLIENTS: Final = 20
#: Calls of each client whose time counts, and seconds between two.
CALLS, PACE = 25, 0.02


@contextmanager
def standalone_that_hangs() -> Iterator[tuple[dict[str, object], Sequence[Process]]]:
    with run_server() as server:
        yield standalone_cache(server), [server]


@contextmanager
def sentinels_that_hang() -> Iterator[tuple[dict[str, object], Sequence[Process]]]:
    """All of them, and the servers that they watch: the whole network is away."""
    with run_sentinels(service=f"away-{a_fingerprint()[:8]}") as trio:
        yield sentinel_cache(trio), [trio.primary, trio.replica, *trio.sentinels]


@contextmanager
def cluster_that_hangs() -> Iterator[tuple[dict[str, object], Sequence[Process]]]:
    with run_cluster() as cluster:
        yield cluster_cache(cluster), cluster.nodes


HANGING: Final = (standalone_that_hangs, sentinels_that_hang, cluster_that_hangs)


async def fails(harness: Harness, fingerprint: str) -> float:
    """After how many seconds a call fails."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await harness.touch(fingerprint)
    return time.monotonic() - begun


async def nobody_waits_any_more(harness: Harness, fingerprint: str) -> None:
    """Wait for the first timeout, and for the probe after it."""
    async with asyncio.timeout(2 * (TIMEOUT + PATIENCE) + MARGIN):
        while await fails(harness, fingerprint) > AT_ONCE:
            pass


async def waits(harness: Harness, what: str) -> float:
    """Seconds that nine of ten calls do not take, over some probes."""
    fingerprints = [a_fingerprint() for _ in range(CLIENTS)]

    async def call(fingerprint: str) -> list[float]:
        took = []
        for _ in range(CALLS):
            took.append(await fails(harness, fingerprint))
            await asyncio.sleep(PACE)
        return took

    took = sorted(chain.from_iterable(await asyncio.gather(*map(call, fingerprints))))
    p90, p99 = (took[len(took) * part // 100] for part in (90, 99))
    print(f"{what}: {len(took)} calls failed, p90 {p90 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")  # noqa: T201
    return p90


@asynccontextmanager
async def hung(servers: Sequence[Process]) -> AsyncIterator[Callable[[], None]]:
    """The servers hang; gives what lets them go on."""

    def resume() -> None:
        for server in servers:
            server.resume()

    for server in servers:
        server.pause()
    try:
        yield resume
    finally:
        resume()


@pytest.mark.slow
@pytest.mark.parametrize("topology", HANGING)
async def test_nobody_waits_after_the_first_timeout_in_any_topology(
    topology: Callable[[], AbstractContextManager[tuple[dict[str, object], Sequence[Process]]]],
    settings: Settings,
) -> None:
    """In a process that used Redis before, and in one that has never reached it."""
    with ExitStack() as stack:
        entry, servers = await asyncio.to_thread(stack.enter_context, topology())
        async with harness_on(with_timeouts(entry, TIMEOUT), settings) as harness:
            fingerprint = await harness.open()
            await harness.settled()
            fresh = redis_harness("fresh")
            async with hung(servers) as resume:
                for caller, which in ((harness, "known"), (fresh, "never reached")):
                    await nobody_waits_any_more(caller, fingerprint)
                    assert await waits(caller, f"{topology.__name__}, {which}") < AT_ONCE
                resume()
                await harness.recovered(seconds=10)  # the nodes of a Cluster look around first
                assert await harness.touch(fingerprint) is not None
            await fresh.aclose()


async def test_a_server_that_answers_ping_and_no_script_is_not_waited_for(
    server: RedisServer, settings: Settings
) -> None:
    """Its writes are paused, as during a failover that does not come to an end."""
    async with harness_on(with_timeouts(standalone_cache(server), TIMEOUT), settings) as harness:
        fingerprint = await harness.open()
        await harness.settled()
        with server.client() as admin:
            admin.client_pause(60_000, all=False)
            await nobody_waits_any_more(harness, fingerprint)
            assert await waits(harness, "writes paused") < AT_ONCE
            admin.execute_command("CLIENT UNPAUSE")
        await harness.recovered(seconds=PAUSE + TIMEOUT + MARGIN)
        assert await harness.touch(fingerprint) is not None
