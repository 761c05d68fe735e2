"""Entries of CACHES for the servers in `redis`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.core.cache import caches
from pytest_django import Settings

from tests.support.redis import RedisCluster, RedisServer, SentinelTrio

BACKEND: Final = "django_redis.cache.RedisCache"
Entry = dict[str, Any]


def standalone_cache(server: RedisServer) -> Entry:
    return {"BACKEND": BACKEND, "LOCATION": server.url}


def sentinel_cache(trio: SentinelTrio) -> Entry:
    return {
        "BACKEND": BACKEND,
        "LOCATION": f"redis://{trio.service}/0",
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": trio.addresses,
            "SENTINEL_KWARGS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
            "SOCKET_TIMEOUT": 2,
        },
    }


def cluster_cache(cluster: RedisCluster) -> Entry:
    return {
        "BACKEND": BACKEND,
        "LOCATION": [node.url for node in cluster.nodes],
        "OPTIONS": {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
    }


#: Kind of store -> the fixture with its server, and the entry that reaches it.
CACHES: Final[Mapping[str, tuple[str, Callable[[Any], Entry]]]] = {
    "standalone": ("redis_server", standalone_cache),
    "threads": ("redis_server", standalone_cache),
    "sentinel": ("sentinels", sentinel_cache),
    "cluster": ("cluster", cluster_cache),
}


def with_timeouts(entry: Entry, seconds: float, *, connect: float | None = None) -> Entry:
    """The same entry with socket timeouts; connecting may take as long unless `connect` says otherwise."""
    timeouts = {"SOCKET_TIMEOUT": seconds, "SOCKET_CONNECT_TIMEOUT": seconds if connect is None else connect}
    return {**entry, "OPTIONS": {**entry.get("OPTIONS", {}), **timeouts}}


@contextmanager
def default_cache(settings: Settings, entry: Entry) -> Iterator[Entry]:
    """CACHES["default"] is this entry; at the end its connections are closed."""
    settings.CACHES = {"default": entry}
    try:
        yield entry
    finally:
        disconnect()


def disconnect() -> None:
    """Close the connections that django-redis has opened."""
    for cache in caches.all(initialized_only=True):
        client = getattr(cache, "_client", None)
        if client is not None:
            client.disconnect()
