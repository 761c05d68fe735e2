"""Sessions. Principals are compared inside the store: a stranger learns nothing and changes nothing.

The record of a session is four lines of ASCII: the format version with numbers and flags, the last call, the principal,
the handshake as JSON. `lua/_record.lua` reads and writes the same.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, Literal, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import (
    KEPT_HANDSHAKE_CHARS,
    Handshake,
    Kind,
    Session,
    kept_handshake,
    parse_handshake,
)
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Operation, Script, is_readable, warn_unreadable
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.healing import HEAL_INTERVAL_MS, Healing
from mcp_sessions.store.calls.indexes import INDEX_INTERVAL_MS
from mcp_sessions.transport.event_ids import STANDALONE

#: Why a session was ended; the tombstone keeps it.
EndReason = Literal["deleted", "expired_by_operator", "max_age"]

CALL_LENGTH: Final = 128
TOMBSTONE_MS: Final = 600_000
#: For how long a repeated end finds the session that it ended.
REPEATED_MS: Final = 60_000
#: How many entries of a full index are checked for sessions that are gone.
HEAL_BATCH: Final = 1_000
#: How often a new session asks again for its place while a check runs.
ASKED_AGAIN: Final = 100

_LOG_LEVEL: Final = "level"
_TOOL: Final = "tool:"
_NO_TOOLS: Final[frozenset[str]] = frozenset()
_SLIDING: Final = ("session", "features", "state")
#: What else an end deletes. The logs of exchanges have names that are not known here; their TTL removes them.
_LASTING: Final = ("stream:" + STANDALONE, "stream-info:" + STANDALONE, "published", "subscriptions")

CREATE: Final = Script("create", "_record")
TOUCH: Final = Script("touch", "_record", "_slide", repeatable=True, takes_many=True, pipe="touches")
KEEP: Final = Script("keep", "_record", "_slide", repeatable=True)
GET: Final = Script("get", "_record", repeatable=True)
END: Final = Script("end", "_record", repeatable=True)
ENDED: Final = Script("ended", repeatable=True)
FEATURES: Final = Script("features", "_record", repeatable=True)


def create(
    fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits, again: bool = False
) -> Operation[Session]:
    """Store a new session, not yet active, with FIRST_TTL. It exists for every node when this returns.

    `again=True` is for records of which there may be another one with the same fingerprint after an end.

    Raises: TooManySessions at a cap, before anything is stored; once a second a full index is first cleared of
    sessions that are gone. ValueError if the fingerprint exists or existed (a tombstone).
    """
    yield from _reserve(fingerprint, principal, handshake, limits)
    arguments = (
        _escape(principal),
        handshake.text,
        limits.first_ms,
        limits.max_age_ms,
        "again" if again else "",
    )
    try:
        [created] = yield [Call(CREATE, fingerprint, ("session", "ended"), arguments, _created)]
    except StoreUnavailable:
        yield from _unindex(fingerprint, principal, handshake)
        raise
    if isinstance(created, Session):
        return created
    if created == "ended":
        yield from _unindex(fingerprint, principal, handshake)
    raise ValueError(f"a session with the fingerprint {fingerprint[:12]} {created}")


def touch(
    fingerprint: str, *, principal: str, limits: Limits, call: str = "", initialized: bool = False
) -> Call[Session | None]:
    """Load the session, check its principal and deadline, slide the idle TTL, count, remember `call`.

    `initialized=True` also records `notifications/initialized`. None for an unknown, expired, ended, unreadable or
    foreign session, which is left exactly as it was. Calls of the same tick of the event loop may share one run of the
    script.
    """
    arguments = (
        _escape(principal),
        limits.idle_ms,
        _line(call),
        "i" if initialized else "",
        INDEX_INTERVAL_MS,
    )
    return Call(TOUCH, fingerprint, _SLIDING, arguments, parse_session, partial(_index_if_due, limits))


def keep(fingerprints: Sequence[str], *, limits: Limits) -> Operation[dict[str, Session]]:
    """Slide the idle TTL of sessions that have work in flight or open streams; not counted as requests.

    Returns those that still exist, by fingerprint. Never slides past the deadline.
    """
    return (yield from count_requests(dict.fromkeys(fingerprints, _NONE), limits=limits))


class Counted(NamedTuple):
    """Requests that were counted elsewhere than in the store."""

    requests: int
    #: The last of them, as `touch` remembers it.
    call: str


_NONE: Final = Counted(0, "")


def count_requests(counts: Mapping[str, Counted], *, limits: Limits) -> Operation[dict[str, Session]]:
    """Slide the idle TTL of records, and count requests of them, by fingerprint. Returns those that still exist."""
    kept = yield [
        Call(
            KEEP,
            fingerprint,
            _SLIDING,
            (limits.idle_ms, INDEX_INTERVAL_MS, counted.requests, _line(counted.call)),
            parse_session,
            partial(_index_if_due, limits),
        )
        for fingerprint, counted in counts.items()
    ]
    return {session.fingerprint: session for session in kept if session is not None}


def get(fingerprint: str) -> Call[Session | None]:
    """The session as it is, without touching it."""
    return Call(GET, fingerprint, ("session", "features"), (), parse_session)


def end(
    fingerprint: str, *, principal: str | None, reason: EndReason, token: str = ""
) -> Operation[Session | None]:
    """Delete the session with all its parts and leave a tombstone; it can never come back.

    `principal=None` ends anybody's. Returns the session that this call ended; None if there was none, or if it is
    somebody else's. Of several concurrent calls exactly one gets the session. With the reason "max_age", only a
    session that does not expire before its deadline is ended, and still for ten seconds after it, when nothing else
    finds the session any more. An end that is repeated within a minute with the same `token`, because its reply was
    lost, gets the session again; by default each end has a token of its own.
    """
    ended: Session | None
    [ended] = yield [_end(fingerprint, principal, reason, token or secrets.token_hex(8))]
    if ended is not None:
        yield from _unindex(fingerprint, ended.principal, ended.handshake)
    return ended


def end_many(
    fingerprints: Sequence[str], *, reason: EndReason, token: str
) -> Operation[list[Session | StoreUnavailable | None]]:
    """End anybody's sessions in two round trips. The outcome of each: as of `end`, or why it is not known."""
    outcomes = yield [_end(each, None, reason, token, fails_alone=True) for each in fingerprints]
    indexed: dict[tuple[str, ...], list[str]] = {}
    for session in outcomes:
        if isinstance(session, Session):
            places = indexes.of(session.handshake, session.principal)
            indexed.setdefault(places, []).append(session.fingerprint)
    try:
        if indexed:
            yield [indexes.unindex(places, ended) for places, ended in indexed.items()]
    except StoreUnavailable as error:
        ended_count = sum(map(len, indexed.values()))
        log.debug("%d sessions stay in the indexes for a while: %s", ended_count, error)
    return outcomes


