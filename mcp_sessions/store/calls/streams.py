"""Event logs. They live with their session, in its slot, and slide no session's TTL.

Payloads are bytes that the store does not look into. A log lives for `StreamLimits.ttl_ms` after the last append,
publication, claim or `keep`, and never past its session's deadline: a silent stream needs `keep`. The positions of a
standalone stream go on until the session ends, also when its log is gone. A server that lost data gives no position and
no token a second time, provided that its clock does not step back: both are times.

When a session ends, so does its standalone log, in the same act. The logs of its exchanges cannot
be read or written from then on; `forget` and `finish` drop them, or else their TTL. Every call may be made again with
the same arguments: nothing happens twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.conf import StreamLimits
from mcp_sessions.store.call import Call, Operation, Script, is_readable
from mcp_sessions.store.calls.sessions import LASTING
from mcp_sessions.transport.event_ids import STANDALONE

#: How long, and how many of a session at most, the names of publications are remembered.
PUBLISHED_MS: Final = 60_000
MOST_PUBLISHED: Final = 1_000

_HEADS: Final = ("_record", "_stream")

OPEN: Final = Script("stream_open", *_HEADS, repeatable=True, pipe="messages")
APPEND: Final = Script("stream_append", *_HEADS, repeatable=True, pipe="messages")
PUBLISH: Final = Script("stream_publish", *_HEADS, repeatable=True, pipe="messages")
CLAIM: Final = Script("stream_claim", *_HEADS, "_waiting", repeatable=True)
READ: Final = Script("stream_read", *_HEADS, "_waiting", repeatable=True)
RELEASE: Final = Script("stream_release", *_HEADS, "_waiting", repeatable=True)
RERUN: Final = Script("stream_rerun", *_HEADS, repeatable=True)
CLOSE: Final = Script("stream_close", *_HEADS, repeatable=True)
DELIVERED_BY: Final = Script("stream_delivered_by", "_record", repeatable=True)
KEEP: Final = Script("stream_keep", *_HEADS, repeatable=True)
FINISH: Final = Script("stream_finish", "_record", repeatable=True)
FORGET: Final = Script("stream_forget", "_record", repeatable=True)
DROP: Final = Script("stream_drop", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to deliver a stream. One claim is valid: the newest that was not released (a fencing token)."""

    #: The node that delivers.
    node: str
    #: Grows with every claim of the stream, and is never given twice.
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One logged message."""

    #: 1, 2, 3… in an exchange's stream. In the standalone one microseconds since the epoch, or one more than the last.
    position: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What `append` did."""

    #: The position of the stream's last message.
    position: int
    #: Who delivers the stream now; None if nobody does.
    claim: Claim | None
    #: False if nothing was appended, because another node has ended the stream, or runs the exchange.
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What `close_orphan` found."""

    #: Who delivers the stream.
    claim: Claim | None
    #: The node that runs the exchange; "" if the stream has ended.
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What `rerun` did."""

    #: The node that runs the exchange from now on; "" if the stream has ended.
    origin: str
    #: How often the exchange was run again, this time included.
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What `claim` found."""

    claim: Claim
    #: The claim that this one replaces.
    replaced: Claim | None
    #: The node that runs the exchange; "" for a standalone stream.
    origin: str
    #: Where delivery goes on: the position asked for; in a standalone stream at most its last one, and without one the
    #: last one delivered.
    after: int
    #: The JSON-RPC id of the exchange's request, as JSON text; "" for a standalone stream.
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What `read` found."""

    events: Sequence[Event]
    #: Whether the stream's last message is in `events`, or was before them: nothing follows.
    ended: bool
    #: Whether the claim is the valid one. If not, `events` is empty.
    valid: bool
    #: The valid one; None if nobody delivers.
    holder: Claim | None


def open_stream(
    fingerprint: str, stream: str, *, node: str, request_id: str, limits: StreamLimits
) -> Call[Claim | None]:
    """Make the log of an exchange that runs on `node`, claimed by that node. None if the session is gone.

    `stream` is a new random name: for one that exists, its first claim is returned and nothing is changed.
    """
    arguments = (node, request_id, limits.ttl_ms)
    return Call(OPEN, fingerprint, _parts(stream), arguments, _opened, secrets=(1,))


