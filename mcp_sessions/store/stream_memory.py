"""What memory holds of streams, questions and subscriptions. See `memory_streams`, whose acts hold the lock."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mcp_sessions.store.memory import SWEEP_MS, Memory
from mcp_sessions.store.stream_commands import MOST_PROGRESS, MOST_PUBLISHED, PUBLISHED_MS
from mcp_sessions.store.streaming import STANDALONE, Appended, Claim, Event, StreamLimits


@dataclass(slots=True)
class Stream:
    """One stream and its log. `origin` is "" for a standalone one; `orphaned`: it ended without an answer."""

    origin: str = ""
    request_id: str = ""
    claim: Claim | None = None
    events: deque[Event] = field(default_factory=deque)
    size: int = 0
    last: int = 0
    delivered: int = 0
    ended: bool = False
    orphaned: bool = False
    ttl_ms: int = 0
    expires_ms: int = 0

    def add(self, first: int, payloads: Sequence[bytes], limits: StreamLimits) -> None:
        """Append what is not there yet; drop from the old end what exceeds the limits, but never the newest."""
        self.ttl_ms = limits.ttl_ms
        for position, payload in enumerate(payloads, first):
            if position > self.last:
                self.events.append(Event(position=position, payload=payload))
                self.last = position
                self.size += len(payload)
        while len(self.events) > 1 and self._exceeds(limits):
            self.size -= len(self.events.popleft().payload)

    def forget_log(self) -> None:
        self.events.clear()
        self.size = 0

    def appended(self) -> Appended:
        return Appended(position=self.last, claim=self.claim)

    def _exceeds(self, limits: StreamLimits) -> bool:
        return len(self.events) > limits.max_events or self.size > limits.max_bytes


@dataclass(slots=True)
class Question:
    """Who waits for the client's response, and what came of it."""

    node: str
    expires_ms: int
    answer: bytes | None = None
    progress: deque[bytes] = field(default_factory=lambda: deque(maxlen=MOST_PROGRESS))
    #: Of the newest progress.
    place: int = 0


@dataclass(slots=True)
class Parts:
    """What one session has here."""

    streams: dict[str, Stream] = field(default_factory=dict)
    #: Name of a publication -> when it was made, oldest first.
    published: dict[str, int] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    subscriptions: set[str] = field(default_factory=set)

    def publishes(self, key: str, now: int) -> bool:
        """Whether no publication of that name was made lately; it is remembered."""
        for name in [name for name, at in self.published.items() if at <= now - PUBLISHED_MS]:
            del self.published[name]
        if key in self.published:
            return False
        self.published[key] = now
        if len(self.published) > MOST_PUBLISHED:
            del self.published[next(iter(self.published))]
        return True

    def drop_expired(self, now: int) -> None:
        self.questions = {name: each for name, each in self.questions.items() if now < each.expires_ms}
        for name, stream in list(self.streams.items()):
            if now < stream.expires_ms:
                continue
            stream.forget_log()
            if name != STANDALONE:
                del self.streams[name]


class StreamMemory:
    """The parts of every session of one namespace."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._parts: dict[str, Parts] = {}
        self._next_sweep = 0

    @property
    def lock(self) -> threading.Lock:
        """That of the sessions: a session cannot end in the middle of an act."""
        return self._memory.lock

    def now(self) -> int:
        return self._memory.clock()

    def parts(self, fingerprint: str) -> Parts | None:
        """The parts of a session that is alive, without what has expired."""
        now = self.now()
        self._sweep(now)
        if self._memory.entry(fingerprint) is None:
            self._parts.pop(fingerprint, None)
            return None
        parts = self._parts.setdefault(fingerprint, Parts())
        parts.drop_expired(now)
        return parts

    def stream(self, fingerprint: str, name: str) -> Stream | None:
        """A stream that exists."""
        parts = self.parts(fingerprint)
        return parts.streams.get(name) if parts else None

    def standalone(self, fingerprint: str) -> Stream | None:
        """The standalone stream, made on first use, of a session that is alive."""
        parts = self.parts(fingerprint)
        return parts.streams.setdefault(STANDALONE, Stream()) if parts else None

    def question(self, fingerprint: str, name: str) -> Question | None:
        parts = self.parts(fingerprint)
        return parts.questions.get(name) if parts else None

    def live(self, stream: Stream) -> None:
        """Keep a log for its TTL from now on."""
        stream.expires_ms = self.now() + stream.ttl_ms

    def _sweep(self, now: int) -> None:
        """Drop what belongs to sessions that are over, and what has expired."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_MS
        self._parts = {each: parts for each, parts in self._parts.items() if self._memory.entry(each)}
        for parts in self._parts.values():
            parts.drop_expired(now)
