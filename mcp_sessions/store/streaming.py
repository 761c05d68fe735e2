"""The contract of what carries messages between processes: event logs, questions to clients, nodes and doorbells.

The logs and questions are the truth and live with their session, in its slot. Doorbells are hints: one that is lost
costs latency, never a message. "Now" is the store's clock. Every method raises `StoreUnavailable` when the store cannot
be asked; every call may then be made again, with the same arguments, without doing anything twice.

Payloads are bytes that the store does not look into. Nothing here slides a session's TTL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: The name of a session's standalone stream; exchanges have streams with random names of 16 hexadecimal digits.
STANDALONE = "standalone"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What a stream keeps for clients that resume it. What exceeds a bound is dropped from the old end."""

    #: Events.
    max_events: int
    #: Bytes of payloads.
    max_bytes: int
    #: Milliseconds after the last append; a log never outlives its session.
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

    #: The position of the last message appended, by this call or by the one that it repeats.
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
    #: Where delivery goes on: the position asked for; for a standalone stream without one, the last one delivered.
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
        """Make the log of an exchange that runs on `node`, claimed by that node. None if the session is gone."""
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

        `key` names this act: a repeated call with the same key within a minute does nothing. None if the session is
        gone.
        """
        ...

    async def claim(self, fingerprint: str, stream: str, *, node: str, after: int | None) -> Taken | None:
        """Take over the delivery of a stream. None if there is no such stream.

        The standalone stream exists for every session (it is made on first use); `after=None` goes on after the last
        event that was delivered to anybody. For an exchange's stream `after` is a position.
        """
        ...

    async def read(
        self, fingerprint: str, stream: str, *, token: int, after: int, max_bytes: int
    ) -> Batch | None:
        """The events after a position, at least one if there is one, then as many as fit; marks them delivered.

        None if the session or the stream is gone. Nothing is read for a claim that is not valid any more.
        """
        ...

    async def close_orphan(
        self, fingerprint: str, stream: str, *, payload: bytes, limits: StreamLimits
    ) -> Appended | None:
        """Append the response of an exchange whose node is dead, unless the stream has ended. None as for append."""
        ...

    # Questions to the client

    async def ask(self, fingerprint: str, question: str, *, node: str, timeout_ms: int) -> bool:
        """Register that `node` waits for the client's response to a request; before the request is sent. False if the
        session is gone."""
        ...

    async def answer(self, fingerprint: str, question: str, *, payload: bytes) -> str | None:
        """Leave the client's response for the node that waits; which node. None if nobody waits, or it was answered."""
        ...

    async def take_answer(self, fingerprint: str, question: str) -> bytes | None:
        """The client's response, once, if it is there."""
        ...

    async def asker(self, fingerprint: str, question: str) -> str | None:
        """Which node waits, for what is not the response (progress)."""
        ...

    async def withdraw(self, fingerprint: str, question: str) -> None:
        """Nobody waits any more: a late answer is refused."""
        ...

    # Resource subscriptions of the session (handshake era)

    async def subscribe(self, fingerprint: str, uri: str, *, max_subscriptions: int) -> bool | None:
        """Remember a resource subscription. False if there are too many. None if the session is gone."""
        ...

    async def unsubscribe(self, fingerprint: str, uri: str) -> bool | None:
        """Forget it. None if the session is gone."""
        ...

    async def subscribed(self, fingerprints: Sequence[str], uri: str) -> frozenset[str]:
        """Which of these sessions subscribe to a resource."""
        ...

    # Nodes and doorbells

    async def beat(self, node: str, *, about: str, forget_after_ms: int) -> None:
        """Heartbeat of a node. Nodes whose last one is older than `forget_after_ms` are forgotten, their inboxes too."""
        ...

    async def leave(self, node: str) -> None:
        """The node stops: forget it at once."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """The nodes that are not forgotten, oldest id first."""
        ...

    async def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """Put doorbells into the inboxes of nodes; those of unknown nodes are dropped. Inboxes are bounded."""
        ...

    async def ring_all(self, message: bytes) -> None:
        """Put a doorbell into the inbox of every node."""
        ...

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        """Wait for doorbells of this node on a connection of its own. `after=""`: from now on.

        Returns where to go on, and the doorbells; none if nothing came within `block_ms`. A server that hangs is
        noticed shortly after `block_ms`.
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

    def nodes(self) -> Sequence[Node]:
        """As StreamStore.nodes."""
        ...