def append(
    fingerprint: str,
    stream: str,
    *,
    node: str,
    first: int,
    payloads: Sequence[bytes],
    last: bool,
    limits: StreamLimits,
) -> Call[Appended | None]:
    """Append messages of an exchange at positions first, first+1…; `last`: the response is among them, at the end.

    `node` runs the exchange; refused if another one runs it again, or has closed it as an orphan. Positions that exist
    already are skipped. None if the session or the stream is gone.
    """
    bounds = ("1" if last else "", limits.max_events, limits.max_bytes, limits.ttl_ms)
    arguments = (node, first, *bounds, *payloads)
    return Call(APPEND, fingerprint, _parts(stream), arguments, _appended, secrets=range(6, len(arguments)))


def publish(
    fingerprint: str, *, payloads: Sequence[bytes], key: str, limits: StreamLimits
) -> Call[Appended | None]:
    """Append messages to the standalone stream, from anywhere; the log is made on first use.

    `key` names this publication: a repeated call with the same key within a minute does nothing (the last thousand
    publications of a session are remembered). None if the session is gone.
    """
    bounds, parts = (limits.max_events, limits.max_bytes, limits.ttl_ms), (*_parts(STANDALONE), "published")
    arguments = (key, PUBLISHED_MS, MOST_PUBLISHED, *bounds, *payloads)
    return Call(PUBLISH, fingerprint, parts, arguments, _appended, secrets=range(6, len(arguments)))


def claim(fingerprint: str, stream: str, *, node: str, after: int | None, ttl_ms: int) -> Call[Taken | None]:
    """Take over the delivery of a stream, and keep it for `ttl_ms`. None if there is no such stream.

    The standalone stream exists for every session (it is made on first use); `after=None` goes on after the last event
    that was delivered to anybody, and the claim before this one waits. For an exchange's stream `after` is a position;
    None is 0.
    """
    arguments = (node, "" if after is None else after, "1" if stream == STANDALONE else "", ttl_ms)
    return Call(CLAIM, fingerprint, _parts(stream), arguments, _taken)


def read(fingerprint: str, stream: str, *, claim: Claim, after: int, max_bytes: int) -> Call[Batch | None]:
    """The events after a position, at least one if there is one, then as many as fit; marks them delivered.

    If events after the position were dropped, the oldest that are left. None if the session or the stream is gone.
    Nothing is read for a claim that is not valid; one that got the stream back does not read what others delivered
    meanwhile. A claim that the server has lost with other data is valid again if it is the newest.
    """
    return Call(READ, fingerprint, _parts(stream), (claim.node, claim.token, after, max_bytes), _batch)


def release(fingerprint: str, *, token: int) -> Call[Claim | None]:
    """The connection with this token does not deliver the standalone stream any more, nor wait for it.

    If it delivered until now, the newest claim that waits is the valid one again; a newer claim keeps the stream. The
    claim that is valid now; None if there is none, or the session is gone.
    """
    return Call(RELEASE, fingerprint, _parts(STANDALONE), (token,), _opened)


def delivered_by(fingerprint: str, stream: str) -> Call[Claim | None]:
    """Who delivers a stream now. None if nobody ever did, or if the session is gone."""
    parts = ("session", "stream-info:" + stream)
    return Call(DELIVERED_BY, fingerprint, parts, (), _delivered_by)


def close_orphan(
    fingerprint: str, stream: str, *, origin: str, after: int, payload: bytes, limits: StreamLimits
) -> Call[Closed | None]:
    """Append the response of an exchange whose node is dead, or that was run again, if `origin` is who ran it last.

    The position is one after `after` at least. Nothing happens if the stream has ended or another node runs the
    exchange. From then on the appends of its own node are refused. None if the session or the stream is gone.
    """
    arguments = (origin, after, limits.max_events, limits.max_bytes, limits.ttl_ms, payload)
    return Call(CLOSE, fingerprint, _parts(stream), arguments, _closed, secrets=(5,))


