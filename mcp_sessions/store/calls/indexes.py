"""The indexes of sessions by last activity: hints about the records, seldom written, and repaired by readers."""

from collections.abc import Sequence
from typing import Any, Final

from mcp_sessions.conf import Limits
from mcp_sessions.records import ANONYMOUS, Handshake, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Script

#: How often a session's place in the indexes is updated at most.
INDEX_INTERVAL_MS: Final = 5_000
#: For how long an index update that comes after the end of its session is ignored.
GONE_MS: Final = 30_000
#: How much longer than its session an index entry may matter: it can be that much behind.
INDEX_SLACK_MS: Final = 2 * INDEX_INTERVAL_MS

#: How many fingerprints a script can drop at once.
MOST_UNINDEXED: Final = 1_000

#: How long a record that is no session can live.
LONGEST_MS: Final = 366 * 86_400_000

INDEX: Final = Script("index", "_record", "_index", repeatable=True)
UNINDEX: Final = Script("unindex", "_record", repeatable=True)
MEMBERS: Final = Script("members", "_record", "_index", repeatable=True)
CLIENTS: Final = Script("clients", repeatable=True)


def of(handshake: Handshake, principal: str) -> tuple[str, ...]:
    """The indexes by last activity that hold a record: all of its kind, those that count for its principal's cap, …"""
    kind, label = handshake.kind, handshake.label
    others = (
        keys.client_index(handshake.client_name, kind),
        keys.protocol_index(handshake.protocol_version, kind),
    )
    of_principal = keys.principal_index(principal, kind)
    if not label:
        return (keys.activity_index(kind), of_principal, *others)
    of_owner = keys.owner_index(principal, label, kind)
    return (keys.activity_index(kind), of_owner, of_principal, *others, keys.label_index(label, kind))


def reserve(
    fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits
) -> Call[tuple[int, bytes, int] | None]:
    """Take a new session's place in the indexes, unless a cap is reached.

    Then: 1 for the endpoint's cap or 2 for the principal's, the key of the full index, and now.
    """
    per_principal = None if principal == ANONYMOUS else limits.max_sessions_per_principal
    caps = [cap if cap is not None else "" for cap in (limits.max_sessions, per_principal)]
    return _index(fingerprint, principal, handshake, limits, "", limits.first_ms, caps)


def update(session: Session, *, limits: Limits) -> Call[Any]:
    """Put a session where its last activity belongs."""
    now = session.last_activity_ms
    after: int | str = session.expires_ms - now
    if session.kind != "session":
        after = session.expires_ms - now + INDEX_SLACK_MS
    elif session.active and session.expires_ms != session.deadline_ms:
        after = ""
    return _index(session.fingerprint, session.principal, session.handshake, limits, now, after, ("", ""))


def unindex(indexes: Sequence[str], fingerprints: Sequence[str]) -> Call[None]:
    """Drop fingerprints of sessions that are gone, MOST_UNINDEXED at most, from indexes."""
    members = [bytes.fromhex(each) for each in fingerprints]
    return Call(UNINDEX, "", (keys.GONE, *keys.with_ends(indexes)), (GONE_MS, *members), lambda _, __: None)


def members(
    index: str,
    *,
    limits: Limits,
    offset: int,
    limit: int,
    ascending: bool = False,
    since_ms: int | None = None,
    before_ms: int | None = None,
    kind: Kind = "session",
) -> Call[tuple[int, list[str]]]:
    """How many records of an index match, and the fingerprints of one page of them."""
    bounds = ["" if bound is None else bound for bound in (since_ms, before_ms)]
    arguments = (_matters_ms(limits, kind), *bounds, offset, limit, "asc" if ascending else "desc")
    return Call(MEMBERS, "", keys.with_ends([index]), arguments, _members)


def count(*, limits: Limits, kind: Kind = "session") -> Call[int]:
    """How many sessions are open, or how many records of another kind there are, as the index knows it."""
    read = members(keys.activity_index(kind), limits=limits, offset=0, limit=0, kind=kind)
    return Call(read.script, read.home, read.parts, read.arguments, lambda _, reply: int(reply[0]))


def clients() -> Call[list[str]]:
    """Client names seen lately, most recent first, at most 100."""
    return Call(CLIENTS, "", (keys.CLIENTS,), (), lambda _, reply: [name.decode() for name in reply])


def _index(
    fingerprint: str,
    principal: str,
    handshake: Handshake,
    limits: Limits,
    active_ms: int | str,
    after: int | str,
    caps: Sequence[int | str],
) -> Call[tuple[int, bytes, int] | None]:
    name = keys.client_label(handshake.client_name).encode("utf-8", "backslashreplace")
    member = bytes.fromhex(fingerprint)
    matters = _matters_ms(limits, handshake.kind)
    arguments = (member, active_ms, matters, after, name, limits.max_age_ms, *caps)
    parts = (keys.GONE, keys.CLIENTS, *keys.with_ends(of(handshake, principal)))
    return Call(INDEX, "", parts, arguments, lambda _, reply: tuple(reply) if reply else None)


def _members(_: str, reply: Any) -> tuple[int, list[str]]:
    total, found = reply
    return total, [member.hex() for member in found]


def _matters_ms(limits: Limits, kind: Kind) -> int:
    """How long after its last update an index entry can belong to a record that is alive.

    Records that are no sessions have various lifetimes: when each ends is beside its entry.
    """
    return max(limits.idle_ms, limits.first_ms) + INDEX_SLACK_MS if kind == "session" else LONGEST_MS
