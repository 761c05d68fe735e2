"""Sessions as scripts reply them, and the reading of them.

The record of a session is four lines of ASCII: the format version with numbers and flags, the last call, the principal,
the handshake as JSON. `lua/_record.lua` reads and writes the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from mcp_sessions.records import Kind, Session, parse_handshake
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Operation, Script, warn_unreadable
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.ranges import Located

#: What GET replies for a record that is over, and that nobody has ended yet.
_OVER: Final = 0
LOG_LEVEL: Final = "level"
TOOL: Final = "tool:"
_NO_TOOLS: Final[frozenset[str]] = frozenset()

GET: Final = Script("get", "_record", repeatable=True)


def get(fingerprint: str) -> Call[Session | None]:
    """The session as it is, without touching it."""
    return Call(GET, fingerprint, ("session", "features"), (), _alive)


def alive(index: str, entries: Sequence[Located], *, kind: Kind = "session") -> Operation[list[Session]]:
    """The sessions of index entries, in order. Entries of sessions that are gone are dropped.

    Those that are over, and that nobody has ended yet, are left for the sweep.
    """
    if not entries:
        return []
    found = yield [Call(GET, each.entry.fingerprint, ("session", "features"), (), _found) for each in entries]
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
                *indexes.unindex_each([keys.activity_index(kind), keys.ends_index(kind)], some),
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
        level, tools = parse_features(reply[2]) if len(reply) > 2 else (None, _NO_TOOLS)
        return Session(
            fingerprint=fingerprint,
            handshake=parse_handshake(handshake),
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


def _alive(fingerprint: str, reply: Any) -> Session | None:
    return None if reply == _OVER else parse_session(fingerprint, reply)


def _found(fingerprint: str, reply: Any) -> Session | int | None:
    return _OVER if reply == _OVER else parse_session(fingerprint, reply)
