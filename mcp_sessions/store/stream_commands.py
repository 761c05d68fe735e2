"""Each operation on streams, questions, nodes, notices and doorbells in Redis, once; see `commands`. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mcp_sessions.store import stream_scripts as scripts
from mcp_sessions.store.commands import Call, Clock
from mcp_sessions.store.keys import Keys
from mcp_sessions.store.record import is_readable
from mcp_sessions.store.scripts import Script
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

#: How long, and how many of a session at most, the names of publications are remembered.
PUBLISHED_MS: Final = 60_000
MOST_PUBLISHED: Final = 1_000
#: Doorbells that an inbox holds, about.
MOST_DOORBELLS: Final = 10_000
#: Progress notifications of one question that are kept.
MOST_PROGRESS: Final = 20
#: Notices that are kept, about; for how long after the last one; and how many one call reads.
MOST_NOTICES: Final = 10_000
NOTICES_MS: Final = 600_000
NOTICES_READ: Final = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a claim found in the session's slot: all of `Taken` but the origin's heartbeat."""

    now_ms: int
    claim: Claim
    replaced: Claim | None
    origin: str
    after: int
    request_id: str

    def taken(self, nodes: Sequence[Node]) -> Taken:
        """With what the nodes' slot knows of the origin."""
        return Taken(
            claim=self.claim,
            replaced=self.replaced,
            origin=self.origin,
            origin_seen_ms=next((node.seen_ms for node in nodes if node.id == self.origin), 0),
            now_ms=self.now_ms,
            after=self.after,
            request_id=self.request_id,
        )


