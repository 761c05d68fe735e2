"""A store with both of its faces and a clock that only tests move, over each kind of backend."""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from django_redis import get_redis_connection

from mcp_sessions.store.base import Limits, SessionDirectory, SessionStore
from mcp_sessions.store.clients import make_async_client, make_key_of
from mcp_sessions.store.commands import Commands
from mcp_sessions.store.directory import RedisDirectory
from mcp_sessions.store.keys import Keys
from mcp_sessions.store.memory import Memory, MemoryDirectory, MemoryStore
from mcp_sessions.store.redis import RedisStore
from mcp_sessions.store.session import ANONYMOUS, Handshake, Session
from tests.support.redis import RedisCluster, RedisServer, SentinelTrio

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

LIMITS = Limits(
    idle_ms=HOUR,
    max_age_ms=DAY,
    first_ms=MINUTE,
    max_sessions=None,
    max_sessions_per_principal=None,
    state_max_bytes=1_000,
)
CLAUDE = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "claude-ai", "version": "0.1.0"},
    capabilities={"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}},
)

_numbers = itertools.count()


def a_fingerprint() -> str:
    """One that no other test uses."""
    return hashlib.sha256(str(next(_numbers)).encode()).hexdigest()


def a_namespace() -> str:
    return f"test-{next(_numbers)}"


def client_named(name: str, *, protocol: str = "2025-11-25") -> Handshake:
    return Handshake(protocol_version=protocol, client_info={"name": name, "version": "1"}, capabilities={})


class Clock:
    """Milliseconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


@dataclass(kw_only=True)
class World:
    """Two processes' stores over the same sessions, the sync face, and what they are configured with."""

    kind: str
    store: SessionStore
    #: As another process would have it. The same object where sessions are not shared.
    other: SessionStore
    directory: SessionDirectory
    clock: Clock
    limits: Limits = LIMITS
    #: Only with Redis.
    commands: Commands | None = None
    _closing: list[SessionStore] = field(default_factory=list)

    async def open(
        self,
        *,
        principal: str = ANONYMOUS,
        handshake: Handshake = CLAUDE,
        fingerprint: str = "",
        active: bool = True,
    ) -> str:
        """A new session's fingerprint; `active` as after its first request."""
        fingerprint = fingerprint or a_fingerprint()
        await self.store.create(fingerprint, principal=principal, handshake=handshake, limits=self.limits)
        if active:
            assert await self.touch(fingerprint, principal=principal, call="ping")
        return fingerprint

    async def touch(self, fingerprint: str, *, principal: str = ANONYMOUS, **options: Any) -> Session | None:
        return await self.store.touch(fingerprint, principal=principal, limits=self.limits, **options)

    def limit(self, **changes: Any) -> None:
        self.limits = replace(self.limits, **changes)

    async def settled(self) -> None:
        """Wait until the index updates of the past touches have been written."""
        for store in (self.store, self.other):
            if isinstance(store, RedisStore):
                await store.settle()

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.other.aclose()


def memory_world() -> World:
    clock = Clock()
    memory = Memory(clock=clock)
    store = MemoryStore(memory)
    return World(kind="memory", store=store, other=store, directory=MemoryDirectory(memory), clock=clock)


def redis_world(kind: str, *, alias: str = "default", namespace: str = "") -> World:
    """Over the cache of that alias in the settings."""
    clock = Clock()
    commands = Commands(Keys(namespace or a_namespace(), make_key_of(alias)), clock=clock)
    world = World(
        kind=kind,
        store=RedisStore(commands, lambda: make_async_client(alias)),
        other=RedisStore(commands, lambda: make_async_client(alias)),
        directory=RedisDirectory(commands, lambda: get_redis_connection(alias), lambda: world.limits),
        clock=clock,
        commands=commands,
    )
    return world


def standalone_cache(server: RedisServer) -> dict[str, Any]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}


def sentinel_cache(trio: SentinelTrio) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"redis://{trio.service}/0",
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": trio.addresses,
            "SENTINEL_KWARGS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
            "SOCKET_TIMEOUT": 2,
        },
    }


def cluster_cache(cluster: RedisCluster) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": [node.url for node in cluster.nodes],
        "OPTIONS": {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
    }


#: Kind of backend -> the fixture with its server, and the entry of CACHES that reaches it.
CACHES: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "standalone": ("redis_server", standalone_cache),
    "sentinel": ("sentinels", sentinel_cache),
    "cluster": ("cluster", cluster_cache),
}
