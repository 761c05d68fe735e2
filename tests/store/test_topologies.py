"""Sentinel and Cluster beyond the contract: failover, redirection, and how CACHES is read."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from pytest_django import Settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import indexes, nodes, queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.clients import make_async_client, redis_cache
from tests.store import harness as harnesses
from tests.store.conftest import disconnect
from tests.store.harness import Harness, a_fingerprint
from tests.support.redis import RedisCluster, SentinelTrio, run_cluster, run_sentinels

#: Seconds that a failover with the timeouts of these tests may take on slow cores.
FAILOVER_BOUND = 60.0


class OurCache(RedisCache):  # type: ignore[misc] # django-redis has no type hints here
    """A project's own subclass."""


@pytest.fixture
def trio() -> Iterator[SentinelTrio]:
    """Sentinels of this test's own: it changes who is primary.

    The service's name is new too, because django-redis keeps one pool per URL for the life of the process.
    """
    with run_sentinels(service=f"sessions-{a_fingerprint()[:8]}") as running:
        yield running


@pytest.fixture
async def sentinel_harness(trio: SentinelTrio, settings: Settings) -> AsyncIterator[Harness]:
    settings.CACHES = {"default": harnesses.sentinel_cache(trio)}
    harness = harnesses.redis_harness("sentinel")
    yield harness
    await harness.aclose()
    disconnect()


