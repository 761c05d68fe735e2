"""Checks of where sessions live. Only the check of the eviction policy, with `--deploy`, uses the network."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register
from django.core.checks import Warning as Advice

from mcp_sessions import engine
from mcp_sessions.checks import caches
from mcp_sessions.checks.common import TAG, Apps, Found, endpoints, message, names
from mcp_sessions.connections.defaults import REDIS_ERRORS


@register(TAG)
def check_namespaces(app_configs: Apps, **_: Any) -> Found:
    """E007: no two endpoints keep their sessions under the same keys."""
    by_keys = defaultdict(list)
    for endpoint in endpoints():
        by_keys[(endpoint.namespace, caches.keyspace(endpoint.cache))].append(endpoint.alias)
    return [
        message(
            Error,
            "E007",
            f"MCP_SESSIONS: {names(aliases)} have the same NAMESPACE {namespace!r} on one cache: "
            "the sessions of one would be valid at the other.",
            "Give each endpoint its own NAMESPACE, or leave it out: the default is the entry's key.",
        )
        for (namespace, _keys), aliases in by_keys.items()
        if len(aliases) > 1
    ]


@register(TAG)
def check_cache(app_configs: Apps, **_: Any) -> Found:
    """W001: sessions live in Redis."""
    return [
        message(
            Advice,
            "W001",
            f"MCP_SESSIONS[{endpoint.alias!r}]: the cache {endpoint.cache!r} is {caches.shortcoming(endpoint.cache)}, "
            "so the sessions live in the memory of one process. They are lost when it ends, other processes answer "
            "them with 404, and only the admin of that process lists them.",
            "Configure CACHES with django_redis.cache.RedisCache and name its alias in CACHE.",
        )
        for endpoint in endpoints()
        if not caches.is_django_redis(endpoint.cache)
    ]


@register(TAG)
def check_lua(app_configs: Apps, **_: Any) -> Found:
    """E010: without Redis, the package that sessions in memory need is installed."""
    return [
        message(
            Error,
            "E010",
            f"MCP_SESSIONS[{endpoint.alias!r}]: the cache {endpoint.cache!r} is {caches.shortcoming(endpoint.cache)}, "
            "and sessions in the memory of one process need the package lupa, which is missing.",
            'Configure CACHES with django_redis.cache.RedisCache, or run pip install "mcp-sessions[memory]".',
        )
        for endpoint in endpoints()
        if not caches.is_django_redis(endpoint.cache) and not engine.is_available()
    ]


@register(TAG)
def check_shared_database(app_configs: Apps, **_: Any) -> Found:
    """W004: no other cache can flush the sessions' database."""
    return [
        message(
            Advice,
            "W004",
            f"MCP_SESSIONS[{endpoint.alias!r}] keeps its sessions in {database}, which the cache {other!r} also "
            f"uses: caches[{other!r}].clear() is FLUSHDB there and ends every session.",
            "Give the sessions their own database or, better, their own server.",
        )
        for endpoint in endpoints()
        if caches.is_django_redis(endpoint.cache)
        for other in settings.CACHES
        if other != endpoint.cache
        for database in sorted(caches.databases(endpoint.cache) & caches.databases(other))
    ]


@register(TAG, deploy=True)
def check_eviction(app_configs: Apps, **_: Any) -> Found:
    """W007: Redis does not evict sessions when its memory is full; I001 if it does not answer."""
    aliases = {endpoint.cache for endpoint in endpoints() if caches.is_django_redis(endpoint.cache)}
    return [message for alias in sorted(aliases) for message in _eviction_messages(alias)]


def _eviction_messages(alias: str) -> Iterator[CheckMessage]:
    try:
        policies = caches.eviction_policies(alias)
    except REDIS_ERRORS as error:
        text = (
            f"The Redis of the cache {alias!r} did not report its maxmemory-policy: {type(error).__name__}."
        )
        yield message(Info, "I001", text, "Run `check --deploy` where Redis is reachable.")
        return
    for policy in sorted(policies - {"noeviction"}):
        yield message(
            Advice,
            "W007",
            f"The Redis of the cache {alias!r} has maxmemory-policy {policy}: when its memory is full, it "
            "evicts sessions that are in use.",
            "Set maxmemory-policy to noeviction: then a full Redis refuses writes instead. Clients get 503 until there "
            "is room, those with an open session included, but no session is lost.",
        )
