"""Streams, questions, nodes and doorbells in Redis: the async face. The sync face is in `stream_directory`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from mcp_sessions.store.clients import AsyncClient, close_async_client
from mcp_sessions.store.commands import Call
from mcp_sessions.store.lane import Lane
from mcp_sessions.store.listener import Listener
from mcp_sessions.store.loops import PerLoop
from mcp_sessions.store.roundtrips import results
from mcp_sessions.store.stream_commands import StreamCommands
from mcp_sessions.store.streaming import Appended, Batch, Claim, Node, Replies, StreamLimits, Taken

#: Pipelines at the same moment: of messages and doorbells, which are many and small, and of everything else.
MESSAGES_IN_FLIGHT: Final = 2
OTHERS_IN_FLIGHT: Final = 8

T = TypeVar("T")
#: Makes a client; the socket timeout in seconds is None for that of the settings.
MakeClient = Callable[[float | None], AsyncClient]


class _Loop:
    """What belongs to one event loop."""

    def __init__(self, make_client: MakeClient) -> None:
        self.client = make_client(None)
        self.messages = Lane(self.client, in_flight=MESSAGES_IN_FLIGHT)
        self.others = Lane(self.client, in_flight=OTHERS_IN_FLIGHT)
        self.listener = Listener(make_client)

    async def aclose(self) -> None:
        for lane in (self.messages, self.others):
            await lane.drain()
        await self.listener.aclose()
        await close_async_client(self.client)


class RedisStreams:
    """See `streaming.StreamStore`."""

    def __init__(self, commands: StreamCommands, make_client: MakeClient) -> None:
        self._commands = commands
        self._loops = PerLoop(lambda: _Loop(make_client))

    # Event logs

    async def open_stream(
        self, fingerprint: str, stream: str, *, node: str, request_id: str, limits: StreamLimits
    ) -> Claim | None:
        return await self._send(self._commands.open_stream(fingerprint, stream, node, request_id, limits))

    async def append(
        self,
        fingerprint: str,
        stream: str,
        *,
        first: int,
        payloads: Sequence[bytes],
        last: bool,
        limits: StreamLimits,
    ) -> Appended | None:
        return await self._send(self._commands.append(fingerprint, stream, first, payloads, last, limits))

    async def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        return await self._send(self._commands.publish(fingerprint, payloads, key, limits))

    async def claim(self, fingerprint: str, stream: str, *, node: str, after: int | None) -> Taken | None:
        """The nodes are in another slot than the session: both are asked at once."""
        claim = self._commands.claim(fingerprint, stream, node, after)
        found, nodes = await self._ask([claim, self._commands.nodes()])
        taken: Taken | None = None if found is None else found.taken(nodes)
        return taken

    async def read(
        self, fingerprint: str, stream: str, *, token: int, after: int, max_bytes: int
    ) -> Batch | None:
        return await self._one(self._commands.read(fingerprint, stream, token, after, max_bytes))

    async def close_orphan(
        self, fingerprint: str, stream: str, *, payload: bytes, limits: StreamLimits
    ) -> Appended | None:
        return await self._one(self._commands.close_orphan(fingerprint, stream, payload, limits))

    async def finished(self, fingerprint: str, stream: str, *, kept: int, kept_bytes: int) -> None:
        names = await self._one(self._commands.finished(fingerprint, stream, kept, kept_bytes))
        if names:
            await self._one(self._commands.drop(fingerprint, names))

    async def forget(self, fingerprint: str) -> None:
        await self.finished(fingerprint, "", kept=0, kept_bytes=0)

    async def keep_streams(self, streams: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        kept = await self._ask([self._commands.keep_stream(*each) for each in streams])
        return frozenset(each for each, there in zip(streams, kept, strict=True) if there)

    # Questions to the client

    async def ask(self, fingerprint: str, question: str, *, node: str, timeout_ms: int) -> bool:
        return await self._one(self._commands.ask(fingerprint, question, node, timeout_ms))

    async def answer(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        return await self._one(self._commands.answer(fingerprint, question, payload))

    async def progress(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        return await self._one(self._commands.progress(fingerprint, question, payload))

    async def replies(self, fingerprint: str, question: str, *, after: int) -> Replies | None:
        return await self._one(self._commands.replies(fingerprint, question, after))

    async def withdraw(self, fingerprint: str, question: str) -> None:
        await self._one(self._commands.withdraw(fingerprint, question))

    # Resource subscriptions

    async def subscribe(self, fingerprint: str, uri: str, *, max_subscriptions: int) -> bool | None:
        return await self._one(self._commands.subscribe(fingerprint, uri, max_subscriptions))

    async def unsubscribe(self, fingerprint: str, uri: str) -> bool | None:
        return await self._one(self._commands.unsubscribe(fingerprint, uri))

    async def subscribed(self, fingerprints: Sequence[str], uri: str) -> frozenset[str]:
        there = await self._ask([self._commands.subscribed(each, uri) for each in fingerprints])
        return frozenset(each for each, yes in zip(fingerprints, there, strict=True) if yes)

    # Nodes and doorbells

    async def beat(self, node: str, *, about: str, forget_after_ms: int) -> None:
        await self._one(self._commands.beat(node, about, forget_after_ms))

    async def leave(self, node: str) -> None:
        await self._one(self._commands.leave(node))

    async def nodes(self) -> Sequence[Node]:
        return await self._one(self._commands.nodes())

    async def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        lane = self._loops.get().messages
        await _travel(lane, [self._commands.ring(node, rung) for node, rung in messages.items() if rung])

    async def ring_all(self, message: bytes) -> None:
        await self.ring({node.id: [message] for node in await self.nodes()})

    async def post(self, notice: bytes) -> None:
        await self._one(self._commands.post(notice))

    async def notices(self, *, after: str, age_ms: int = 0) -> tuple[str, Sequence[bytes]]:
        return await self._one(self._commands.notices(after, age_ms))

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        inbox = self._commands.keys.inbox(node)
        return await self._loops.get().listener.listen(inbox, after=after, block_ms=block_ms)

    async def aclose(self) -> None:
        loop = self._loops.pop()
        if loop is not None:
            await loop.aclose()

    async def _send(self, call: Call[T]) -> T:
        """One of many small messages: those of one tick share a round trip."""
        [result] = await _travel(self._loops.get().messages, [call])
        value: T = result
        return value

    async def _one(self, call: Call[T]) -> T:
        [result] = await self._ask([call])
        value: T = result
        return value

    async def _ask(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return await _travel(self._loops.get().others, calls)


async def _travel(lane: Lane, calls: Sequence[Call[Any]]) -> list[Any]:
    replies = await asyncio.gather(*[lane.submit(call.script, call.arguments) for call in calls])
    return results(calls, replies)
