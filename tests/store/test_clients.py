"""Which clients an entry of CACHES gets: their classes, addresses, timeouts and options."""

from typing import Any
from unittest import mock

import pytest
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from pytest_django import Settings
from redis import BlockingConnectionPool as SyncBlockingConnectionPool
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection
from redis.cluster import RedisCluster as SyncRedisCluster
from redis.exceptions import AskError

from mcp_sessions.connections.defaults import CONNECT_TIMEOUT, MAX_CONNECTIONS, SOCKET_TIMEOUT
from mcp_sessions.connections.sentinel import PrimaryConnection, PrimaryPool
from mcp_sessions.connections.sync_sentinel import SyncPrimaryPool
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.store.clients import ClusterConnectionFactory, make_async_client, redis_cache, sync_client


class OurCache(RedisCache):  # type: ignore[misc] # django-redis has no type hints here
    """A project's own subclass."""


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


async def test_the_async_client_takes_the_options_of_django_redis(settings: Settings) -> None:
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


async def test_without_options_the_timeouts_are_short(settings: Settings) -> None:
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


def test_sync_connections_have_our_timeouts_unless_the_cache_names_others(
    redis_caches: dict[str, Any], settings: Settings
) -> None:
    assert timeouts(sync_client("default")) == (SOCKET_TIMEOUT, CONNECT_TIMEOUT)
    assert sync_client("default") is sync_client("default")
    theirs: Any = get_redis_connection("default")
    ours: Any = sync_client("default")
    assert theirs.connection_pool is not ours.connection_pool
    assert timeouts(theirs) != (SOCKET_TIMEOUT, CONNECT_TIMEOUT)

    entry = redis_caches["default"]
    settings.CACHES = {"default": {**entry, "OPTIONS": {"SOCKET_TIMEOUT": 7, "SOCKET_CONNECT_TIMEOUT": 6}}}
    assert timeouts(sync_client("default")) == (7, 6)

    pooled = {"CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool"}
    settings.CACHES = {"default": {**entry, "OPTIONS": pooled}}
    blocking: Any = sync_client("default")
    pool = blocking.connection_pool
    assert isinstance(pool, SyncBlockingConnectionPool)
    assert pool.timeout == SOCKET_TIMEOUT


def timeouts(client: Any) -> tuple[float | None, float | None]:
    options = client.connection_pool.connection_kwargs
    return options.get("socket_timeout"), options.get("socket_connect_timeout")


def loud(address: tuple[str, int]) -> tuple[str, int]:
    return address[0].upper(), address[1]


def of_cluster(settings: Settings, *urls: str, **options: Any) -> ClusterNodes:
    if "REDIS_CLIENT_CLASS" not in options:
        options["CONNECTION_FACTORY"] = "mcp_sessions.store.clients.ClusterConnectionFactory"
    caches_with(settings, LOCATION=list(urls), OPTIONS=options)
    client = make_async_client("default")
    assert isinstance(client, ClusterNodes)
    return client


async def test_the_nodes_of_a_cluster_get_the_options_that_connections_take(settings: Settings) -> None:
    kwargs = {"address_remap": loud, "require_full_coverage": True, "retry": 3, "health_check_interval": 9}
    nodes = of_cluster(settings, "redis://one", "redis://:2", REDIS_CLIENT_KWARGS=kwargs)
    assert nodes.startup == (("one", 6379), ("localhost", 2))
    assert nodes.redirected(AskError("5 two:9"), ("one", 1)) == ("TWO", 9)
    assert nodes.options["health_check_interval"] == 9
    assert nodes.options["retry"]._retries == 0
    assert (nodes.options["max_connections"], nodes.options["timeout"]) == (MAX_CONNECTIONS, SOCKET_TIMEOUT)
    assert not {"require_full_coverage", "address_remap", "connection_class", "host"} & nodes.options.keys()
    assert nodes.client(("one", 1)).connection_pool.connection_class is Connection

    secure = of_cluster(settings, "rediss://one", REDIS_CLIENT_CLASS="redis.cluster.RedisCluster")
    assert secure.client(("one", 1)).connection_pool.connection_class is SSLConnection
    assert kwargs["address_remap"] is loud, "the settings stay as they are"


