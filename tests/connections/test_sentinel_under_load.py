"""A planned failover under load: what was acknowledged is on the new primary, and what was ended stays ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
from pytest_django import Settings

from tests.connections.load import load
from tests.connections.waiting import FAILOVER_BOUND
from tests.store.harness import Harness, harness_on
from tests.support.caches import sentinel_cache
from tests.support.processes import wait_until
from tests.support.redis import RedisServer, SentinelTrio

CLIENTS: Final = 40
#: Calls that each client makes after the Sentinels have agreed.
AFTER: Final = 15
#: Seconds after which nothing may be lost any more, from the moment when the failover was asked for.
WINDOW: Final = 1.0


@pytest.fixture
async def harness(trio: SentinelTrio, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(sentinel_cache(trio), settings, kind="sentinel") as made:
        yield made


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
