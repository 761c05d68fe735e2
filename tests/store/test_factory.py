"""Which store an endpoint gets: by its CACHE, one per process and namespace, whatever else changes."""

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from mcp_sessions.conf import endpoint
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import indexes, nodes, queries, sessions, streams
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.drivers.asynchronous import RedisStore
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.factory import in_memory, stand_in, store_for, sync_store_for
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import CLAUDE, MINUTE, STREAM_LIMITS, a_fingerprint, a_namespace
from tests.support.caches import disconnect, standalone_cache
from tests.support.processes import wait_until
from tests.support.redis import RedisServer


@pytest.fixture(autouse=True)
def endpoints(redis_server: RedisServer, settings: Settings) -> Iterator[None]:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": standalone_cache(redis_server),
    }
    settings.MCP_SESSIONS = {
        "missing": {"SERVER": "shop.mcp.server", "CACHE": "nowhere", "NAMESPACE": a_namespace()},
        "local": {"SERVER": "shop.mcp.server", "NAMESPACE": a_namespace()},
        "shared": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
        "other": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
    }
    yield
    disconnect()


async def create(alias: str, fingerprint: str = "") -> str:
    fingerprint = fingerprint or a_fingerprint()
    await store_for(alias).run(
        sessions.create(fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=endpoint(alias).limits)
    )
    return fingerprint


@pytest.mark.parametrize("alias", ["missing", "local"])
async def test_without_a_django_redis_cache_sessions_live_in_memory(alias: str) -> None:
    fingerprint = await create(alias)

    assert isinstance(store_for(alias), EmbeddedStore)
    assert isinstance(sync_store_for(alias), SyncEmbeddedStore)
    assert sync_store_for(alias).run(sessions.get(fingerprint)) is not None


async def test_with_a_django_redis_cache_both_stores_are_on_redis(redis_server: RedisServer) -> None:
    fingerprint = await create("shared")

    assert isinstance(store_for("shared"), RedisStore)
    page = sync_store_for("shared").run(
        queries.page(Query(), offset=0, limit=5, limits=endpoint("shared").limits)
    )
    assert [session.fingerprint for session in page.sessions] == [fingerprint]
    with redis_server.client() as client:
        assert len(list(client.scan_iter(f"*{fingerprint}*"))) == 1
    await store_for("shared").aclose()


async def test_endpoints_with_different_namespaces_share_nothing() -> None:
    fingerprint = await create("shared")

    assert await store_for("other").run(sessions.get(fingerprint)) is None
    assert sync_store_for("other").run(indexes.count(limits=endpoint("other").limits)) == 0
    await store_for("shared").aclose()


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

    assert await store_for("local").run(sessions.get(in_memory)) is not None
    assert store_for("shared") is shared


async def test_an_endpoint_that_is_moved_to_another_cache_gets_another_store(settings: Settings) -> None:
    before = store_for("shared")

    settings.CACHES = {"redis": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

    assert store_for("shared") is not before
    assert isinstance(store_for("shared"), EmbeddedStore)


def test_each_event_loop_has_connections_of_its_own_and_closed_loops_are_dropped() -> None:
    async def use() -> str:
        return await create("shared")

    async def use_and_close() -> int:
        await create("shared")
        store = store_for("shared")
        assert isinstance(store, RedisStore)
        kept = len(store._loops)
        await store.aclose()
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
    assert not store._loops


async def waiting(alias: str, fingerprint: str) -> list[bytes]:
    """What waits on a session's standalone stream."""
    store = store_for(alias)
    taken = await store.run(streams.claim(fingerprint, STANDALONE, node="a", after=0, ttl_ms=300_000))
    assert taken is not None
    batch = await store.run(
        streams.read(fingerprint, STANDALONE, claim=taken.claim, after=0, max_bytes=1_000)
    )
    assert batch is not None
    return [event.payload for event in batch.events]


@pytest.mark.parametrize("alias", ["local", "shared"])
async def test_streams_are_beside_the_sessions_for_async_and_sync_callers(alias: str) -> None:
    fingerprint = await create(alias)

    sync_store_for(alias).run(streams.publish(fingerprint, payloads=[b"one"], key="1", limits=STREAM_LIMITS))
    await store_for(alias).run(streams.publish(fingerprint, payloads=[b"two"], key="2", limits=STREAM_LIMITS))

    assert await waiting(alias, fingerprint) == [b"one", b"two"]
    await store_for("shared").aclose()


async def test_endpoints_with_different_namespaces_share_neither_streams_nor_nodes() -> None:
    fingerprint = await create("shared")
    await create("other", fingerprint)
    for alias, message in (("shared", b"of shared"), ("other", b"of other")):
        await store_for(alias).run(nodes.beat(alias, about="{}", forget_after_ms=MINUTE))
        await store_for(alias).run(
            streams.publish(fingerprint, payloads=[message], key="1", limits=STREAM_LIMITS)
        )

    assert await waiting("shared", fingerprint) == [b"of shared"]
    assert await waiting("other", fingerprint) == [b"of other"]
    assert [node.id for node in sync_store_for("shared").run(nodes.list_nodes())] == ["shared"]
    assert [node.id for node in await store_for("other").run(nodes.list_nodes())] == ["other"]
    await store_for("shared").aclose()


async def test_changed_settings_cost_neither_streams_in_memory_nor_connections(settings: Settings) -> None:
    fingerprint, shared = await create("local"), store_for("shared")
    await store_for("local").run(
        streams.publish(fingerprint, payloads=[b"one"], key="1", limits=STREAM_LIMITS)
    )

    settings.MCP_SESSIONS = {
        alias: {**entry, "IDLE_TTL": 60} for alias, entry in settings.MCP_SESSIONS.items()
    }

    assert await waiting("local", fingerprint) == [b"one"]
    assert store_for("shared") is shared


async def test_nothing_stays_connected_when_the_stores_are_closed(redis_server: RedisServer) -> None:
    store = store_for("shared")
    await store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    await store.listen("a", after="0-0", block_ms=1)
    connected = clients(redis_server)

    await store.aclose()

    assert connected >= 2
    wait_until(lambda: clients(redis_server) == connected - 2, seconds=5, what="the connections to close")


def clients(server: RedisServer) -> int:
    """How many clients are connected, without the one that asks."""
    with server.client() as redis:
        return int(redis.info("clients")["connected_clients"]) - 1


def test_another_store_may_stand_in_for_those_of_all_endpoints() -> None:
    usual, made = store_for("local"), in_memory("stands in")
    try:
        stand_in(lambda entry: made)
        assert (store_for("local"), sync_store_for("shared")) == made
    finally:
        stand_in(None)
    assert store_for("local") is usual
