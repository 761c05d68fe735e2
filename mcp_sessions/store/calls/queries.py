"""Which sessions there are, for the admin and the operator. Index entries of sessions that are gone are dropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mcp_sessions.conf import Limits
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.records import FINGERPRINT, FINGERPRINT_PREFIX, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes, ranges, reading, sessions
from mcp_sessions.store.calls.indexes import Entry

#: How many of the last active sessions a short prefix is searched in.
FIND_DEPTH: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of sessions, newest activity first."""

    #: The sessions of the page. Those that ended since they were indexed are left out.
    sessions: Sequence[Session]
    #: How many sessions match, as the index knows it.
    total: int
    #: The last entry that was read, after which the next page begins; None if there was none.
    last: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list: at most one of `client`, `protocol`, `principal` and `label`, and activity bounds."""

    kind: Kind = "session"
    client: str | None = None
    protocol: str | None = None
    principal: str | None = None
    #: Of `principal` and `label` together, for handles: those that one principal has of one kind.
    label: str | None = None
    #: Last activity at or after / strictly before, milliseconds since the epoch.
    active_since_ms: int | None = None
    active_before_ms: int | None = None
    #: Oldest activity first.
    ascending: bool = False


def page(
    query: Query, *, limits: Limits, offset: int = 0, limit: int, after: Entry | None = None
) -> Operation[Page]:
    """One page by last activity, at an offset, or after an entry. Scores are read first, and then the records.

    That is one range read and one pipeline where the index is in one shard, whatever the number of sessions. With
    several shards, it is one more round trip beyond the first 500. Raises: UnsupportedLookup.
    """
    index = _index_of(query)
    read = ranges.stretched(
        index,
        indexes.homes_of(principal=query.principal, limits=limits),
        limits=limits,
        kind=query.kind,
        since_ms=query.active_since_ms,
        before_ms=query.active_before_ms,
        ascending=query.ascending,
    )
    found = yield from (
        ranges.at(read, offset=offset, limit=limit)
        if after is None
        else ranges.after(read, after, limit=limit)
    )
    alive = yield from reading.alive(index, found.entries, kind=query.kind)
    return Page(
        sessions=alive,
        total=found.total - (len(found.entries) - len(alive)),
        last=found.entries[-1].entry if found.entries else None,
    )


def find(prefix: str, *, limits: Limits, limit: int, kind: Kind = "session") -> Operation[list[Session]]:
    """Records of a kind whose fingerprint starts with `prefix`, hexadecimal, at least 8 digits.

    A whole fingerprint is looked up. A shorter one is searched among the 10,000 last active sessions of its shard.
    """
    if not FINGERPRINT_PREFIX.match(prefix):
        return []
    if FINGERPRINT.match(prefix):
        [session] = yield [sessions.get(prefix)]
        return [] if session is None or session.kind != kind else [session]
    index = keys.activity_index(kind)
    read = ranges.stretched(index, [keys.home_of(prefix)], limits=limits, kind=kind)
    found = yield from ranges.at(read, offset=0, limit=FIND_DEPTH)
    matching = [each for each in found.entries if each.entry.fingerprint.startswith(prefix)]
    return (yield from reading.alive(index, matching[:limit], kind=kind))


def _index_of(query: Query) -> str:
    if query.principal is not None and query.label is not None:
        return keys.owner_index(query.principal, query.label, query.kind)
    lookups: dict[Callable[[str, Kind], str], str | None] = {
        keys.client_index: query.client,
        keys.protocol_index: query.protocol,
        keys.principal_index: query.principal,
        keys.label_index: query.label,
    }
    chosen = [index(value, query.kind) for index, value in lookups.items() if value is not None]
    if len(chosen) > 1:
        raise UnsupportedLookup("Records can be filtered by one of client, protocol, principal and label.")
    return chosen[0] if chosen else keys.activity_index(query.kind)