def _end(
    fingerprint: str, principal: str | None, reason: EndReason, token: str, *, fails_alone: bool = False
) -> Call[Session | None]:
    whose = "" if principal is None else "=" + _escape(principal)
    arguments = (whose, reason, TOMBSTONE_MS, token, REPEATED_MS)
    parts = (*_SLIDING, "ended", "ended-record", *_LASTING)
    return Call(END, fingerprint, parts, arguments, parse_session, fails_alone=fails_alone)


def set_log_level(fingerprint: str, level: str) -> Call[bool]:
    """Remember what `logging/setLevel` asked for. False if the session is gone (nothing is created)."""
    return Call(FEATURES, fingerprint, ("session", "features"), (1, _LOG_LEVEL, level), is_readable)


def change_tools(
    fingerprint: str, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
) -> Call[frozenset[str] | None]:
    """Enable and disable opt-in tools by name; the names enabled afterwards, None if the session is gone.

    A tool that is named on both sides is disabled.
    """
    enabled = [text for name in enable for text in (_TOOL + name, "1")]
    arguments = [len(enabled) // 2, *enabled, *(_TOOL + name for name in disable)]
    return Call(FEATURES, fingerprint, ("session", "features"), arguments, _tools)


def end_reason(fingerprint: str) -> Call[str | None]:
    """Why a session was ended in the last minutes. None for one that lives, expired, or was lost by the server."""
    return Call(
        ENDED, fingerprint, ("ended",), (), lambda _, reply: reply.decode().split(" ")[0] if reply else None
    )


def alive(index: str, fingerprints: Sequence[str], *, kind: Kind = "session") -> Operation[list[Session]]:
    """The sessions of index entries, in order; entries of sessions that are gone are dropped from the index."""
    if not fingerprints:
        return []
    sessions = yield [get(fingerprint) for fingerprint in fingerprints]
    gone = [each for each, session in zip(fingerprints, sessions, strict=True) if session is None]
    if gone:
        places, most = (index, keys.activity_index(kind)), indexes.MOST_UNINDEXED
        yield [indexes.unindex(places, gone[start : start + most]) for start in range(0, len(gone), most)]
    return [session for session in sessions if session is not None]


def parse_session(fingerprint: str, reply: Any) -> Session | None:
    """The session of a script's reply; None for no session, and for one that cannot be read, which is logged."""
    if type(reply) is not list:
        if reply is not None:
            warn_unreadable(fingerprint, reply)
        return None
    try:
        numbers, call, principal, handshake = reply[0].decode("ascii").split("\n")
        _, created, deadline, last, expires, _, requests, flags = numbers.split(" ")
        created_ms = int(created)
        # Not always `parse_handshake`, which does the same: this is on the path of every request.
        parse = kept_handshake if len(handshake) <= KEPT_HANDSHAKE_CHARS else parse_handshake
        level, tools = parse_features(reply[2]) if len(reply) > 2 else (None, _NO_TOOLS)
        return Session(
            fingerprint=fingerprint,
            handshake=parse(handshake),
            principal=_unescape(principal),
            created_ms=created_ms,
            deadline_ms=created_ms + int(deadline),
            last_activity_ms=created_ms + int(last),
            expires_ms=created_ms + int(expires),
            active="a" in flags,
            initialized="i" in flags,
            requests=int(requests),
            last_call=call,
            log_level=level,
            tools=tools,
        )
    except ValueError:
        warn_unreadable(fingerprint, reply[0])
        return None


def parse_features(fields: Sequence[bytes]) -> tuple[str | None, frozenset[str]]:
    """The log level and the enabled tools of a flat list of fields and values."""
    features = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
    level = features.get(_LOG_LEVEL)
    tools = frozenset(name.removeprefix(_TOOL) for name in features if name.startswith(_TOOL))
    return None if level is None else level.decode(), tools


healing = Healing()


def _reserve(fingerprint: str, principal: str, handshake: Handshake, limits: Limits) -> Operation[None]:
    """A full index is checked for sessions that are gone; if that makes no room, the cap holds."""
    reservation, key = (
        indexes.reserve(fingerprint, principal=principal, handshake=handshake, limits=limits),
        b"",
    )
    waits, left = False, ASKED_AGAIN
    while True:
        # Before it is asked: a check that ends meanwhile may have made room.
        worth, ended = waits and healing.is_checking(key), healing.ended
        [full] = yield [reservation]
        if full is None:
            return
        cap, key, now = full
        with healing.check(key) as due:
            if due:
                yield from _heal(indexes.of(handshake, principal)[cap - 1], now, limits, handshake.kind)
                continue
        # Also if a check ended after the store had replied: who asked before it may be told of room that is gone.
        if left > 0 and (worth or healing.ended != ended):
            left -= 1
        elif waits or not healing.may_wait(key):
            raise TooManySessions(per_principal=cap == 2)
        else:
            waits = True


def _heal(index: str, now: int, limits: Limits, kind: Kind) -> Operation[None]:
    """Drop entries of sessions that are gone from an index that is full."""
    # Not the newest: a place is reserved a moment before its session exists.
    old = now - HEAL_INTERVAL_MS + 1
    read = indexes.members(
        index, limits=limits, offset=0, limit=HEAL_BATCH, ascending=True, before_ms=old, kind=kind
    )
    [(_, found)] = yield [read]
    yield from alive(index, found, kind=kind)


def _unindex(fingerprint: str, principal: str, handshake: Handshake) -> Operation[None]:
    """Drop a session from its indexes; if that fails, readers do it later."""
    try:
        yield [indexes.unindex(indexes.of(handshake, principal), [fingerprint])]
    except StoreUnavailable as error:
        log.debug("Session %s stays in the indexes for a while: %s", fingerprint[:12], error)


def _index_if_due(limits: Limits, session: Session | None, reply: Any) -> Call[Any] | None:
    """The script that slid the session says when its place in the indexes is to be updated."""
    return None if session is None or reply[1] != 1 else indexes.update(session, limits=limits)


def _created(fingerprint: str, reply: Any) -> Session | str:
    """The session; "exists" or "ended" if the fingerprint is taken."""
    session = None if isinstance(reply, bytes) else parse_session(fingerprint, reply)
    return reply.decode() if session is None else session


def _tools(fingerprint: str, reply: Any) -> frozenset[str] | None:
    return parse_features(reply[0])[1] if is_readable(fingerprint, reply) else None


def _line(call: str) -> str:
    """What is remembered of a call, as one short line of ASCII."""
    if len(call) > CALL_LENGTH or not (call.isascii() and call.isprintable()):
        return ascii(call[:CALL_LENGTH])[1:-1][:CALL_LENGTH]
    return call


@lru_cache(maxsize=4096)
def _escape(principal: str) -> str:
    """A principal as one line of ASCII; different principals stay different."""
    return principal.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=4096)
def _unescape(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")
