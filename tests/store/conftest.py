"""Worlds over each backend: `world` for what every store promises, `redis_world` for what Redis holds."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from pytest_django import Settings

from tests.store import worlds
from tests.store.stream_worlds import Streams, streams_of
from tests.store.worlds import World
from tests.support.redis import RedisCluster, RedisServer, SentinelTrio, run_cluster, run_sentinels


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelTrio]:
    with run_sentinels() as trio:
        yield trio


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    with run_cluster() as nodes:
        yield nodes


@pytest.fixture(params=["memory", *worlds.CACHES])
def kind(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The kind of backend; CACHES["default"] is configured for it."""
    if request.param in worlds.CACHES:
        fixture, entry = worlds.CACHES[request.param]
        settings.CACHES = {"default": entry(request.getfixturevalue(fixture))}
    yield request.param
    disconnect()


@pytest.fixture
async def world(kind: str) -> AsyncIterator[World]:
    made = worlds.memory_world() if kind == "memory" else worlds.redis_world(kind)
    yield made
    await made.aclose()


@pytest.fixture
def redis_caches(redis_server: RedisServer, settings: Settings) -> Iterator[dict[str, Any]]:
    """CACHES["default"] is the standalone server."""
    settings.CACHES = {"default": worlds.standalone_cache(redis_server)}
    yield settings.CACHES
    disconnect()


@pytest.fixture
async def redis_world(redis_caches: dict[str, Any]) -> AsyncIterator[World]:
    made = worlds.redis_world("standalone")
    yield made
    await made.aclose()


@pytest.fixture
async def streams(world: World) -> AsyncIterator[Streams]:
    made = streams_of(world)
    yield made
    await made.aclose()


@pytest.fixture
async def redis_streams(redis_world: World) -> AsyncIterator[Streams]:
    made = streams_of(redis_world)
    yield made
    await made.aclose()


def disconnect() -> None:
    """Close what django-redis has opened."""
    for cache in caches.all(initialized_only=True):
        client = getattr(cache, "_client", None)
        if client is not None:
            client.disconnect()