async def test_calls_wait_for_a_free_connection_as_long_as_for_an_answer(settings: Settings) -> None:
    for options, seconds in (({}, SOCKET_TIMEOUT), ({"SOCKET_TIMEOUT": 7}, 7)):
        caches_with(settings, LOCATION="redis://one:1", OPTIONS=options)
        client = make_async_client("default")
        assert isinstance(client, Redis)
        pool = client.connection_pool
        assert isinstance(pool, BlockingConnectionPool)
        assert (pool.timeout, pool.max_connections) == (seconds, MAX_CONNECTIONS)


SENTINELS = {
    "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
    "CLIENT_CLASS": "django_redis.client.SentinelClient",
    "SENTINELS": [("127.0.0.1", 1)],
}


@pytest.mark.parametrize(
    ("given", "waits"), [(None, (0.5, 0.5)), ({"socket_timeout": 9, "password": "secret"}, (9, 0.5))]
)
async def test_sentinels_have_short_timeouts_unless_the_cache_names_others(
    settings: Settings, given: dict[str, Any] | None, waits: tuple[float, float]
) -> None:
    options = SENTINELS | ({} if given is None else {"SENTINEL_KWARGS": given})
    caches_with(settings, LOCATION="redis://sessions/4?client_name=shop", OPTIONS=options)
    found: list[Any] = [make_async_client("default"), sync_client("default")]
    for client in found:
        pool = client.connection_pool
        asked = pool.sentinel_manager.sentinel_kwargs
        assert (asked["socket_timeout"], asked["socket_connect_timeout"]) == waits
        assert asked["retry"]._retries == 0
        assert asked.get("password") == (None if given is None else "secret")
        assert pool.service_name == "sessions"
        assert pool.connection_kwargs["db"] == 4
        assert pool.connection_kwargs["socket_timeout"] == SOCKET_TIMEOUT
    primary, threads = (client.connection_pool for client in found)
    assert isinstance(primary, PrimaryPool)
    assert primary.connection_class is PrimaryConnection
    assert (primary.timeout, primary.max_connections) == (SOCKET_TIMEOUT, MAX_CONNECTIONS)
    assert not {"host", "port"} & primary.connection_kwargs.keys()
    assert isinstance(threads, SyncPrimaryPool)
    await found[0].aclose()


def test_the_cluster_client_of_threads_knows_every_node_that_is_named(settings: Settings) -> None:
    """django-redis hands in the first URL, and there is one client for it."""
    urls = ["redis://one:1", "redis://two:2"]
    caches_with(settings, LOCATION=urls, OPTIONS={"SOCKET_TIMEOUT": 7})
    settings.CACHES = settings.CACHES | {"other": {"BACKEND": "x"}}
    factory = ClusterConnectionFactory(settings.CACHES["default"]["OPTIONS"])
    with (
        mock.patch.object(ClusterConnectionFactory, "_clients", {}),
        mock.patch.object(SyncRedisCluster, "from_url", side_effect=mock.Mock) as made,
    ):
        client = factory.connect(urls[0])
        assert factory.connect(urls[0]) is client
        factory.connect("redis://unnamed:3")
        closing = mock.Mock()
        factory.disconnect(closing)
    closing.close.assert_called_once_with()
    of_first, of_unnamed = (call.kwargs for call in made.call_args_list)
    assert [(node.host, node.port) for node in of_first["startup_nodes"]] == [("one", 1), ("two", 2)]
    assert [(node.host, node.port) for node in of_unnamed["startup_nodes"]] == [("unnamed", 3)]
    assert (of_first["url"], of_first["reinitialize_steps"]) == (urls[0], 0)
    assert (of_first["socket_timeout"], of_first["socket_connect_timeout"]) == (7, CONNECT_TIMEOUT)
    assert of_first["retry"]._retries == 1
    assert "parser_class" not in of_first
