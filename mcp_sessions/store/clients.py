"""Connections to Redis as CACHES describes them to django-redis: standalone, Sentinel and Cluster.

The async side builds its own client, because django-redis has none. The sync side has django-redis build one, with
connections of its own and shorter timeouts than the cache's. For a Cluster, tell django-redis to use a factory of ours:

    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": ["redis://node-1:6379", "redis://node-2:6379"],
            "OPTIONS": {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
        },
    }
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import urlparse

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache
from django.utils.module_loading import import_string
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from django_redis.pool import ConnectionFactory, SentinelConnectionFactory, get_connection_factory
from redis import BlockingConnectionPool as SyncBlockingConnectionPool
from redis import Redis as SyncRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.cluster import RedisCluster as SyncRedisCluster
from redis.retry import Retry as SyncRetry

from mcp_sessions.connections import sentinel
from mcp_sessions.connections.defaults import CONNECT_TIMEOUT, MAX_CONNECTIONS, SOCKET_TIMEOUT
from mcp_sessions.connections.sentinel import PrimaryConnection, PrimaryPool, PrimarySSLConnection
from mcp_sessions.connections.server import AsyncClient
from mcp_sessions.connections.topology import ClusterNodes

SyncClient = SyncRedis | SyncRedisCluster

#: What CONNECTION_POOL_KWARGS may hold for django-redis and the async client does differently.
_SYNC_ONLY: Final = ("connection_class", "parser_class", "retry", "queue_class", "decode_responses", "url")


#: What REDIS_CLIENT_KWARGS may hold for redis-py's cluster client and no connection takes.
_CLUSTER_ONLY: Final = (
    "cluster_error_retry_attempts",
    "dynamic_startup_nodes",
    "load_balancing_strategy",
    "read_from_replicas",
    "reinitialize_steps",
    "require_full_coverage",
    "retry",
)

_sync_clients: dict[str, SyncClient] = {}
_sync_lock: Final = threading.Lock()


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc] # django-redis has no type hints here
    """Makes django-redis talk to a Redis Cluster; one client per URL and process, as its pools are."""

    #: For `conf.caches`.
    is_for_cluster: ClassVar[bool] = True
    _clients: ClassVar[dict[str, SyncRedisCluster]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def connect(self, url: str) -> SyncRedisCluster:
        with self._lock:
            client = self._clients.get(url)
            if client is None:
                client = self._clients[url] = self._make(url)
        return client

    def disconnect(self, connection: SyncRedisCluster) -> None:
        connection.close()

    def _make(self, url: str) -> SyncRedisCluster:
        options = {**self.make_connection_params(url), **self.pool_cls_kwargs, **self.redis_client_cls_kwargs}
        options.pop("parser_class")
        return SyncRedisCluster.from_url(
            **{
                **_timeouts(),
                "retry": SyncRetry(NoBackoff(), 1),
                # Any number of MOVED is no reason to close every connection, in the middle of other calls.
                "reinitialize_steps": 0,
                "startup_nodes": [
                    ClusterNode(*address)  # type: ignore[no-untyped-call] # redis-py's own
                    for address in _addresses(self._named_with(url))
                ],
                **options,
            }
        )

    def _named_with(self, url: str) -> Sequence[str]:
        """The URLs of the cache that names this one: django-redis hands in only the first, whose node may be down."""
        for cache in settings.CACHES.values():
            urls = _urls(cache.get("LOCATION", ""))
            if url in urls:
                return urls
        return [url]


def redis_cache(alias: str) -> BaseCache | None:
    """The cache of an alias if it is django-redis'; None if the alias is missing or something else."""
    try:
        cache = caches[alias]
    except InvalidCacheBackendError:
        return None
    return cache if isinstance(cache, RedisCache) else None


def make_async_client(alias: str, *, socket_timeout: float | None = None) -> AsyncClient:
    """A client for the running event loop, with the options that django-redis would use; replies are bytes.

    `socket_timeout` in seconds overrides the settings', for blocking reads. Nothing connects yet.
    """
    config = settings.CACHES[alias]
    options = dict(config.get("OPTIONS", {}))
    urls = _urls(config["LOCATION"])
    factory = get_connection_factory(options)
    arguments = _connection_arguments(factory, urls[0], options)
    if socket_timeout is not None:
        arguments["socket_timeout"] = socket_timeout
    if isinstance(factory, ClusterConnectionFactory) or _is_cluster_class(options):
        return _cluster(urls, arguments, options)
    if isinstance(factory, SentinelConnectionFactory):
        return _sentinel(urls[0], arguments, options)
    return Redis.from_pool(BlockingConnectionPool.from_url(urls[0], **_pooled(arguments)))


