"""Streams, questions, nodes and doorbells in this process's memory: the same promises, for one process.

Reached from event loops and from threads: every act holds the lock of the sessions for a short while.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from mcp_sessions.store.memory import Memory
from mcp_sessions.store.node_memory import NodeMemory
from mcp_sessions.store.stream_memory import Question, Stream, StreamMemory
from mcp_sessions.store.streaming import (
    STANDALONE,
    Appended,
    Batch,
    Claim,
    Event,
    Node,
    Replies,
    StreamLimits,
    Taken,
)


class StreamsOfMemory:
    """What both faces share: the streams and nodes beside the sessions of one namespace."""

    def __init__(self, memory: Memory) -> None:
        self.streams = StreamMemory(memory)
        self.nodes = NodeMemory(memory.clock)

    def publish(
        self, fingerprint: str, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        memory = self.streams
        with memory.lock:
            parts, stream = memory.parts(fingerprint), memory.standalone(fingerprint)
            if parts is None or stream is None:
                return None
            if parts.publishes(key, memory.now()):
                stream.add(stream.last + 1, payloads, limits)
                memory.live(stream)
            return stream.appended()

    def ring_all(self, message: bytes) -> None:
        self.nodes.ring({node.id: [message] for node in self.nodes.nodes()})


class MemoryStreams:
    """See `streaming.StreamStore`."""

    def __init__(self, shared: StreamsOfMemory) -> None:
        self._shared = shared
        self._memory = shared.streams
        self._nodes = shared.nodes

    # Event logs

    async def open_stream(
        self, fingerprint: str, stream: str, *, node: str, request_id: str, limits: StreamLimits
    ) -> Claim | None:
        memory = self._memory
        with memory.lock:
            parts = memory.parts(fingerprint)
            if parts is None:
                return None
            made = Stream(
                origin=node, request_id=request_id, claim=Claim(node=node, token=1), ttl_ms=limits.ttl_ms
            )
            found = parts.streams.setdefault(stream, made)
            memory.live(found)
            return Claim(node=found.origin, token=1)

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
        memory = self._memory
        with memory.lock:
            found = memory.stream(fingerprint, stream)
            if found is None or found.orphaned:
                return None
            if found.ended:
                return found.appended() if first + len(payloads) - 1 <= found.last else None
            found.add(first, payloads, limits)
            found.ended = last
            memory.live(found)
            return found.appended()

    async def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        return self._shared.publish(fingerprint, payloads, key, limits)

    async def claim(self, fingerprint: str, stream: str, *, node: str, after: int | None) -> Taken | None:
        memory = self._memory
        with memory.lock:
            found = (
                memory.standalone(fingerprint) if stream == STANDALONE else memory.stream(fingerprint, stream)
            )
            if found is None:
                return None
            replaced = found.claim
            found.claim = Claim(node=node, token=replaced.token + 1 if replaced else 1)
            memory.live(found)
            return Taken(
                claim=found.claim,
                replaced=replaced,
                origin=found.origin,
                origin_seen_ms=self._nodes.seen_ms(found.origin),
                now_ms=memory.now(),
                after=min(found.delivered if after is None else after, found.last),
                request_id=found.request_id,
            )

    async def read(
        self, fingerprint: str, stream: str, *, token: int, after: int, max_bytes: int
    ) -> Batch | None:
        with self._memory.lock:
            found = self._memory.stream(fingerprint, stream)
            if found is None:
                return None
            if found.claim is None or found.claim.token != token:
                return Batch(events=(), ended=False, valid=False)
            events = _fitting([event for event in found.events if event.position > after], max_bytes)
            position = events[-1].position if events else after
            if events and not found.origin:
                found.delivered = max(found.delivered, position)
            return Batch(events=events, ended=found.ended and position >= found.last, valid=True)

    async def close_orphan(
        self, fingerprint: str, stream: str, *, payload: bytes, limits: StreamLimits
    ) -> Appended | None:
        memory = self._memory
        with memory.lock:
            found = memory.stream(fingerprint, stream)
            if found is None:
                return None
            if not found.ended:
                found.add(found.last + 1, [payload], limits)
                found.ended = found.orphaned = True
                memory.live(found)
            return found.appended()

    async def finished(self, fingerprint: str, stream: str, *, kept: int, kept_bytes: int) -> None:
        memory = self._memory
        with memory.lock:
            parts = memory.parts(fingerprint)
            if parts is None:
                return
            if stream in parts.streams:
                parts.streams[stream] = parts.streams.pop(stream)  # the newest to end is the last
            newest = [(name, each.size) for name, each in reversed(parts.streams.items()) if each.ended]
            behind = accumulate((size for _, size in newest), initial=0)
            for place, ((name, _), newer) in enumerate(zip(newest, behind, strict=False)):
                if place >= kept or newer >= kept_bytes:
                    del parts.streams[name]

    async def forget(self, fingerprint: str) -> None:
        with self._memory.lock:
            self._memory.parts(fingerprint)

    async def keep_streams(self, streams: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        memory = self._memory
        with memory.lock:
            found = {each: stream for each in streams if (stream := memory.stream(*each))}
            for stream in found.values():
                memory.live(stream)
            return frozenset(found)

    # Questions to the client

    async def ask(self, fingerprint: str, question: str, *, node: str, timeout_ms: int) -> bool:
        memory = self._memory
        with memory.lock:
            parts = memory.parts(fingerprint)
            if parts is None:
                return False
            expires = memory.now() + timeout_ms
            asked = parts.questions.setdefault(question, Question(node=node, expires_ms=expires))
            asked.node, asked.expires_ms = node, expires
            return True

    async def answer(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        with self._memory.lock:
            asked = self._memory.question(fingerprint, question)
            if asked is None or asked.answer is not None:
                return None
            asked.answer = payload
            return asked.node

    async def progress(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        with self._memory.lock:
            asked = self._memory.question(fingerprint, question)
            if asked is None or asked.answer is not None:
                return None
            if not asked.progress or asked.progress[-1] != payload:
                asked.progress.append(payload)
                asked.place += 1
            return asked.node

    async def replies(self, fingerprint: str, question: str, *, after: int) -> Replies | None:
        with self._memory.lock:
            asked = self._memory.question(fingerprint, question)
            if asked is None:
                return None
            new = min(max(0, asked.place - after), len(asked.progress))
            progress = list(asked.progress)[len(asked.progress) - new :]
            return Replies(progress=progress, place=asked.place, answer=asked.answer)

    async def withdraw(self, fingerprint: str, question: str) -> None:
        with self._memory.lock:
            parts = self._memory.parts(fingerprint)
            if parts is not None:
                parts.questions.pop(question, None)

    # Resource subscriptions

    async def subscribe(self, fingerprint: str, uri: str, *, max_subscriptions: int) -> bool | None:
        with self._memory.lock:
            parts = self._memory.parts(fingerprint)
            if parts is None:
                return None
            if uri not in parts.subscriptions and len(parts.subscriptions) >= max_subscriptions:
                return False
            parts.subscriptions.add(uri)
            return True

    async def unsubscribe(self, fingerprint: str, uri: str) -> bool | None:
        with self._memory.lock:
            parts = self._memory.parts(fingerprint)
            if parts is None:
                return None
            known = uri in parts.subscriptions
            parts.subscriptions.discard(uri)
            return known

    async def subscribed(self, fingerprints: Sequence[str], uri: str) -> frozenset[str]:
        with self._memory.lock:
            found = {each: self._memory.parts(each) for each in fingerprints}
            return frozenset(each for each, parts in found.items() if parts and uri in parts.subscriptions)

    # Nodes and doorbells

    async def beat(self, node: str, *, about: str, forget_after_ms: int) -> None:
        self._nodes.beat(node, about, forget_after_ms)

    async def leave(self, node: str) -> None:
        self._nodes.leave(node)

    async def nodes(self) -> Sequence[Node]:
        return self._nodes.nodes()

    async def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        self._nodes.ring(messages)

    async def ring_all(self, message: bytes) -> None:
        self._shared.ring_all(message)

    async def post(self, notice: bytes) -> None:
        self._nodes.post(notice)

    async def notices(self, *, after: str, age_ms: int = 0) -> tuple[str, Sequence[bytes]]:
        return self._nodes.notices(after, age_ms)

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        return await self._nodes.listen(node, after, block_ms)

    async def aclose(self) -> None:
        """Nothing to close."""


class MemoryStreamDirectory:
    """See `streaming.StreamDirectory`."""

    def __init__(self, shared: StreamsOfMemory) -> None:
        self._shared = shared

    def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        return self._shared.publish(fingerprint, payloads, key, limits)

    def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        self._shared.nodes.ring(messages)

    def ring_all(self, message: bytes) -> None:
        self._shared.ring_all(message)

    def post(self, notice: bytes) -> None:
        self._shared.nodes.post(notice)

    def nodes(self) -> Sequence[Node]:
        return self._shared.nodes.nodes()


def _fitting(events: Sequence[Event], max_bytes: int) -> list[Event]:
    """The first ones that fit, one at least."""
    fitting: list[Event] = []
    for event in events:
        max_bytes -= len(event.payload)
        if max_bytes < 0 and fitting:
            break
        fitting.append(event)
    return fitting
