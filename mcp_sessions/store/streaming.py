"""The contract of what carries messages between processes: event logs, questions to clients, nodes and doorbells.

The logs and questions are the truth and live with their session, in its slot. Notices are for every node and are kept
until each has read them. Doorbells are hints: one that is lost costs latency, never a message. "Now" is the store's
clock. Every method raises `StoreUnavailable` when the store cannot be asked; every call but `post` may then be made
again, with the same arguments, without doing anything twice.

Payloads are bytes that the store does not look into. Nothing here slides a session's TTL.

A log lives for `StreamLimits.ttl_ms` after the last append, publication, claim or `keep_streams`, and never past its
session's deadline. Who runs or delivers a silent stream keeps it with `keep_streams`. The positions of a standalone
stream go on until the session ends, also when its log is gone.

When a session ends, so do its standalone log and its subscriptions, in the same act. The logs of its exchanges and its
questions cannot be read or written from then on, because every act looks at the session first; their TTL removes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mcp_sessions.transport.event_ids import STANDALONE as STANDALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What a stream keeps for clients that resume it.

    What exceeds a bound is dropped from the old end, but never the newest message, so never a response.
    """

    #: Events.
    max_events: int
    #: Bytes of payloads.
    max_bytes: int
    #: Milliseconds after the last sign of life.
    ttl_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to deliver a stream. The newest claim is the only valid one (a fencing token)."""

    #: The node that delivers.
    node: str
    #: Grows with every claim of the stream.
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One logged message."""

    #: 1, 2, 3… without gaps within a stream.
    position: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What `append` did."""

    #: The position of the stream's last message.
    position: int
    #: Who delivers the stream now; None if nobody ever claimed it.
    claim: Claim | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What `claim` found."""

    claim: Claim
    #: The claim that this one replaces.
    replaced: Claim | None
    #: The node that runs the exchange; "" for a standalone stream.
    origin: str
    #: Milliseconds since the epoch of the origin's last heartbeat as a node; 0 if it is forgotten or there is none.
    origin_seen_ms: int
    #: The same clock at the moment of the claim.
    now_ms: int
    #: Where delivery goes on: the position asked for, the stream's last one if that is beyond it; for a standalone
    #: stream without one, the last one delivered.
    after: int
    #: The JSON-RPC id of the exchange's request, as JSON text; "" for a standalone stream.
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What `read` found."""

    events: Sequence[Event]
    #: Whether the stream's last message is in `events`, or was before them: nothing follows.
    ended: bool
    #: Whether the claim is still the valid one. If not, `events` is empty.
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """What a client said to a question so far."""

    #: Its newest progress notifications, oldest first.
    progress: Sequence[bytes]
    #: The place of the last of all: 1, 2, 3…; 0 if there is none.
    place: int
    #: Its response, if that has come.
    answer: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server process that serves the endpoint."""

    id: str
    #: Host name, process id and whatever else the process tells, as JSON text.
    about: str
    #: Milliseconds since the epoch of its last heartbeat.
    seen_ms: int


