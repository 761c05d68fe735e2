"""Finding sessions: touched by a request, kept alive, or as they are; and the reading of what scripts reply.

The record of a session is four lines of ASCII: the format version with numbers and flags, the last call, the principal,
the handshake as JSON. `lua/_record.lua` reads and writes the same.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.records import KEPT_HANDSHAKE_CHARS, Kind, Session, kept_handshake, parse_handshake
from mcp_sessions.store.call import SEALED, Call, Operation, Script, is_foreign, warn_unreadable
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.ranges import Located

#: What GET replies for a record that is over, and that nobody has ended yet.
_OVER: Final = 0
#: A record of another release.
FOREIGN: Final = 1
LOG_LEVEL: Final = "level"
TOOL: Final = "tool:"
_NO_TOOLS: Final[frozenset[str]] = frozenset()

SLIDING: Final = ("session", "features", "state")
CALL_LENGTH: Final = 128

TOUCH: Final = Script("touch", "_record", "_slide", repeatable=True, takes_many=True, pipe="touches")
KEEP: Final = Script("keep", "_record", "_slide", repeatable=True)
GET: Final = Script("get", "_record", repeatable=True)


def touch(
    fingerprint: str, *, principal: str, limits: Limits, call: str = "", initialized: bool = False
) -> Call[Session | None]:
    """Load the session, check its principal and deadline, slide the idle TTL, count, remember `call`.

    `initialized=True` also records `notifications/initialized`. None for an unknown, expired, ended, unreadable or
    foreign session, which is left exactly as it was. Calls of the same tick of the event loop may share one run of the
    script.
    """
    arguments = (
        escape(principal),
        limits.idle_ms,
        line(call),
        "i" if initialized else "",
        limits.index_ms,
    )
    return Call(TOUCH, fingerprint, SLIDING, arguments, parse_session, partial(index_if_due, limits))


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
            SLIDING,
            (limits.idle_ms, limits.index_ms, counted.requests, line(counted.call)),
            parse_session,
            partial(index_if_due, limits),
            skips_sealed=True,
        )
        for fingerprint, counted in counts.items()
    ]
    return {session.fingerprint: session for session in kept if session is not None}


def get(fingerprint: str, *, skips_sealed: bool = False) -> Call[Session | None]:
    """The session as it is, without touching it. With `skips_sealed`, None for one that no key opens."""
    return Call(GET, fingerprint, ("session", "features"), (), _alive, skips_sealed=skips_sealed)


def look_up(fingerprint: str) -> Call[Session | int | None]:
    """As `get` for an index entry: None only if there is no record; 0 for one that is over, or FOREIGN."""
    return Call(GET, fingerprint, ("session", "features"), (), _found, skips_sealed=True)


def alive(index: str, entries: Sequence[Located], *, kind: Kind = "session") -> Operation[list[Session]]:
    """The sessions of index entries, in order. Entries of sessions that are gone are dropped.

    Those that are over, and that nobody has ended yet, are left for the sweep, and so are those that no key opens, and
    those of another release.
    """
    if not entries:
        return []
    found = yield [look_up(each.entry.fingerprint) for each in entries]
    gone: dict[str, list[indexes.Entry]] = {}
    for each, session in zip(entries, found, strict=True):
        if session is None:
            gone.setdefault(each.home, []).append(each.entry)
    if gone:
        yield [
            call
            for home, some in gone.items()
            for call in (
                *indexes.unindex(home, [index], some),
                *indexes.unindex_each(indexes.of_all(kind), some),
            )
        ]
    return [session for session in found if isinstance(session, Session)]


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
        level, tools = parse_features(reply[2]) if len(reply) > 2 and reply[2] else (None, _NO_TOOLS)
        return Session(
            fingerprint=fingerprint,
            handshake=parse(handshake),
            principal=unescape(principal),
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
            revived="r" in flags,
        )
    except ValueError:
        warn_unreadable(fingerprint, reply[0])
        return None


def parse_features(fields: Sequence[bytes]) -> tuple[str | None, frozenset[str]]:
    """The log level and the enabled tools of a flat list of fields and values."""
    features = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
    level = features.get(LOG_LEVEL)
    tools = frozenset(name.removeprefix(TOOL) for name in features if name.startswith(TOOL))
    return None if level is None else level.decode(), tools


@lru_cache(maxsize=4096)
def escape(principal: str) -> str:
    """A principal as one line of ASCII; different principals stay different."""
    return principal.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=4096)
def unescape(text: str) -> str:
    """The principal that `escape` made this of."""
    return text.encode("ascii").decode("unicode_escape")


def index_if_due(limits: Limits, session: Session | None, reply: Any) -> Sequence[Call[Any]]:
    """The script that slid the session says when its place in the indexes is to be updated."""
    return () if session is None or reply[1] != 1 else indexes.update(session, limits=limits)


def line(call: str) -> str:
    """What is remembered of a call, as one short line of ASCII."""
    if len(call) > CALL_LENGTH or not (call.isascii() and call.isprintable()):
        return ascii(call[:CALL_LENGTH])[1:-1][:CALL_LENGTH]
    return call


def _alive(fingerprint: str, reply: Any) -> Session | None:
    return None if reply == _OVER else parse_session(fingerprint, reply)


def _found(fingerprint: str, reply: Any) -> Session | int | None:
    if reply == _OVER:
        return _OVER
    session = parse_session(fingerprint, reply)
    if session is None and is_foreign(reply):
        return FOREIGN
    # It may be read in another process, or when its key is back.
    return _OVER if session is None and type(reply) is list and SEALED in reply[0] else session
