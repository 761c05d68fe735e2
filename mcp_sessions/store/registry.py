"""Which store an endpoint uses: one per process and endpoint, made on first use."""

import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django_redis import get_redis_connection

from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.store.base import Limits, SessionDirectory, SessionStore
from mcp_sessions.store.clients import make_async_client, make_key_of, redis_cache
from mcp_sessions.store.commands import Commands
from mcp_sessions.store.directory import RedisDirectory
from mcp_sessions.store.keys import Keys
from mcp_sessions.store.memory import Memory, MemoryDirectory, MemoryStore
from mcp_sessions.store.memory_streams import MemoryStreamDirectory, MemoryStreams, StreamsOfMemory
from mcp_sessions.store.redis import RedisStore
from mcp_sessions.store.redis_streams import RedisStreams
from mcp_sessions.store.stream_commands import StreamCommands
from mcp_sessions.store.stream_directory import RedisStreamDirectory
from mcp_sessions.store.streaming import StreamDirectory, StreamStore

_lock = threading.Lock()
#: By alias of the endpoint; forgotten when a setting changes.
_faces: dict[str, tuple[SessionStore, SessionDirectory]] = {}
_stream_faces: dict[str, tuple[StreamStore, StreamDirectory]] = {}
#: By cache settings and namespace: a changed setting elsewhere must not cost connections, or memory its sessions.
_redis_stores: dict[str, RedisStore] = {}
_redis_streams: dict[str, RedisStreams] = {}
_memories: dict[str, Memory] = {}
_memory_streams: dict[str, StreamsOfMemory] = {}


def store_for(alias: str) -> SessionStore:
    """The async store of an endpoint of MCP_SESSIONS: Redis if its CACHE is a django-redis alias, else memory."""
    return _faces_of(alias)[0]


def directory_for(alias: str) -> SessionDirectory:
    """The sync face of the same sessions."""
    return _faces_of(alias)[1]


def streams_for(alias: str) -> StreamStore:
    """What carries messages between the processes that serve an endpoint; beside its sessions."""
    return _stream_faces_of(alias)[0]


def stream_directory_for(alias: str) -> StreamDirectory:
    """The sync face of the same streams."""
    return _stream_faces_of(alias)[1]


async def close_stores() -> None:
    """Close every store's connections that belong to the running event loop."""
    for store in list(_redis_stores.values()):
        await store.aclose()
    for streams in list(_redis_streams.values()):
        await streams.aclose()


def _faces_of(alias: str) -> tuple[SessionStore, SessionDirectory]:
    faces = _faces.get(alias)
    if faces is None:
        with _lock:
            faces = _faces[alias] = _make(endpoint(alias))
    return faces


def _make(entry: Endpoint) -> tuple[SessionStore, SessionDirectory]:
    if redis_cache(entry.cache) is None:
        memory = _memories.setdefault(entry.namespace, Memory())
        return MemoryStore(memory), MemoryDirectory(memory)
    commands = Commands(Keys(entry.namespace, make_key_of(entry.cache)))
    directory = RedisDirectory(commands, lambda: get_redis_connection(entry.cache), _limits_of(entry.alias))
    return _redis_store(entry, commands), directory


def _stream_faces_of(alias: str) -> tuple[StreamStore, StreamDirectory]:
    faces = _stream_faces.get(alias)
    if faces is None:
        with _lock:
            faces = _stream_faces[alias] = _make_streams(endpoint(alias))
    return faces


def _make_streams(entry: Endpoint) -> tuple[StreamStore, StreamDirectory]:
    if redis_cache(entry.cache) is None:
        memory = _memories.setdefault(entry.namespace, Memory())
        shared = _memory_streams.setdefault(entry.namespace, StreamsOfMemory(memory))
        return MemoryStreams(shared), MemoryStreamDirectory(shared)
    commands = StreamCommands(Keys(entry.namespace, make_key_of(entry.cache)))
    directory = RedisStreamDirectory(commands, lambda: get_redis_connection(entry.cache))
    return _redis_stream_store(entry, commands), directory


def _redis_stream_store(entry: Endpoint, commands: StreamCommands) -> RedisStreams:
    identity = _identity(entry)
    store = _redis_streams.get(identity)
    if store is None:
        store = _redis_streams[identity] = RedisStreams(
            commands, lambda timeout: make_async_client(entry.cache, socket_timeout=timeout)
        )
    return store


def _identity(entry: Endpoint) -> str:
    return repr((settings.CACHES[entry.cache], entry.cache, entry.namespace))


def _redis_store(entry: Endpoint, commands: Commands) -> RedisStore:
    identity = _identity(entry)
    store = _redis_stores.get(identity)
    if store is None:
        store = _redis_stores[identity] = RedisStore(commands, lambda: make_async_client(entry.cache))
    return store


def _limits_of(alias: str) -> Callable[[], Limits]:
    return lambda: endpoint(alias).limits


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("MCP_SESSIONS", "CACHES"):
        _faces.clear()
        _stream_faces.clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.store.registry")
