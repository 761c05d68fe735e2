"""Connections stay outside of redis-py's pool for a moment: calls that travel alone do not go through it each time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytest_django import Settings
from redis.asyncio import BlockingConnectionPool

from mcp_sessions.connections import pooled
from tests.store.harness import Harness, gather, harness_on
from tests.support.caches import standalone_cache
from tests.support.redis import RedisServer

CALLS = 10


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, redis_server: RedisServer, settings: Settings
) -> AsyncIterator[Harness]:
    """A store whose pool has as few connections as it can work with."""
    pool = {"max_connections": getattr(request, "param", 32)}
    entry = {**standalone_cache(redis_server), "OPTIONS": {"CONNECTION_POOL_KWARGS": pool}}
    async with harness_on(entry, settings) as made:
        yield made


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were taken from the pool, each time."""
    made: list[Any] = []
    take = BlockingConnectionPool.get_connection

    async def counted(pool: BlockingConnectionPool, *names: Any) -> Any:
        made.append(connection := await take(pool, *names))  # type: ignore[no-untyped-call] # redis-py's own
        return connection

    monkeypatch.setattr(BlockingConnectionPool, "get_connection", counted)
    return made


async def apart(harness: Harness, fingerprint: str) -> None:
    """Calls that each travel alone, after the one before has given back its connection."""
    for _ in range(CALLS):
        assert await harness.touch(fingerprint) is not None
        await harness.settled()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_calls_apart_share_a_connection_without_the_pool(harness: Harness, taken: list[Any]) -> None:
    fingerprint = await harness.open()
    await apart(harness, fingerprint)
    taken.clear()
    await apart(harness, fingerprint)
    assert taken == []


async def test_a_connection_goes_through_the_pool_now_and_then(
    harness: Harness, taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "KEEP", 0.0)
    fingerprint = await harness.open()
    await apart(harness, fingerprint)
    taken.clear()
    await apart(harness, fingerprint)
    assert len(taken) >= CALLS


@pytest.mark.parametrize("harness", [1], indirect=True)
async def test_a_pool_of_one_connection_serves_every_pipeline(harness: Harness) -> None:
    opened = [await harness.open() for _ in range(CALLS)]
    for _ in range(3):
        found = await gather(*[harness.touch(each) for each in opened])
        assert None not in found
        await harness.settled()