def rerun(fingerprint: str, stream: str, *, dead: str, node: str, most: int) -> Call[Rerun | None]:
    """Take over the exchange of a dead node in order to run it again on `node`, if nobody has and it may be run again.

    An exchange is run again `most` times at most. `dead=node` takes nothing: it says whether `node` still has it, and
    keeps the stream. None if the session or the stream is gone.
    """
    return Call(RERUN, fingerprint, _parts(stream), (dead, node, most), _rerun)


def keep(streams: Sequence[tuple[str, str]]) -> Operation[frozenset[tuple[str, str]]]:
    """Signs of life of streams, (fingerprint, name) each, that run or are delivered; those that exist."""
    kept = yield [Call(KEEP, home, _parts(stream), (), is_readable) for home, stream in streams]
    return frozenset(each for each, exists in zip(streams, kept, strict=True) if exists)


def finish(fingerprint: str, stream: str, *, kept: int, kept_bytes: int, ttl_ms: int) -> Operation[None]:
    """An exchange's stream ended. Of those of a session the newest are known for `ttl_ms`, at most `kept`, and at most
    as many as it takes to have `kept_bytes`.

    If the session is over, this one is dropped as well.
    """
    parts = ("session", "finished", "stream-info:" + stream)
    [names] = yield [Call(FINISH, fingerprint, parts, (stream, kept, kept_bytes, ttl_ms), _names)]
    yield from _drop([fingerprint], [names])


def forget(fingerprints: Sequence[str]) -> Operation[None]:
    """Drop what is left of sessions that are over, except for tombstones and logs of exchanges that still run."""
    parts = ("session", "finished", *LASTING)
    found = yield [Call(FORGET, each, parts, (), _names) for each in fingerprints]
    yield from _drop(fingerprints, found)


def _drop(fingerprints: Sequence[str], names: Sequence[Sequence[str]]) -> Operation[None]:
    """Delete the logs of those names."""
    yield [
        Call(DROP, each, [part for name in some for part in _parts(name)[1:]], (), lambda _, __: None)
        for each, some in zip(fingerprints, names, strict=True)
        if some
    ]


def _parts(stream: str) -> tuple[str, str, str]:
    return ("session", "stream:" + stream, "stream-info:" + stream)


def _claim(node: bytes, token: int) -> Claim | None:
    return Claim(node=node.decode(), token=token) if token else None  # without one, nobody delivers


def _appended(fingerprint: str, reply: Any) -> Appended | None:
    if not is_readable(fingerprint, reply):
        return None
    position, node, token, accepted = reply
    return Appended(position=position, claim=_claim(node, token), accepted=bool(accepted))


def _opened(fingerprint: str, reply: Any) -> Claim | None:
    return _claim(*reply) if is_readable(fingerprint, reply) else None


def _closed(fingerprint: str, reply: Any) -> Closed | None:
    if not is_readable(fingerprint, reply):
        return None
    node, token, origin = reply
    return Closed(claim=_claim(node, token), origin=origin.decode())


def _rerun(fingerprint: str, reply: Any) -> Rerun | None:
    if not is_readable(fingerprint, reply):
        return None
    origin, count = reply
    return Rerun(origin=origin.decode(), count=count)


def _delivered_by(fingerprint: str, reply: Any) -> Claim | None:
    return _claim(*reply) if is_readable(fingerprint, reply) else None


def _taken(fingerprint: str, reply: Any) -> Taken | None:
    if not is_readable(fingerprint, reply):
        return None
    node, token, node_before, token_before, origin, after, request = reply
    return Taken(
        claim=Claim(node=node.decode(), token=token),
        replaced=_claim(node_before, token_before),
        origin=origin.decode(),
        after=after,
        request_id=request.decode(),
    )


def _batch(fingerprint: str, reply: Any) -> Batch | None:
    if not is_readable(fingerprint, reply):
        return None
    valid, ended, flat, *holder = reply
    events = [
        Event(position=position, payload=payload)
        for position, payload in zip(flat[::2], flat[1::2], strict=True)
    ]
    return Batch(events=events, ended=bool(ended), valid=bool(valid), holder=_claim(*holder))


def _names(_: str, reply: Any) -> list[str]:
    return [name.decode() for name in reply]
