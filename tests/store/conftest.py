"""Harnesses over each driver: `harness` for what every store promises, `redis_harness` for what Redis holds."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from pytest_django import Settings

from mcp_sessions.store.calls import sessions
from tests.store import harness as harnesses
from tests.store.engines import Both
from tests.store.harness import Harness
from tests.support.redis import RedisCluster, RedisServer, SentinelTrio, run_cluster, run_sentinels


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelTrio]:
    with run_sentinels() as trio:
        yield trio


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    with run_cluster() as nodes:
        yield nodes


@pytest.fixture(params=["embedded", *harnesses.CACHES])
def kind(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The kind of store; CACHES["default"] is configured for it."""
    if request.param in harnesses.CACHES:
        fixture, entry = harnesses.CACHES[request.param]
        settings.CACHES = {"default": entry(request.getfixturevalue(fixture))}
    yield request.param
    disconnect()


@pytest.fixture
async def harness(kind: str) -> AsyncIterator[Harness]:
    made = harnesses.embedded_harness() if kind == "embedded" else harnesses.redis_harness(kind)
    yield made
    await made.aclose()


@pytest.fixture
def redis_caches(redis_server: RedisServer, settings: Settings) -> Iterator[dict[str, Any]]:
    """CACHES["default"] is the standalone server."""
    settings.CACHES = {"default": harnesses.standalone_cache(redis_server)}
    yield settings.CACHES
    disconnect()


@pytest.fixture
async def redis_harness(
    redis_caches: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    made = harnesses.redis_harness("standalone")
    # A process looks once in a second of its own clock for sessions that are gone: here of the test's.
    monkeypatch.setattr(sessions, "healing", sessions.Healing(lambda: made.clock() / 1000))
    yield made
    await made.aclose()


@pytest.fixture
def both(redis_server: RedisServer) -> Iterator[Both]:
    """The server is emptied, as the engine is."""
    with redis_server.client(protocol=2) as client:
        client.flushall()
        yield Both(client)


def disconnect() -> None:
    """Close what django-redis has opened."""
    for cache in caches.all(initialized_only=True):
        client = getattr(cache, "_client", None)
        if client is not None:
            client.disconnect()
