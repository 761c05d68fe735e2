"""Sessions whose records are gone, opened again or ended as their ids describe them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Handshake, Session
from mcp_sessions.store.call import Call, Operation, Script, is_readable
from mcp_sessions.store.calls import places, sessions, tombstones, validity
from mcp_sessions.store.calls.reading import escape, index_if_due, line, parse_session

REVIVE: Final = Script("revive", "_record", "_slide", repeatable=True)
SETTLE: Final = Script("settle", "_record", repeatable=True)
BURY: Final = Script("bury", "_record", repeatable=True)

#: Flags of the records that are made: active, initialized, opened again by its id.
AGAIN: Final = "air"
USED: Final = "ai"
UNUSED: Final = ""


class Found(NamedTuple):
    """A session that was looked for again."""

    session: Session
    #: Whether this call has opened it. If not, another process was faster.
    opened: bool


def revive(
    session_id: SignedId,
    *,
    principal: str,
    handshake: Handshake,
    limits: Limits,
    call: str,
    flags: str = AGAIN,
) -> Operation[Found | None]:
    """Open a session again whose record is gone, with its creation time and deadline, active, and with empty state.

    `flags` for one that never had a record: USED or UNUSED.

    Exactly one of several callers opens it; the others find it, touched. None if it has ended, is over, or cannot be
    read. Raises: TooManySessions at a cap.
    """
    fingerprint = session_id.fingerprint
    if (yield from _ended(session_id)):
        return None
    yield from places.take(fingerprint, principal=principal, handshake=handshake, limits=limits, another=None)
    arguments = (
        escape(principal),
        handshake.text,
        session_id.created_ms,
        session_id.deadline_ms,
        limits.idle_ms,
        line(call),
        limits.index_ms,
        flags,
    )
    [found] = yield [
        Call(
            REVIVE,
            fingerprint,
            ("session", "features", "state", "ended"),
            arguments,
            _found,
            partial(_index_if_due, limits),
            secrets=(1,),
        )
    ]
    if found is None:
        yield from places.give_back(fingerprint, principal, handshake)
    checked: Found | None = found
    return checked


def settle(fingerprint: str) -> Call[bool]:
    """A session that was opened again counts as any other from now on. False if it is gone."""
    return Call(SETTLE, fingerprint, ("session",), (), is_readable)


def bury(session_id: SignedId, *, reason: sessions.EndReason) -> Operation[str]:
    """End a session whose record is gone: nobody can open it again.

    Returns "buried"; or, if nothing was done, "ended", "over", or "revived" because it has a record after all, or
    "unreadable" because that is of another release.
    """
    fingerprint, deadline_ms = session_id.fingerprint, session_id.deadline_ms
    if (yield from _ended(session_id)):
        return "ended"
    call = Call(
        BURY, fingerprint, ("session", "ended"), (reason, deadline_ms), lambda _, reply: str(reply.decode())
    )
    [outcome] = yield [call]
    if outcome == "buried":
        yield from tombstones.compact({fingerprint: deadline_ms})
    buried: str = outcome
    return buried


def _ended(session_id: SignedId) -> Operation[bool]:
    """Whether it has a tombstone, or was opened before the moment before which no session counts.

    The scripts look again for the large tombstone, which no end does without at first.
    """
    fingerprint = session_id.fingerprint
    small, reason, moment = yield [
        tombstones.has(fingerprint, session_id.deadline_ms),
        sessions.end_reason(fingerprint),
        validity.min_created(0),
    ]
    return small or reason is not None or session_id.created_ms < moment.min_created_ms


def _found(fingerprint: str, reply: Any) -> Found | None:
    if type(reply) is not list:
        return parse_session(fingerprint, reply)  # type: ignore[return-value] # None, and logged
    opened, *rest = reply
    session = parse_session(fingerprint, rest)
    return None if session is None else Found(session, opened == 1)


def _index_if_due(limits: Limits, found: Found | None, reply: Any) -> Sequence[Call[Any]]:
    return () if found is None else index_if_due(limits, found.session, reply[1:])