async def eventually(attempt: Any, *, seconds: float = FAILOVER_BOUND) -> Any:
    """Repeat while the store is unavailable; any other error is a failure."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = attempt()
            return await result if asyncio.iscoroutine(result) else result
        except StoreUnavailable:
            assert time.monotonic() < deadline, "the store stayed unavailable"
            await asyncio.to_thread(threading.Event().wait, 0.05)


def replicated(trio: SentinelTrio) -> bool:
    """Whether the replica has everything that the primary has written."""
    with trio.primary.client() as client:
        return int(client.execute_command("WAIT", 1, 1_000)) == 1


@pytest.mark.slow
async def test_sessions_survive_the_death_of_the_primary_on_both_faces(
    trio: SentinelTrio, sentinel_harness: Harness
) -> None:
    fingerprint = await sentinel_harness.open()
    await sentinel_harness.settled()
    assert sentinel_harness.sync.run(indexes.count(limits=sentinel_harness.limits)) == 1
    assert replicated(trio)

    await asyncio.to_thread(trio.primary.stop, signal.SIGKILL)

    session = await eventually(lambda: sentinel_harness.touch(fingerprint))
    assert session is not None
    assert session.requests == 2
    page = await eventually(
        lambda: sentinel_harness.sync.run(
            queries.page(Query(), offset=0, limit=5, limits=sentinel_harness.limits)
        )
    )
    assert [each.fingerprint for each in page.sessions] == [fingerprint]
    assert trio.primary_port() == trio.replica.port
    assert (
        await eventually(
            lambda: sentinel_harness.sync.run(
                sessions.end(fingerprint, principal=None, reason="expired_by_operator")
            )
        )
        is not None
    )


async def test_no_sentinel_is_unavailable_soon(settings: Settings) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://sessions/0",
            "OPTIONS": {
                "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
                "SENTINELS": [("127.0.0.1", 1), ("127.0.0.1", 2)],
                "SENTINEL_KWARGS": {"socket_timeout": 0.2, "retry": None},
            },
        }
    }
    harness = harnesses.redis_harness("sentinel")
    begun = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await harness.touch(a_fingerprint())
    with pytest.raises(StoreUnavailable):
        harness.sync.run(nodes.list_nodes())

    assert time.monotonic() - begun < 10
    await harness.aclose()


@pytest.fixture
async def cluster_harness(cluster: RedisCluster, settings: Settings) -> AsyncIterator[Harness]:
    settings.CACHES = {"default": harnesses.cluster_cache(cluster)}
    harness = harnesses.redis_harness("cluster")
    yield harness
    await harness.aclose()


async def test_sessions_spread_over_the_nodes_of_a_cluster_and_one_page_shows_all(
    cluster: RedisCluster, cluster_harness: Harness
) -> None:
    opened = await asyncio.gather(*[cluster_harness.open() for _ in range(30)])
    await cluster_harness.settled()

    holders = []
    for node in cluster.nodes:
        with node.client() as client:
            holders.append({key for key in client.scan_iter("*:session") if key.decode()[-73:-9] in opened})
    assert sum(map(len, holders)) == 30
    assert all(holders)
    page = cluster_harness.sync.run(queries.page(Query(), offset=0, limit=50, limits=cluster_harness.limits))
    assert {session.fingerprint for session in page.sessions} == set(opened)
    assert set(await cluster_harness.store.run(sessions.keep(opened, limits=cluster_harness.limits))) == set(
        opened
    )


async def test_all_of_a_session_is_in_one_slot_and_all_indexes_in_another(
    cluster: RedisCluster, cluster_harness: Harness
) -> None:
    resolve, fingerprint = cluster_harness.keys.resolve, a_fingerprint()
    of_session = resolve(fingerprint, ["session", "features", "state", "ended"])
    of_namespace = resolve(
        "", [*indexes.of(harnesses.CLAUDE, "issuer|ann"), "index:activity:ends", "clients"]
    )
    with cluster.nodes[0].client() as client:
        assert len({client.execute_command("CLUSTER KEYSLOT", key) for key in of_session}) == 1
        assert len({client.execute_command("CLUSTER KEYSLOT", key) for key in of_namespace}) == 1


async def test_a_slot_that_moves_to_another_node_is_followed_on_both_faces(
    cluster: RedisCluster, cluster_harness: Harness
) -> None:
    fingerprint = a_fingerprint()
    await cluster_harness.open()
    cluster_harness.sync.run(nodes.list_nodes())
    cluster.move_slot_of(cluster_harness.key(fingerprint, "session"))

    await eventually(lambda: cluster_harness.open(fingerprint=fingerprint))
    assert await cluster_harness.touch(fingerprint) is not None
    assert cluster_harness.sync.run(sessions.get(fingerprint)) is not None


def caches_with(settings: Settings, **entry: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", **entry}}


async def test_the_primary_is_the_first_of_a_list_or_of_a_comma_separated_string(settings: Settings) -> None:
    for location in (["redis://one:1/3", "redis://two:2/3"], "redis://one:1/3,redis://two:2/3"):
        caches_with(settings, LOCATION=location)
        client = make_async_client("default")
        assert isinstance(client, Redis)
        arguments = client.connection_pool.connection_kwargs
        assert (arguments["host"], arguments["port"], arguments["db"]) == ("one", 1, 3)
        sync = get_redis_connection("default").connection_pool.connection_kwargs
        assert (sync["host"], sync["port"], sync["db"]) == ("one", 1, 3)


async def test_the_options_of_django_redis_hold_for_the_async_client(settings: Settings) -> None:
    caches_with(
        settings,
        LOCATION="redis://one:1/3",
        OPTIONS={
            "USERNAME": "ann",
            "PASSWORD": "secret",
            "SOCKET_TIMEOUT": 7,
            "SOCKET_CONNECT_TIMEOUT": 6,
            "PARSER_CLASS": "redis.connection._RESP2Parser",
            "CONNECTION_POOL_KWARGS": {"max_connections": 9, "client_name": "shop", "decode_responses": True},
        },
    )

    client = make_async_client("default")

    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    assert pool.max_connections == 9
    arguments = pool.connection_kwargs
    wanted = {"username": "ann", "password": "secret", "socket_timeout": 7, "socket_connect_timeout": 6}
    assert {name: arguments[name] for name in wanted} == wanted
    assert arguments["client_name"] == "shop"
    assert not arguments.get("decode_responses")
    assert "parser_class" not in arguments
    assert arguments["retry"]._retries == 0


async def test_without_options_nothing_waits_for_long(settings: Settings) -> None:
    caches_with(settings, LOCATION="redis://one:1")

    client = make_async_client("default")

    assert isinstance(client, Redis)
    arguments = client.connection_pool.connection_kwargs
    assert (arguments["socket_timeout"], arguments["socket_connect_timeout"]) == (2.0, 1.0)


async def test_a_blocking_reader_has_a_longer_timeout_of_its_own(settings: Settings) -> None:
    caches_with(settings, LOCATION="redis://one:1", OPTIONS={"SOCKET_TIMEOUT": 1})

    client = make_async_client("default", socket_timeout=35)

    assert isinstance(client, Redis)
    assert client.connection_pool.connection_kwargs["socket_timeout"] == 35


async def test_tls_urls_connect_with_tls(settings: Settings) -> None:
    caches_with(settings, LOCATION="rediss://one:1/0")
    client = make_async_client("default")
    assert isinstance(client, Redis)
    assert client.connection_pool.connection_class is SSLConnection

    options = {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": [("127.0.0.1", 1)],
        "PASSWORD": "secret",
    }
    caches_with(settings, LOCATION="rediss://sessions/4", OPTIONS=options)
    client = make_async_client("default")
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert issubclass(pool.connection_class, SentinelManagedSSLConnection)
    assert pool.service_name == "sessions"
    assert (pool.connection_kwargs["db"], pool.connection_kwargs["password"]) == (4, "secret")
    await client.aclose()


async def test_a_cluster_starts_from_every_node_that_is_named(settings: Settings) -> None:
    caches_with(
        settings,
        LOCATION=["redis://ann:secret@one:1", "redis://two:2"],
        OPTIONS={"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
    )

    client = make_async_client("default")

    assert isinstance(client, ClusterNodes)
    assert client.startup == (("one", 1), ("two", 2))
    wanted = {"username": "ann", "password": "secret", "socket_timeout": 2.0}
    assert {name: client.options[name] for name in wanted} == wanted


async def test_a_cluster_that_is_down_is_unavailable_on_both_faces(settings: Settings) -> None:
    caches_with(
        settings,
        LOCATION=["redis://127.0.0.1:1", "redis://127.0.0.1:2"],
        OPTIONS={"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
    )
    harness = harnesses.redis_harness("cluster")
    begun = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await harness.touch(a_fingerprint())
    with pytest.raises(StoreUnavailable):
        harness.sync.run(nodes.list_nodes())
    with pytest.raises(StoreUnavailable):
        harness.sync.run(queries.page(Query(), offset=0, limit=1, limits=harness.limits))

    assert time.monotonic() - begun < 20
    await harness.aclose()


@pytest.mark.parametrize(
    ("entry", "is_redis"),
    [
        ({"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://one"}, True),
        ({"BACKEND": f"{__name__}.OurCache", "LOCATION": "redis://one"}, True),
        ({"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://one"}, False),
        ({"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, False),
    ],
)
def test_only_django_redis_caches_and_their_subclasses_are_redis(
    settings: Settings, entry: dict[str, Any], is_redis: bool
) -> None:
    settings.CACHES = {"default": entry}

    assert (redis_cache("default") is not None) is is_redis
    assert redis_cache("missing") is None


@pytest.mark.slow
async def test_a_hung_node_of_a_cluster_is_unavailable_in_bounds_and_recovers(settings: Settings) -> None:
    with run_cluster() as running:
        entry = harnesses.cluster_cache(running)
        options = {**entry["OPTIONS"], "SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 0.5}
        settings.CACHES = {"default": {**entry, "OPTIONS": options}}
        harness = harnesses.redis_harness("cluster")
        opened = await asyncio.gather(*[harness.open() for _ in range(12)])
        harness.sync.run(nodes.list_nodes())
        hung = running.holder_of(harness.key(opened[0], "session"))

        hung.pause()
        try:
            for attempt in (
                harness.touch(opened[0]),
                asyncio.to_thread(harness.sync.run, sessions.get(opened[0])),
            ):
                begun = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await attempt
                assert time.monotonic() - begun < 10
        finally:
            hung.resume()

        for fingerprint in opened:
            assert await eventually(lambda each=fingerprint: harness.touch(each)) is not None
        assert await eventually(lambda: harness.sync.run(sessions.get(opened[0]))) is not None
        await harness.aclose()
        disconnect()


@pytest.mark.slow
async def test_a_call_that_is_redirected_has_no_more_time_than_another(settings: Settings) -> None:
    with run_cluster() as running:
        settings.CACHES = {"default": harnesses.cluster_cache(running)}
        harness = harnesses.redis_harness("cluster")
        opened = await harness.open()
        key = harness.key(opened, "session")
        before = running.holder_of(key)
        running.move_slot_of(key)
        now = running.holder_of(key)

        before.pause()
        now.pause()
        try:
            # The first node replies late, where the slot is; the second one hangs.
            asyncio.get_running_loop().call_later(1.2, before.resume)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await harness.touch(opened)
            assert time.monotonic() - begun < 2.8
        finally:
            before.resume()
            now.resume()

        assert await eventually(lambda: harness.touch(opened)) is not None
        await harness.aclose()
