"""Which streams an endpoint gets: those beside its sessions."""

import asyncio
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from mcp_sessions.conf import endpoint
from mcp_sessions.store.memory_streams import MemoryStreamDirectory, MemoryStreams
from mcp_sessions.store.redis_streams import RedisStreams
from mcp_sessions.store.registry import close_stores, store_for, stream_directory_for, streams_for
from mcp_sessions.store.session import ANONYMOUS
from mcp_sessions.store.stream_directory import RedisStreamDirectory
from mcp_sessions.store.streaming import STANDALONE
from tests.store import worlds
from tests.store.conftest import disconnect
from tests.store.stream_worlds import LIMITS
from tests.store.worlds import CLAUDE, MINUTE, a_fingerprint, a_namespace
from tests.support.processes import wait_until
from tests.support.redis import RedisServer


@pytest.fixture(autouse=True)
def endpoints(redis_server: RedisServer, settings: Settings) -> Iterator[None]:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": worlds.standalone_cache(redis_server),
    }
    settings.MCP_SESSIONS = {
        "local": {"SERVER": "shop.mcp.server", "NAMESPACE": a_namespace()},
        "shared": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
        "other": {"SERVER": "shop.mcp.server", "CACHE": "redis", "NAMESPACE": a_namespace()},
    }
    yield
    disconnect()


async def create(alias: str, fingerprint: str = "") -> str:
    fingerprint = fingerprint or a_fingerprint()
    limits = endpoint(alias).limits
    await store_for(alias).create(fingerprint, principal=ANONYMOUS, handshake=CLAUDE, limits=limits)
    return fingerprint


async def waiting(alias: str, fingerprint: str) -> list[bytes]:
    """What waits on a session's standalone stream."""
    streams = streams_for(alias)
    taken = await streams.claim(fingerprint, STANDALONE, node="a", after=0)
    assert taken is not None
    batch = await streams.read(fingerprint, STANDALONE, token=taken.claim.token, after=0, max_bytes=1_000)
    assert batch is not None
    return [event.payload for event in batch.events]


@pytest.mark.parametrize("alias", ["local", "shared"])
async def test_streams_are_beside_the_sessions_on_both_faces(alias: str) -> None:
    fingerprint = await create(alias)

    stream_directory_for(alias).publish(fingerprint, payloads=[b"one"], key="1", limits=LIMITS)
    await streams_for(alias).publish(fingerprint, payloads=[b"two"], key="2", limits=LIMITS)

    assert await waiting(alias, fingerprint) == [b"one", b"two"]
    await close_stores()


def test_streams_are_where_the_cache_is() -> None:
    assert isinstance(streams_for("local"), MemoryStreams)
    assert isinstance(stream_directory_for("local"), MemoryStreamDirectory)
    assert isinstance(streams_for("shared"), RedisStreams)
    assert isinstance(stream_directory_for("shared"), RedisStreamDirectory)
    assert streams_for("shared") is streams_for("shared")
    assert streams_for("shared") is not streams_for("other")


async def test_endpoints_with_different_namespaces_share_neither_streams_nor_nodes() -> None:
    fingerprint = await create("shared")
    await create("other", fingerprint)
    for alias, message in (("shared", b"of shared"), ("other", b"of other")):
        await streams_for(alias).beat(alias, about="{}", forget_after_ms=MINUTE)
        await streams_for(alias).publish(fingerprint, payloads=[message], key="1", limits=LIMITS)

    assert await waiting("shared", fingerprint) == [b"of shared"]
    assert await waiting("other", fingerprint) == [b"of other"]
    assert [node.id for node in stream_directory_for("shared").nodes()] == ["shared"]
    assert [node.id for node in await streams_for("other").nodes()] == ["other"]
    await close_stores()


async def test_changed_settings_cost_neither_streams_in_memory_nor_connections(settings: Settings) -> None:
    fingerprint, shared = await create("local"), streams_for("shared")
    await streams_for("local").publish(fingerprint, payloads=[b"one"], key="1", limits=LIMITS)

    settings.MCP_SESSIONS = {
        alias: {**entry, "IDLE_TTL": 60} for alias, entry in settings.MCP_SESSIONS.items()
    }

    assert await waiting("local", fingerprint) == [b"one"]
    assert streams_for("shared") is shared


async def test_nothing_stays_connected_when_the_stores_are_closed(redis_server: RedisServer) -> None:
    streams = streams_for("shared")
    await streams.beat("a", about="{}", forget_after_ms=MINUTE)
    listening = asyncio.create_task(streams.listen("a", after="", block_ms=1))
    await listening
    connected = clients(redis_server)

    await close_stores()

    assert connected >= 2
    wait_until(lambda: clients(redis_server) == connected - 2, seconds=5, what="the connections to close")


def clients(server: RedisServer) -> int:
    """How many are connected; who asks is not counted."""
    with server.client() as redis:
        return int(redis.info("clients")["connected_clients"]) - 1
