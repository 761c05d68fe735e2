"""Which store an endpoint uses: one per process and endpoint, made on first use."""

import threading
from collections.abc import Callable
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
_embedded: dict[tuple[str, int], tuple[Store, SyncStore]] = {}

#: Makes the two faces of an endpoint's store.
Make = Callable[[Endpoint], tuple[Store, SyncStore]]
_stand_in: Make | None = None


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
            stores = _stores[alias] = (_stand_in or _make)(endpoint(alias))
    return stores


def stand_in(make: Make | None) -> None:
    """From here on, `make` makes the stores of all endpoints, whatever the settings say; None: the settings count."""
    global _stand_in
    _stand_in = make
    _stores.clear()


def in_memory(
    namespace: str, *, shards: int = 1, clock: Callable[[], int] | None = None
) -> tuple[Store, SyncStore]:
    """A new store in this process. `clock` and Raises: as `engine.Engine`."""
    embedded = EmbeddedStore(SyncEmbeddedStore(Keys(namespace, str, shards=shards), Engine(clock)))
    return embedded, embedded.sync


def _make(entry: Endpoint) -> tuple[Store, SyncStore]:
    shards = entry.limits.shards
    if redis_cache(entry.cache) is None:
        if (entry.namespace, shards) not in _embedded:
            _embedded[entry.namespace, shards] = in_memory(entry.namespace, shards=shards)
        return _embedded[entry.namespace, shards]
    keys = Keys(entry.namespace, make_key_of(entry.cache), shards=shards)
    identity = repr((settings.CACHES[entry.cache], entry.cache, entry.namespace, shards))
    store = _redis.get(identity)
    if store is None:
        store = _redis[identity] = RedisStore(
            keys, lambda timeout: make_async_client(entry.cache, socket_timeout=timeout)
        )
    return store, SyncRedisStore(keys, lambda: sync_client(entry.cache), server=entry.cache)


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("MCP_SESSIONS", "CACHES"):
        _stores.clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.store.factory")
