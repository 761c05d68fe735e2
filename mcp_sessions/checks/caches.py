"""The aliases of CACHES: which Redis databases they use, and how that Redis is configured."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.redis import RedisCache as DjangoRedisCache
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from redis import Redis
from redis.cluster import RedisCluster

from mcp_sessions.store.clients import redis_cache

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_django_redis(alias: str) -> bool:
    """Whether CACHES has the alias and django-redis is its backend."""
    return redis_cache(alias) is not None


def shortcoming(alias: str) -> str:
    """What is wrong with an alias that is not a django-redis cache."""
    return "not a django-redis cache" if alias in settings.CACHES else "not in CACHES"


def databases(alias: str) -> frozenset[str]:
    """The Redis databases that a cache uses, such as "database 0 of redis.example.com:6379"; empty if it uses none.

    They are taken from the settings, so two names of one host count as two servers. They never contain a password.
    """
    if not _is_in_redis(alias):
        return frozenset()
    options = settings.CACHES[alias].get("OPTIONS") or {}
    return frozenset(_database(url, options) for url in _locations(alias))


def keyspace(alias: str) -> tuple[object, ...]:
    """A value that is equal for aliases under which equal namespaces mean the same sessions."""
    if not is_django_redis(alias):
        return ("the memory of this process",)
    config = settings.CACHES[alias]
    return databases(alias), config.get("KEY_PREFIX", ""), config.get("VERSION", 1)


def eviction_policies(alias: str) -> set[str]:
    """The `maxmemory-policy` of every server, from INFO, because managed servers often have no CONFIG.

    Raises: what redis-py raises.
    """
    client: Redis | RedisCluster = get_redis_connection(alias)
    if isinstance(client, RedisCluster):
        servers = list(client.info("memory", target_nodes=RedisCluster.ALL_NODES).values())
    else:
        servers = [client.info("memory")]
    return {server["maxmemory_policy"] for server in servers}


def _is_in_redis(alias: str) -> bool:
    try:
        return isinstance(caches[alias], (RedisCache, DjangoRedisCache))
    except InvalidCacheBackendError:
        return False


def _locations(alias: str) -> Iterator[str]:
    """The URLs of LOCATION: a list, or a string with commas (or semicolons, which Django's own backend takes)."""
    location = settings.CACHES[alias].get("LOCATION") or ()
    urls = location.replace(";", ",").split(",") if isinstance(location, str) else location
    return (url.strip() for url in urls if url.strip())


def _database(url: str, options: Mapping[str, Any]) -> str:
    parts = urlsplit(url)
    query = parse_qs(parts.query).get("db")
    if parts.scheme == "unix":
        return f"database {query[0] if query else _default_database(options)} of {parts.path}"
    number = query[0] if query else parts.path.strip("/") or _default_database(options)
    host = parts.hostname or "localhost"
    return f"database {number} of {'127.0.0.1' if host in _LOOPBACK else host}:{parts.port or 6379}"


def _default_database(options: Mapping[str, Any]) -> object:
    """The database for a URL that does not name one."""
    return (options.get("CONNECTION_POOL_KWARGS") or {}).get("db", options.get("db", 0))
