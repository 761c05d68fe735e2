"""Streams over each backend, beside the sessions of a `World`, with a clock that only tests move."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django_redis import get_redis_connection
from redis import Redis

from mcp_sessions.store.clients import make_async_client
from mcp_sessions.store.memory import MemoryStore
from mcp_sessions.store.memory_streams import MemoryStreamDirectory, MemoryStreams, StreamsOfMemory
from mcp_sessions.store.redis_streams import RedisStreams
from mcp_sessions.store.stream_commands import StreamCommands
from mcp_sessions.store.stream_directory import RedisStreamDirectory
from mcp_sessions.store.streaming import Appended, Batch, StreamDirectory, StreamLimits, StreamStore, Taken
from tests.store.worlds import MINUTE, World

LIMITS = StreamLimits(max_events=100, max_bytes=10_000, ttl_ms=5 * MINUTE)
EXCHANGE = "00112233445566aa"

_numbers = itertools.count()


@dataclass(kw_only=True)
class Streams:
    """Two processes' streams and the sync face, and shorter ways to call them."""

    world: World
    store: StreamStore
    #: As another process would have it. The same object in memory.
    other: StreamStore
    directory: StreamDirectory
    limits: StreamLimits = LIMITS

    async def exchange(self, *, node: str = "a", stream: str = EXCHANGE) -> str:
        """The fingerprint of a new session with one exchange that runs on a node."""
        fingerprint = await self.world.open()
        claim = await self.store.open_stream(
            fingerprint, stream, node=node, request_id="7", limits=self.limits
        )
        assert claim is not None
        return fingerprint

    async def append(
        self, fingerprint: str, *payloads: bytes, first: int = 1, last: bool = False, stream: str = EXCHANGE
    ) -> Appended | None:
        return await self.store.append(
            fingerprint, stream, first=first, payloads=payloads, last=last, limits=self.limits
        )

    async def publish(self, fingerprint: str, *payloads: bytes, key: str = "") -> Appended | None:
        return await self.store.publish(
            fingerprint, payloads=payloads, key=key or str(next(_numbers)), limits=self.limits
        )

    async def claim(
        self, fingerprint: str, *, stream: str = EXCHANGE, node: str = "b", after: int | None = 0
    ) -> Taken:
        taken = await self.other.claim(fingerprint, stream, node=node, after=after)
        assert taken is not None
        return taken

    async def read(
        self, fingerprint: str, taken: Taken, *, stream: str = EXCHANGE, max_bytes: int = 100_000
    ) -> Batch:
        """What follows where the claim goes on."""
        batch = await self.other.read(
            fingerprint, stream, token=taken.claim.token, after=taken.after, max_bytes=max_bytes
        )
        assert batch is not None
        return batch

    async def kept(self, fingerprint: str, *, stream: str = EXCHANGE) -> list[tuple[int, bytes]]:
        """Every event of a log, as a new claim sees it."""
        batch = await self.read(fingerprint, await self.claim(fingerprint, stream=stream), stream=stream)
        return events(batch)

    def advance(self, milliseconds: int) -> None:
        """Let time pass: for the clock, and for what Redis expires by itself."""
        self.world.clock.advance(milliseconds)
        if not isinstance(self.world.store, MemoryStore):
            for client in servers():
                _age(client, milliseconds)

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.other.aclose()


def events(batch: Batch) -> list[tuple[int, bytes]]:
    return [(event.position, event.payload) for event in batch.events]


def payloads(batch: Batch) -> list[bytes]:
    return [event.payload for event in batch.events]


def memory_streams(world: World) -> Streams:
    assert isinstance(world.store, MemoryStore)
    shared = StreamsOfMemory(world.store._memory)
    store = MemoryStreams(shared)
    return Streams(world=world, store=store, other=store, directory=MemoryStreamDirectory(shared))


def redis_streams(world: World, *, alias: str = "default") -> Streams:
    """Over the cache of that alias in the settings."""
    assert world.commands is not None
    commands = StreamCommands(world.commands.keys, clock=world.clock)

    def make() -> RedisStreams:
        return RedisStreams(commands, lambda timeout: make_async_client(alias, socket_timeout=timeout))

    directory = RedisStreamDirectory(commands, lambda: get_redis_connection(alias))
    return Streams(world=world, store=make(), other=make(), directory=directory)


def streams_of(world: World) -> Streams:
    return memory_streams(world) if world.kind == "memory" else redis_streams(world)


def servers(alias: str = "default") -> Sequence[Redis]:
    """A client for each server that holds keys."""
    client: Any = get_redis_connection(alias)
    if hasattr(client, "get_primaries"):
        return [client.get_redis_connection(node) for node in client.get_primaries()]
    return [client]


def keys_of(streams: Streams) -> list[tuple[Redis, bytes]]:
    """Every key of the world's namespace, with the server that holds it."""
    assert streams.world.commands is not None
    # The namespace's own keys have it in braces.
    namespace = streams.world.commands.keys.nodes.partition("{")[2].partition("}")[0]
    return [
        (client, key)
        for client in servers()
        for key in client.scan_iter(count=1000)
        if namespace.encode() in key.replace(b"{", b":").replace(b"}", b":").split(b":")
    ]


def _age(client: Redis, milliseconds: int) -> None:
    for key in client.scan_iter(match="*mcp:v1:*", count=1000):
        left = client.pttl(key)
        if left > milliseconds:
            client.pexpire(key, left - milliseconds)
        elif left >= 0:  # less than a millisecond, at 0
            client.delete(key)


async def gather(*awaitables: Any) -> list[Any]:
    return list(await asyncio.gather(*awaitables))
