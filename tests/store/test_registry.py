"""Which store an endpoint gets: by its CACHE, one per process and namespace, whatever else changes."""

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from mcp_sessions.conf import endpoint
from mcp_sessions.store.base import Query
from mcp_sessions.store.memory import MemoryDirectory, MemoryStore
from mcp_sessions.store.redis import RedisStore
from mcp_sessions.store.registry import close_stores, directory_for, store_for
from mcp_sessions.store.session import ANONYMOUS
from tests.store import worlds
from tests.store.conftest import disconnect
from tests.store.worlds import CLAUDE, a_fingerprint, a_namespace
from tests.support.redis import RedisServer


@pytest.fixture(autouse=True)
def endpoints(redis_server: RedisServer, settings: Settings) -> Iterator[None]:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": worlds.standalone_cache(redis_server),
    }
    settings.MCP_SESSIONS = {
        "missing": {"SERVER": "shop.mcp.server", "CACHE": "nowhere", "NAMESPACE": a_namespace()},
        "local": {"SERVER": "shop.mcp.server", "NAMESPACE": a_namespace()},
        "shared": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
        "other": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
    }
    yield
    disconnect()


async def create(alias: str) -> str:
    fingerprint = a_fingerprint()
    await store_for(alias).create(
        fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=endpoint(alias).limits
    )
    return fingerprint


@pytest.mark.parametrize("alias", ["missing", "local"])
async def test_without_a_django_redis_cache_sessions_live_in_memory(alias: str) -> None:
    fingerprint = await create(alias)

    assert isinstance(store_for(alias), MemoryStore)
    assert isinstance(directory_for(alias), MemoryDirectory)
    assert directory_for(alias).get(fingerprint) is not None


async def test_with_a_django_redis_cache_both_faces_are_on_redis(redis_server: RedisServer) -> None:
    fingerprint = await create("shared")

    assert isinstance(store_for("shared"), RedisStore)
    page = directory_for("shared").page(Query(), offset=0, limit=5)
    assert [session.fingerprint for session in page.sessions] == [fingerprint]
    with redis_server.client() as client:
        assert len(list(client.scan_iter(f"*{fingerprint}*"))) == 1
    await close_stores()


async def test_endpoints_with_different_namespaces_share_nothing() -> None:
    fingerprint = await create("shared")

    assert await store_for("other").get(fingerprint) is None
    assert directory_for("other").count() == 0
    await close_stores()


def test_an_endpoint_has_one_store() -> None:
    assert store_for("shared") is store_for("shared")
    assert store_for("local") is store_for("local")
    assert store_for("shared") is not store_for("other")


def test_an_unknown_endpoint_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ImproperlyConfigured, match="nobody"):
        store_for("nobody")


async def test_changed_settings_cost_neither_memory_sessions_nor_connections(settings: Settings) -> None:
    in_memory, shared = await create("local"), store_for("shared")

    settings.MCP_SESSIONS = {
        alias: {**entry, "IDLE_TTL": 5} for alias, entry in settings.MCP_SESSIONS.items()
    }

    assert await store_for("local").get(in_memory) is not None
    assert store_for("shared") is shared


async def test_an_endpoint_that_is_moved_to_another_cache_gets_another_store(settings: Settings) -> None:
    before = store_for("shared")

    settings.CACHES = {"redis": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

    assert store_for("shared") is not before
    assert isinstance(store_for("shared"), MemoryStore)


def test_each_event_loop_has_connections_of_its_own_and_closed_loops_are_dropped() -> None:
    async def use() -> str:
        return await create("shared")

    async def use_and_close() -> int:
        await create("shared")
        store = store_for("shared")
        assert isinstance(store, RedisStore)
        kept = len(store._loops._values)
        await close_stores()
        return kept

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            asyncio.run(use())
        kept = asyncio.run(use_and_close())
        gc.collect()

    assert kept == 1
    store = store_for("shared")
    assert isinstance(store, RedisStore)
    assert not store._loops._values