class StreamStore(Protocol):
    """The async face. All methods that name a session are one atomic act in its slot, and one round trip."""

    # Event logs

    async def open_stream(
        self, fingerprint: str, stream: str, *, node: str, request_id: str, limits: StreamLimits
    ) -> Claim | None:
        """Make the log of an exchange that runs on `node`, claimed by that node. None if the session is gone.

        `stream` is a new random name: for one that exists, its first claim is returned and nothing is changed.
        """
        ...

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
        """Append messages of an exchange at positions first, first+1…; `last`: the response is among them, at the end.

        Only the exchange's own node appends. Positions that exist already are skipped, so a repeated call does nothing
        twice. None if the session or the stream is gone, or if the stream ended (an orphan that was closed).
        """
        ...

    async def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        """Append messages to the standalone stream, from anywhere; the log is made on first use.

        `key` names this act: a repeated call with the same key within a minute does nothing (the last thousand
        publications of a session are remembered). None if the session is gone.
        """
        ...

    async def claim(self, fingerprint: str, stream: str, *, node: str, after: int | None) -> Taken | None:
        """Take over the delivery of a stream. None if there is no such stream.

        The standalone stream exists for every session (it is made on first use); `after=None` goes on after the last
        event that was delivered to anybody. For an exchange's stream `after` is a position; None is 0.
        """
        ...

    async def read(
        self, fingerprint: str, stream: str, *, token: int, after: int, max_bytes: int
    ) -> Batch | None:
        """The events after a position, at least one if there is one, then as many as fit; marks them delivered.

        If events after the position were dropped, the oldest that are left. None if the session or the stream is gone.
        Nothing is read for a claim that is not valid any more.
        """
        ...

    async def close_orphan(
        self, fingerprint: str, stream: str, *, payload: bytes, limits: StreamLimits
    ) -> Appended | None:
        """Append the response of an exchange whose node is dead; nothing if the stream has ended.

        From then on the dead node's own appends are refused. None if the session or the stream is gone.
        """
        ...

    async def finished(self, fingerprint: str, stream: str, *, kept: int, kept_bytes: int) -> None:
        """An exchange's stream ended: of those of a session only the newest are kept, `kept` of them at most, and no
        more once they have `kept_bytes`.

        If the session is over, this one is dropped as well.
        """
        ...

    async def forget(self, fingerprint: str) -> None:
        """The session is over: drop its streams that ended. The others go with their TTL."""
        ...

    async def keep_streams(self, streams: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Signs of life of streams, (fingerprint, name) each, that run or are delivered; those that exist."""
        ...

    # Questions to the client

    async def ask(self, fingerprint: str, question: str, *, node: str, timeout_ms: int) -> bool:
        """Register that `node` waits for the client's response to a request; before the request is sent. False if the
        session is gone."""
        ...

    async def answer(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        """Leave the client's response for the node that waits; which node. None if nobody waits, or it was answered.

        Of several answers exactly one wins, so the repetition of one that came through gets None as well.
        """
        ...

    async def progress(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        """Leave the client's progress for the node that waits; which node. None if nobody waits, or it was answered.

        The newest twenty are kept. What says the same as the one before it is taken for a repeated call.
        """
        ...

    async def replies(self, fingerprint: str, question: str, *, after: int) -> Replies | None:
        """What the client said: its progress after a place, and its response. None if there is no such question.

        All of it stays, for a repeated call, until `withdraw` or the timeout.
        """
        ...

    async def withdraw(self, fingerprint: str, question: str) -> None:
        """Nobody waits any more: a late answer is refused."""
        ...

    # Resource subscriptions of the session (handshake era)

    async def subscribe(self, fingerprint: str, uri: str, *, max_subscriptions: int) -> bool | None:
        """Remember a resource subscription. False if there are too many. None if the session is gone."""
        ...

    async def unsubscribe(self, fingerprint: str, uri: str) -> bool | None:
        """Forget it; whether it was remembered. None if the session is gone."""
        ...

    async def subscribed(self, fingerprints: Sequence[str], uri: str) -> frozenset[str]:
        """Which of these sessions subscribe to a resource."""
        ...

    # Nodes and doorbells

    async def beat(self, node: str, *, about: str, forget_after_ms: int) -> None:
        """Heartbeat of a node. Those silent for longer than `forget_after_ms` are forgotten, with their inboxes."""
        ...

    async def leave(self, node: str) -> None:
        """The node stops: forget it at once."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """The nodes that are not forgotten, by id."""
        ...

    async def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """Put doorbells into the inboxes of nodes; those of unknown nodes are dropped. Inboxes are bounded."""
        ...

    async def ring_all(self, message: bytes) -> None:
        """Put a doorbell into the inbox of every node."""
        ...

    async def post(self, notice: bytes) -> None:
        """Leave a notice for every node. A repeated call leaves it twice: who reads must not mind.

        The newest ten thousand or so are kept, for ten minutes after the last one.
        """
        ...

    async def notices(self, *, after: str, age_ms: int = 0) -> tuple[str, Sequence[bytes]]:
        """The notices after a place, oldest first, and the place after them; one call returns a thousand at most.

        `after=""`: those of the last `age_ms` milliseconds. A server that lost data does not repeat what it still has.
        """
        ...

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        """Wait for doorbells of this node on a connection of its own. `after=""`: from now on.

        Returns where to go on, and the doorbells; none if nothing came within `block_ms`. A server that hangs is
        noticed shortly after `block_ms`. After StoreUnavailable, call again with the same `after`: what came meanwhile
        is not lost; if the server lost its data, everything that the inbox holds comes (again).
        """
        ...

    async def aclose(self) -> None:
        """Close connections that belong to the running event loop."""
        ...


class StreamDirectory(Protocol):
    """The sync face, for code outside any event loop: tasks, signal handlers, commands, the admin."""

    def publish(
        self, fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
    ) -> Appended | None:
        """As StreamStore.publish."""
        ...

    def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """As StreamStore.ring."""
        ...

    def ring_all(self, message: bytes) -> None:
        """As StreamStore.ring_all."""
        ...

    def post(self, notice: bytes) -> None:
        """As StreamStore.post."""
        ...

    def nodes(self) -> Sequence[Node]:
        """As StreamStore.nodes."""
        ...