def sync_client(alias: str) -> SyncClient:
    """A client for any thread: the cache's options, and the timeouts of `make_async_client` where they name none.

    django-redis would wait for 5 s. The cache keeps its own connections and timeouts. Nothing connects yet.
    """
    config = settings.CACHES[alias]
    options = dict(config.get("OPTIONS", {}))
    if options.get("SENTINELS"):
        options["SENTINEL_KWARGS"] = {
            **_sentinel_timeouts(SyncRetry),
            **(options.get("SENTINEL_KWARGS") or {}),
        }
        options.setdefault("CONNECTION_POOL_CLASS", "mcp_sessions.connections.sync_sentinel.SyncPrimaryPool")
    factory = get_connection_factory(options)
    if isinstance(factory, ClusterConnectionFactory) or _is_cluster_class(options):
        cluster: SyncRedisCluster = get_redis_connection(alias)
        return cluster
    identity = repr(config)
    with _sync_lock:
        client = _sync_clients.get(identity)
        if client is None:
            client = _sync_clients[identity] = _make_sync_client(factory, _urls(config["LOCATION"])[0])
    return client


def _make_sync_client(factory: Any, url: str) -> SyncRedis:
    arguments = {**_timeouts(), **factory.make_connection_params(url)}
    if issubclass(factory.pool_cls, SyncBlockingConnectionPool):
        arguments["timeout"] = arguments["socket_timeout"]
    client: SyncRedis = factory.redis_client_cls(
        connection_pool=factory.get_connection_pool(arguments), **factory.redis_client_cls_kwargs
    )
    return client


def _urls(location: str | Sequence[str]) -> Sequence[str]:
    """LOCATION as django-redis reads it: a list or a comma-separated string, primary first."""
    return location.split(",") if isinstance(location, str) else list(location)


def _is_cluster_class(options: Mapping[str, Any]) -> bool:
    path = options.get("REDIS_CLIENT_CLASS")
    return path is not None and issubclass(import_string(path), SyncRedisCluster)


def _connection_arguments(factory: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {
        **_timeouts(),
        **factory.make_connection_params(url),
        **options.get("CONNECTION_POOL_KWARGS", {}),
        "retry": Retry(NoBackoff(), 0),
    }
    kept = {name: value for name, value in arguments.items() if name not in _SYNC_ONLY}
    return {**kept, "retry": arguments["retry"]}


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}


def _sentinel_timeouts(retry: type[Retry] | type[SyncRetry]) -> dict[str, Any]:
    return {
        "socket_timeout": sentinel.TIMEOUT,
        "socket_connect_timeout": sentinel.TIMEOUT,
        "retry": retry(NoBackoff(), 0),
    }


def _pooled(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"max_connections": MAX_CONNECTIONS, "timeout": arguments["socket_timeout"], **arguments}


def _sentinel(url: str, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Redis:
    """The primary of the service that the URL's host names."""
    parsed = parse_url(url.replace("is_master=", "client_name="))
    secure = urlparse(url).scheme == "rediss"
    connection = {
        **{name: value for name, value in arguments.items() if name not in ("timeout", "max_connections")},
        **{name: value for name, value in parsed.items() if name not in ("connection_class", "host", "port")},
    }
    connection.pop("client_name", None)
    sentinel_options = {**_sentinel_timeouts(Retry), **(options.get("SENTINEL_KWARGS") or {})}
    pool = PrimaryPool(
        urlparse(url).hostname or "",
        Sentinel(options["SENTINELS"], sentinel_kwargs=sentinel_options),  # type: ignore[no-untyped-call] # likewise
        connection_class=PrimarySSLConnection if secure else PrimaryConnection,
        **_pooled({**arguments, **connection}),
    )
    return Redis.from_pool(pool)


def _cluster(urls: Sequence[str], arguments: Mapping[str, Any], options: Mapping[str, Any]) -> ClusterNodes:
    """A Cluster of which any of the URLs tells the rest."""
    of_url = parse_url(urls[0])
    client_options = {**options.get("REDIS_CLIENT_KWARGS", {})}
    remap = client_options.pop("address_remap", None)
    secure = {"connection_class": SSLConnection} if urlparse(urls[0]).scheme == "rediss" else {}
    return ClusterNodes(
        _addresses(urls),
        {
            **_pooled(arguments),
            **secure,
            **{name: value for name, value in client_options.items() if name not in _CLUSTER_ONLY},
            **{name: value for name, value in of_url.items() if name in ("username", "password")},
        },
        remap=remap,
    )


def _addresses(urls: Sequence[str]) -> list[tuple[str, int]]:
    parsed = [parse_url(url) for url in urls]
    return [(each.get("host", "localhost"), each.get("port", 6379)) for each in parsed]


def make_key_of(alias: str) -> Callable[[str], str]:
    """The cache's `make_key`, bound to its KEY_PREFIX, VERSION and KEY_FUNCTION; it opens no connection."""
    return caches[alias].make_key
