"""Which sessions there are, for the admin and the operator. Index entries of sessions that are gone are dropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mcp_sessions.conf import Limits
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.records import FINGERPRINT, FINGERPRINT_PREFIX, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.reading import alive, get

#: How many of the last active sessions a short prefix is searched in.
FIND_DEPTH: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of sessions, newest activity first."""

    #: The sessions of the page. Those that ended since they were indexed are left out.
    sessions: Sequence[Session]
    #: How many sessions match, as the index knows it.
    total: int


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


def page(query: Query, *, limits: Limits, offset: int, limit: int) -> Operation[Page]:
    """One page by last activity: one range read and one pipeline, whatever the number of sessions.

    Raises: UnsupportedLookup.
    """
    index = _index_of(query)
    [(total, fingerprints)] = yield [
        indexes.members(
            index,
            limits=limits,
            offset=offset,
            limit=limit,
            ascending=query.ascending,
            since_ms=query.active_since_ms,
            before_ms=query.active_before_ms,
            kind=query.kind,
        )
    ]
    found = yield from alive(index, fingerprints, kind=query.kind)
    return Page(sessions=found, total=total - (len(fingerprints) - len(found)))


def find(prefix: str, *, limits: Limits, limit: int, kind: Kind = "session") -> Operation[list[Session]]:
    """Records of a kind whose fingerprint starts with `prefix`, hexadecimal, at least 8 digits.

    A whole fingerprint is looked up. A shorter one is searched among the 10,000 last active sessions.
    """
    if not FINGERPRINT_PREFIX.match(prefix):
        return []
    if FINGERPRINT.match(prefix):
        [session] = yield [get(prefix)]
        return [] if session is None or session.kind != kind else [session]
    index = keys.activity_index(kind)
    read = indexes.members(index, limits=limits, offset=0, limit=FIND_DEPTH, kind=kind)
    [(_, fingerprints)] = yield [read]
    matching = [each for each in fingerprints if each.startswith(prefix)]
    return (yield from alive(index, matching[:limit], kind=kind))


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
