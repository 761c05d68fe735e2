"""A planned failover under load: what was acknowledged is on the new primary, and what was ended stays ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections.sentinel import Named, newest
from mcp_sessions.store.clients import make_async_client
from tests.store import harness as harnesses
from tests.store.conftest import disconnect
from tests.store.harness import Harness, a_fingerprint
from tests.store.load import load
from tests.support.processes import HOST, wait_until
from tests.support.redis import RedisServer, SentinelTrio, run_sentinels

CLIENTS: Final = 40
#: Calls that each client makes after the Sentinels have agreed.
AFTER: Final = 15
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
    async with load(harness, CLIENTS) as running:
        trio.sentinels[2].pause()
        try:
            begun = await asyncio.to_thread(fail_over, trio)
            agreed = time.monotonic()
            await running.went_on(AFTER)
        finally:
            trio.sentinels[2].resume()

    assert role(trio.replica) == "master"
    late = [when - begun for when in await running.lost()]
    print(  # noqa: T201 - the figures of docs/operations.md
        f"planned failover: the Sentinels agreed after {agreed - begun:.2f} s; {running.acknowledged} calls "
        f"acknowledged, {len(late)} of them lost (the last after {max(late, default=0):.2f} s), "
        f"{running.failed} failed; the slowest took {running.slowest:.2f} s"
    )
    assert not [when for when in late if when > WINDOW]
    assert running.slowest < 2.5


def role(server: RedisServer) -> str:
    with server.client(decode_responses=True) as client:
        return str(client.info("replication")["role"])


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
    ("answers", "known", "since", "expected"),
    [
        ([], None, 0, None),
        ([says(1, OLD), says(2, NEW), says(1, OLD)], None, 0, NEW),
        ([says(1, OLD), says(1, OLD)], says(2, NEW), 1, None),  # the failover is news to them
        ([says(1, OLD), says(1, OLD)], says(2, NEW), 60, OLD),  # they were set up anew
        ([says(1, OLD)], says(2, NEW), 60, None),  # it was cut off
        ([says(1, OLD), says(1, NEW)], says(2, NEW), 60, None),
        ([says(2, NEW)], says(2, NEW), 60, NEW),
    ],
)
def test_of_several_sentinels_the_one_that_saw_the_last_failover_counts(
    answers: list[Named], known: Named | None, since: float, expected: tuple[str, int] | None
) -> None:
    best = newest(answers, known=known, since=since, asked=3)
    assert (best.address if best else None) == expected
