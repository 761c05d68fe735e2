"""Which store an endpoint uses: one per process and endpoint, made on first use."""

import threading
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.engine import Engine
from mcp_sessions.store.clients import make_async_client, make_key_of, redis_cache, sync_client
from mcp_sessions.store.drivers import Store, SyncStore
from mcp_sessions.store.drivers.asynchronous import RedisStore
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.drivers.synchronous import SyncRedisStore
from mcp_sessions.store.keys import Keys

_lock = threading.Lock()
#: By alias of the endpoint; forgotten when a setting changes.
_stores: dict[str, tuple[Store, SyncStore]] = {}
#: By cache settings and namespace: a changed setting elsewhere must not cost connections, or embedded sessions.
_redis: dict[str, RedisStore] = {}
_embedded: dict[tuple[str, int], EmbeddedStore] = {}


def store_for(alias: str) -> Store:
    """The store of an endpoint of MCP_SESSIONS, for event loops: Redis if its CACHE is a django-redis alias, else this
    process. Raises: ImproperlyConfigured if that needs a package that is missing."""
    return _stores_of(alias)[0]


def sync_store_for(alias: str) -> SyncStore:
    """The same sessions and streams, for any thread."""
    return _stores_of(alias)[1]


def _stores_of(alias: str) -> tuple[Store, SyncStore]:
    stores = _stores.get(alias)
    if stores is None:
        with _lock:
            stores = _stores[alias] = _make(endpoint(alias))
    return stores


def _make(entry: Endpoint) -> tuple[Store, SyncStore]:
    shards = entry.limits.shards
    if redis_cache(entry.cache) is None:
        embedded = _embedded.get((entry.namespace, shards))
        if embedded is None:
            embedded = EmbeddedStore(SyncEmbeddedStore(Keys(entry.namespace, str, shards=shards), Engine()))
            _embedded[entry.namespace, shards] = embedded
        return embedded, embedded.sync
    keys = Keys(entry.namespace, make_key_of(entry.cache), shards=shards)
    identity = repr((settings.CACHES[entry.cache], entry.cache, entry.namespace, shards))
    store = _redis.get(identity)
    if store is None:
        store = _redis[identity] = RedisStore(
            keys, lambda timeout: make_async_client(entry.cache, socket_timeout=timeout)
        )
    return store, SyncRedisStore(keys, lambda: sync_client(entry.cache))


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("MCP_SESSIONS", "CACHES"):
        _stores.clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.store.factory")
