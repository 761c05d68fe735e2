"""The stores of two processes over the same data, and a clock that only tests move, over each driver."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from django_redis import get_redis_connection
from pytest_django import Settings
from redis import Redis

from mcp_sessions.conf import Limits, StreamLimits
from mcp_sessions.engine import Engine
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import ANONYMOUS, Handshake, Session
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import nodes, sessions, streams, sweeps
from mcp_sessions.store.calls.streams import Appended, Batch, Closed, Taken
from mcp_sessions.store.clients import make_async_client, make_key_of, sync_client
from mcp_sessions.store.drivers import Store, SyncStore
from mcp_sessions.store.drivers.asynchronous import RedisStore
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.drivers.synchronous import SyncRedisStore
from mcp_sessions.store.keys import Keys, homes, shard_of
from tests.support.caches import Entry, default_cache

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

LIMITS = Limits(
    idle_ms=HOUR, max_age_ms=DAY, first_ms=MINUTE, max_sessions=None, max_sessions_per_principal=None
)
#: Of the indexes, by kind of store; the others have one.
SHARDS = {"cluster": 16, "threads": 16}
STREAM_LIMITS = StreamLimits(max_events=100, max_bytes=10_000, ttl_ms=5 * MINUTE)
EXCHANGE = "00112233445566aa"
CLAUDE = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "claude-ai", "version": "0.1.0"},
    capabilities={"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}},
)

T = TypeVar("T")
_numbers = itertools.count()


def a_fingerprint() -> str:
    """One that no other test uses."""
    return hashlib.sha256(str(next(_numbers)).encode()).hexdigest()


def a_fingerprint_in(shard: int, shards: int) -> str:
    """One of a certain shard."""
    return next(each for each in iter(a_fingerprint, "") if shard_of(each, shards) == shard)


def a_namespace() -> str:
    return f"test-{next(_numbers)}"


def client_named(name: str, *, protocol: str = "2025-11-25") -> Handshake:
    return Handshake(protocol_version=protocol, client_info={"name": name, "version": "1"}, capabilities={})


def another(handshake: Handshake = CLAUDE) -> Callable[[], tuple[str, Handshake]]:
    """Makes other sessions with a handshake, for a shard that is full."""
    return lambda: (a_fingerprint(), handshake)


#: Milliseconds since the epoch where the clock of a test starts, and the first position and token that are given then.
START = 1_800_000_000_000
FIRST = START * 1000


class Clock:
    """Milliseconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


@dataclass(kw_only=True)
class Threaded:
    """A sync store as an async one, for the tests of every store: each call is made in a thread."""

    sync: SyncStore
    #: Listens; a sync store does not.
    listener: Store
    shared: bool = True

    async def run(self, work: Call[T] | Operation[T], /) -> T:
        return await asyncio.to_thread(self.sync.run, work)

    async def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        return await asyncio.to_thread(self.sync.run_all, calls)

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        return await self.listener.listen(node, after=after, block_ms=block_ms)

    async def aclose(self) -> None:
        await self.listener.aclose()