class StreamCommands:
    """The calls on one namespace in one Redis."""

    def __init__(self, keys: Keys, *, clock: Clock | None = None) -> None:
        self.keys = keys
        self._clock = clock

    def now(self) -> str | int:
        """The injected time, or nothing: then the scripts ask Redis."""
        return "" if self._clock is None else self._clock()

    # Event logs

    def open_stream(
        self, fingerprint: str, stream: str, node: str, request_id: str, limits: StreamLimits
    ) -> Call[Claim | None]:
        def decode(reply: Any) -> Claim | None:
            done = _appended(fingerprint, reply)
            return None if done is None else done.claim

        arguments = (self.now(), node, request_id, limits.ttl_ms)
        return Call(scripts.OPEN, self._stream(fingerprint, stream), arguments, decode)

    def append(
        self,
        fingerprint: str,
        stream: str,
        first: int,
        payloads: Sequence[bytes],
        last: bool,
        limits: StreamLimits,
    ) -> Call[Appended | None]:
        arguments = (self.now(), first, "1" if last else "", *_bounds(limits), *payloads)
        return self._appending(scripts.APPEND, fingerprint, self._stream(fingerprint, stream), arguments)

    def publish(
        self, fingerprint: str, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Call[Appended | None]:
        keys = (*self._stream(fingerprint, STANDALONE), self.keys.published(fingerprint))
        arguments = (self.now(), key, PUBLISHED_MS, MOST_PUBLISHED, *_bounds(limits), *payloads)
        return self._appending(scripts.PUBLISH, fingerprint, keys, arguments)

    def close_orphan(
        self, fingerprint: str, stream: str, payload: bytes, limits: StreamLimits
    ) -> Call[Appended | None]:
        arguments = (self.now(), *_bounds(limits), payload)
        return self._appending(scripts.CLOSE, fingerprint, self._stream(fingerprint, stream), arguments)

    def claim(self, fingerprint: str, stream: str, node: str, after: int | None) -> Call[Found | None]:
        def decode(reply: Any) -> Found | None:
            return _found(reply, node) if is_readable(fingerprint, reply) else None

        made = "1" if stream == STANDALONE else ""
        arguments = (self.now(), node, "" if after is None else after, made)
        return Call(scripts.CLAIM, self._stream(fingerprint, stream), arguments, decode)

    def read(
        self, fingerprint: str, stream: str, token: int, after: int, max_bytes: int
    ) -> Call[Batch | None]:
        def decode(reply: Any) -> Batch | None:
            return _batch(reply) if is_readable(fingerprint, reply) else None

        arguments = (self.now(), token, after, max_bytes)
        return Call(scripts.READ, self._stream(fingerprint, stream), arguments, decode)

    def keep_stream(self, fingerprint: str, stream: str) -> Call[bool]:
        keys = self._stream(fingerprint, stream)
        return Call(scripts.KEEP, keys, (self.now(),), lambda reply: is_readable(fingerprint, reply))

    def finished(self, fingerprint: str, stream: str, kept: int, kept_bytes: int) -> Call[list[str]]:
        """The names of ended streams that have to go."""
        info = self.keys.stream_info(fingerprint, stream)
        keys = (self.keys.session(fingerprint), self.keys.finished(fingerprint), info)
        arguments = (self.now(), stream, kept, kept_bytes)
        return Call(scripts.FINISHED, keys, arguments, lambda names: [name.decode() for name in names])

    def drop(self, fingerprint: str, streams: Sequence[str]) -> Call[int]:
        keys = [key for stream in streams for key in self._stream(fingerprint, stream)[1:]]
        return Call(scripts.DROP, keys, (), int)

    def _appending(
        self, script: Script, fingerprint: str, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Call[Appended | None]:
        return Call(script, keys, arguments, lambda reply: _appended(fingerprint, reply))

    def _stream(self, fingerprint: str, stream: str) -> tuple[str, str, str]:
        keys = self.keys
        return (
            keys.session(fingerprint),
            keys.stream(fingerprint, stream),
            keys.stream_info(fingerprint, stream),
        )

    # Questions

    def ask(self, fingerprint: str, question: str, node: str, timeout_ms: int) -> Call[bool]:
        arguments = (node, timeout_ms)
        return self._question(
            scripts.ASK, fingerprint, question, arguments, lambda reply: is_readable(fingerprint, reply)
        )

    def answer(self, fingerprint: str, question: str, payload: bytes) -> Call[str | None]:
        return self._question(
            scripts.ANSWER, fingerprint, question, (payload,), lambda reply: _text(_only(fingerprint, reply))
        )

    def progress(self, fingerprint: str, question: str, payload: bytes) -> Call[str | None]:
        arguments = (payload, MOST_PROGRESS)
        return self._question(
            scripts.PROGRESS, fingerprint, question, arguments, lambda reply: _text(_only(fingerprint, reply))
        )

    def replies(self, fingerprint: str, question: str, after: int) -> Call[Replies | None]:
        def decode(reply: Any) -> Replies | None:
            return _replies(reply) if is_readable(fingerprint, reply) else None

        return self._question(scripts.REPLIES, fingerprint, question, (after,), decode)

    def withdraw(self, fingerprint: str, question: str) -> Call[int]:
        return Call(scripts.WITHDRAW, (self.keys.question(fingerprint, question),), (), int)

    def _question(
        self,
        script: Script,
        fingerprint: str,
        question: str,
        arguments: Sequence[Any],
        decode: Callable[[Any], T],
    ) -> Call[T]:
        keys = (self.keys.session(fingerprint), self.keys.question(fingerprint, question))
        return Call(script, keys, (self.now(), *arguments), decode)

    # Subscriptions

    def subscribe(self, fingerprint: str, uri: str, max_subscriptions: int) -> Call[bool | None]:
        return self._subscriptions(scripts.SUBSCRIBE, fingerprint, uri, max_subscriptions)

    def unsubscribe(self, fingerprint: str, uri: str) -> Call[bool | None]:
        return self._subscriptions(scripts.UNSUBSCRIBE, fingerprint, uri)

    def subscribed(self, fingerprint: str, uri: str) -> Call[bool | None]:
        return self._subscriptions(scripts.SUBSCRIBED, fingerprint, uri)

    def _subscriptions(
        self, script: Script, fingerprint: str, uri: str, *arguments: int
    ) -> Call[bool | None]:
        def decode(reply: Any) -> bool | None:
            value = _only(fingerprint, reply)
            return None if value is None else bool(value)

        keys = (self.keys.session(fingerprint), self.keys.subscriptions(fingerprint))
        return Call(script, keys, (self.now(), _digest(uri), *arguments), decode)

    # Nodes and doorbells

    def beat(self, node: str, about: str, forget_after_ms: int) -> Call[int]:
        keys = (self.keys.nodes, self.keys.nodes_about, self.keys.inbox(node))
        return Call(scripts.BEAT, keys, (self.now(), node, about, forget_after_ms), int)

    def leave(self, node: str) -> Call[int]:
        keys = (self.keys.nodes, self.keys.nodes_about, self.keys.inbox(node))
        return Call(scripts.LEAVE, keys, (node,), int)

    def nodes(self) -> Call[list[Node]]:
        return Call(scripts.NODES, (self.keys.nodes, self.keys.nodes_about), (), _nodes)

    def ring(self, node: str, messages: Sequence[bytes]) -> Call[int]:
        keys = (self.keys.nodes, self.keys.inbox(node))
        return Call(scripts.RING, keys, (node, MOST_DOORBELLS, *messages), int)

    def post(self, notice: bytes) -> Call[bytes]:
        return Call(scripts.POST, (self.keys.notices,), (MOST_NOTICES, NOTICES_MS, notice), bytes)

    def notices(self, after: str, age_ms: int) -> Call[tuple[str, Sequence[bytes]]]:
        return Call(scripts.NOTICES, (self.keys.notices,), (after, age_ms, NOTICES_READ), _read_notices)


def _bounds(limits: StreamLimits) -> tuple[int, int, int]:
    return (limits.max_events, limits.max_bytes, limits.ttl_ms)


def _appended(fingerprint: str, reply: Any) -> Appended | None:
    if not is_readable(fingerprint, reply):
        return None
    position, node, token = reply
    return Appended(position=position, claim=_claim(node, token))


def _claim(node: bytes, token: int) -> Claim | None:
    """Before the first claim there is none."""
    return Claim(node=node.decode(), token=token) if token else None


def _found(reply: Sequence[Any], node: str) -> Found:
    now, token, node_before, token_before, origin, after, request = reply
    return Found(
        now_ms=now,
        claim=Claim(node=node, token=token),
        replaced=_claim(node_before, token_before),
        origin=origin.decode(),
        after=after,
        request_id=request.decode(),
    )


def _batch(reply: Sequence[Any]) -> Batch:
    valid, ended, flat = reply
    events = [
        Event(position=position, payload=payload)
        for position, payload in zip(flat[::2], flat[1::2], strict=True)
    ]
    return Batch(events=events, ended=bool(ended), valid=bool(valid))


def _nodes(reply: Sequence[Any]) -> list[Node]:
    seen, told = reply
    about = dict(zip(told[::2], told[1::2], strict=True))
    return [
        Node(id=node.decode(), about=about.get(node, b"").decode(), seen_ms=int(score))
        for node, score in sorted(zip(seen[::2], seen[1::2], strict=True))
    ]


def _replies(reply: Sequence[Any]) -> Replies:
    place, progress, *answer = reply
    return Replies(progress=progress, place=place, answer=answer[0] if answer else None)


def _read_notices(reply: Any) -> tuple[str, Sequence[bytes]]:
    place, notices = reply
    return place.decode(), notices


def _only(fingerprint: str, reply: Any) -> Any:
    """The one value of a reply; None for no session, and for one that cannot be read."""
    return reply[0] if is_readable(fingerprint, reply) else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _digest(uri: str) -> bytes:
    """However long a client's URIs are, its subscriptions are bounded."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()