@dataclass(kw_only=True)
class Harness:
    """Two processes' stores over the same data, the sync one, and what they are configured with."""

    kind: str
    store: Store
    #: As another process would have it. The same object where nothing is shared.
    other: Store
    sync: SyncStore
    clock: Clock
    keys: Keys
    limits: Limits = LIMITS
    stream_limits: StreamLimits = STREAM_LIMITS

    # Sessions

    async def open(
        self,
        *,
        principal: str = ANONYMOUS,
        handshake: Handshake = CLAUDE,
        fingerprint: str = "",
        active: bool = True,
    ) -> str:
        """A new session's fingerprint; `active` as after its first request."""
        create = sessions.create(
            fingerprint or a_fingerprint(),
            principal=principal,
            handshake=handshake,
            limits=self.limits,
            another=None if fingerprint else another(handshake),
        )
        fingerprint = (await self.store.run(create)).fingerprint
        if active:
            assert await self.touch(fingerprint, principal=principal, call="ping")
        return fingerprint

    async def touch(self, fingerprint: str, *, principal: str = ANONYMOUS, **options: Any) -> Session | None:
        return await self.store.run(
            sessions.touch(fingerprint, principal=principal, limits=self.limits, **options)
        )

    async def sweep(self, *, node: str = "sweeper") -> list[Session]:
        """What a node does with each heartbeat to what is over; the records that ended."""
        ended: list[Session] = []
        for home in homes(self.limits.shards):
            found = await self.other.run(sweeps.over(home, node=node))
            for kind, fingerprints in found.fingerprints.items() if found is not None else ():
                work = sweeps.sweep(fingerprints, token=f"token-{next(_numbers)}", limits=self.limits)
                swept = await self.other.run(work)
                ended += swept.ended
                assert found is not None
                drop = sweeps.drop(swept.lost, home=home, kind=kind, now_ms=found.now_ms)
                await self.other.run(drop)
                if swept.foreign:
                    await self.other.run(
                        sweeps.leave(swept.foreign, home=home, kind=kind, node=node, now_ms=found.now_ms)
                    )
        return ended

    def limit(self, **changes: Any) -> None:
        self.limits = replace(self.limits, **changes)

    async def recovered(self, *, seconds: float = 1.0) -> None:
        """Wait until calls use Redis again, which takes at most so many seconds after it answers."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.store.run(nodes.list_nodes())
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
                else:
                    return

    def key(self, fingerprint: str, part: str) -> str:
        """A key of a session; of the namespace without a fingerprint."""
        return self.keys.resolve(fingerprint, [part])[0]

    # Streams

    async def exchange(self, *, node: str = "a", stream: str = EXCHANGE) -> str:
        """The fingerprint of a new session with one exchange that runs on a node."""
        fingerprint = await self.open()
        claim = await self.store.run(
            streams.open_stream(fingerprint, stream, node=node, request_id="7", limits=self.stream_limits)
        )
        assert claim is not None
        return fingerprint

    async def append(
        self,
        fingerprint: str,
        *payloads: bytes,
        first: int = 1,
        last: bool = False,
        stream: str = EXCHANGE,
        node: str = "a",
    ) -> Appended | None:
        return await self.store.run(
            streams.append(
                fingerprint,
                stream,
                node=node,
                first=first,
                payloads=payloads,
                last=last,
                limits=self.stream_limits,
            )
        )

    async def publish(self, fingerprint: str, *payloads: bytes, key: str = "") -> Appended | None:
        key = key or str(next(_numbers))
        return await self.store.run(
            streams.publish(fingerprint, payloads=payloads, key=key, limits=self.stream_limits)
        )

    async def claim(
        self, fingerprint: str, *, stream: str = EXCHANGE, node: str = "b", after: int | None = 0
    ) -> Taken:
        taken = await self.other.run(
            streams.claim(fingerprint, stream, node=node, after=after, ttl_ms=300_000)
        )
        assert taken is not None
        return taken

    async def read(
        self, fingerprint: str, taken: Taken, *, stream: str = EXCHANGE, max_bytes: int = 100_000
    ) -> Batch:
        """What follows the position of a claim."""
        batch = await self.other.run(
            streams.read(fingerprint, stream, claim=taken.claim, after=taken.after, max_bytes=max_bytes)
        )
        assert batch is not None
        return batch

    async def close_orphan(
        self,
        fingerprint: str,
        *,
        origin: str = "a",
        after: int = 0,
        stream: str = EXCHANGE,
        payload: bytes = b"lost",
    ) -> Closed | None:
        """Another process ends the stream of a dead node."""
        return await self.other.run(
            streams.close_orphan(
                fingerprint, stream, origin=origin, after=after, payload=payload, limits=self.stream_limits
            )
        )

    async def kept(self, fingerprint: str, *, stream: str = EXCHANGE) -> list[tuple[int, bytes]]:
        """Every event of a log, as a new claim sees it."""
        batch = await self.read(fingerprint, await self.claim(fingerprint, stream=stream), stream=stream)
        return events(batch)

    # Both

    def advance(self, milliseconds: int) -> None:
        """Let time pass: for the clock, and for what Redis expires by itself."""
        self.clock.advance(milliseconds)
        if self.kind != "embedded":
            for client in servers():
                _age(client, milliseconds)

    async def settled(self) -> None:
        """Wait until the index updates of the past touches have been written."""
        for store in (self.store, self.other):
            if isinstance(store, RedisStore):
                await store.settle()

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.other.aclose()


def embedded_harness(shards: int = 1) -> Harness:
    clock = Clock()
    keys = Keys(a_namespace(), str, shards=shards)
    store = EmbeddedStore(SyncEmbeddedStore(keys, Engine(clock)))
    limits = replace(LIMITS, shards=shards)
    return Harness(
        kind="embedded", store=store, other=store, sync=store.sync, clock=clock, keys=keys, limits=limits
    )


def redis_harness(
    kind: str, *, alias: str = "default", namespace: str = "", shards: int | None = None
) -> Harness:
    """Over the cache of that alias in the settings."""
    clock = Clock()
    shards = SHARDS.get(kind, 1) if shards is None else shards
    keys = Keys(namespace or a_namespace(), make_key_of(alias), shards=shards)
    sync = SyncRedisStore(keys, lambda: sync_client(alias), clock=clock)

    def make() -> RedisStore:
        return RedisStore(keys, lambda timeout: make_async_client(alias, socket_timeout=timeout), clock=clock)

    store: Store = Threaded(sync=sync, listener=make()) if kind == "threads" else make()
    limits = replace(LIMITS, shards=shards)
    return Harness(kind=kind, store=store, other=make(), sync=sync, clock=clock, keys=keys, limits=limits)


@asynccontextmanager
async def harness_on(entry: Entry, settings: Settings, *, kind: str = "standalone") -> AsyncIterator[Harness]:
    """A harness over a cache of its own: the entry becomes CACHES["default"]."""
    with default_cache(settings, entry):
        made = redis_harness(kind)
        try:
            yield made
        finally:
            await made.aclose()


def events(batch: Batch) -> list[tuple[int, bytes]]:
    return [(event.position, event.payload) for event in batch.events]


def payloads(batch: Batch) -> list[bytes]:
    return [event.payload for event in batch.events]


async def gather(*awaitables: Any) -> list[Any]:
    return list(await asyncio.gather(*awaitables))


def servers(alias: str = "default") -> Sequence[Redis]:
    """A client for each server that holds keys."""
    client: Any = get_redis_connection(alias)
    if hasattr(client, "get_primaries"):
        return [client.get_redis_connection(node) for node in client.get_primaries()]
    return [client]


def _age(client: Redis, milliseconds: int) -> None:
    for key in client.scan_iter(match="*mcp:v1:*", count=1000):
        left = client.pttl(key)
        if left > milliseconds:
            client.pexpire(key, left - milliseconds)
        elif left >= 0:  # less than a millisecond, at 0
            client.delete(key)
