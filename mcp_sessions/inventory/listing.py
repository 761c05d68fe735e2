"""Pages of sessions, over all endpoints, newest activity first.

For one endpoint and one condition, a page is one range read of the store. For several endpoints, or a search text with
several meanings, there is one read for each, and the results are merged here. A merged page also costs what precedes
it, so its depth is bounded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.records import FINGERPRINT, Session
from mcp_sessions.store.calls import queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for

#: How deep a merged list can be paged, and how many sessions one page or one action may hold.
MAX_DEPTH: Final = 10_000
#: Sessions found at most by the first digits of a fingerprint.
MAX_FOUND: Final = 100

#: No condition.
EVERYTHING: Final = Query()
_CONDITIONS: Final = ("client", "protocol", "principal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A session, and the endpoint whose store it is in."""

    alias: str
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedPage:
    """One page of a list of sessions."""

    #: Without the sessions that ended since they were indexed.
    rows: Sequence[Located]
    #: How many match, according to the indexes; a session that matches a search in two ways counts twice.
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A search for sessions whose fingerprint starts with these digits."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Sessions picked by hand, by fingerprint. Bounds on their activity do not apply to them."""

    fingerprints: tuple[str, ...]


Match = Query | Prefix | Picked


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which sessions to list: those of some endpoints that pass the filters and meet any of the matches."""

    aliases: tuple[str, ...]
    #: The filters, and the order of the list.
    filters: Query = EVERYTHING
    #: What a search or a selection asks for. Empty: no session.
    matches: tuple[Match, ...] = (EVERYTHING,)

    def page(self, *, offset: int, limit: int) -> LocatedPage:
        """Read one page.

        Raises: UnsupportedLookup where no index serves it; StoreUnavailable.
        """
        sources = [(alias, match) for alias in self.aliases for match in self._filtered_matches()]
        if len(sources) == 1 and isinstance(query := sources[0][1], Query):
            return _indexed(sources[0][0], query, offset=offset, limit=limit)
        if offset + limit > MAX_DEPTH:
            raise UnsupportedLookup(f"Lists of several endpoints or searches end at {MAX_DEPTH:,} sessions.")
        return self._merged([self._read(*source, limit=offset + limit) for source in sources], offset, limit)

    def _filtered_matches(self) -> Iterator[Match]:
        """The matches, with the filters applied to those that are index reads."""
        for match in self.matches:
            if not isinstance(match, Query):
                yield match
            elif (query := combine(self.filters, match)) is not None:
                yield query

    def _read(self, alias: str, match: Match, *, limit: int) -> LocatedPage:
        """The first sessions of one endpoint that meet one match."""
        if isinstance(match, Query):
            return _indexed(alias, match, offset=0, limit=limit)
        found = [session for session in _looked_up(alias, match) if _passes(session, self.filters, match)]
        return LocatedPage(
            rows=[Located(alias=alias, session=session) for session in found], total=len(found)
        )

    def _merged(self, pages: Sequence[LocatedPage], offset: int, limit: int) -> LocatedPage:
        distinct = {row.session.fingerprint: row for page in pages for row in page.rows}
        rows = sorted(distinct.values(), key=_activity, reverse=not self.filters.ascending)
        total = sum(page.total for page in pages)
        if all(len(page.rows) == page.total for page in pages):
            total = len(rows)
        return LocatedPage(rows=rows[offset : offset + limit], total=total)


def combine(first: Query, second: Query) -> Query | None:
    """A query for the sessions that meet both, in the order of the first; None if no session can.

    Raises: UnsupportedLookup, because an index serves only one of client, protocol and principal.
    """
    conditions = {}
    for name in _CONDITIONS:
        values = {getattr(query, name) for query in (first, second)} - {None}
        if len(values) > 1:
            return None
        if values:
            conditions[name] = values.pop()
    if len(conditions) > 1:
        names = " and ".join(conditions)
        raise UnsupportedLookup(
            f"Sessions are listed by client, protocol or principal, one at a time, not by {names}."
        )
    return replace(
        first,
        **conditions,
        active_since_ms=_bound(max, first.active_since_ms, second.active_since_ms),
        active_before_ms=_bound(min, first.active_before_ms, second.active_before_ms),
    )


def _bound(choose: Callable[[Iterable[int]], int], *bounds: int | None) -> int | None:
    given = [bound for bound in bounds if bound is not None]
    return choose(given) if given else None


def _activity(row: Located) -> tuple[int, str]:
    return row.session.last_activity_ms, row.session.fingerprint


def _indexed(alias: str, query: Query, *, offset: int, limit: int) -> LocatedPage:
    page = sync_store_for(alias).run(
        queries.page(query, offset=offset, limits=endpoint(alias).limits, limit=limit)
    )
    return LocatedPage(
        rows=[Located(alias=alias, session=session) for session in page.sessions], total=page.total
    )


def _looked_up(alias: str, match: Prefix | Picked) -> Iterable[Session]:
    store = sync_store_for(alias)
    if isinstance(match, Prefix):
        return store.run(queries.find(match.digits, limit=MAX_FOUND, limits=endpoint(alias).limits))
    valid = [fingerprint for fingerprint in match.fingerprints if FINGERPRINT.match(fingerprint)]
    return [session for fingerprint in valid if (session := store.run(sessions.get(fingerprint))) is not None]


def _passes(session: Session, filters: Query, match: Match) -> bool:
    """Whether a session that was looked up passes the filters."""
    immutable = (
        (filters.client, session.handshake.client_name),
        (filters.protocol, session.handshake.protocol_version),
        (filters.principal, session.principal),
    )
    if any(wanted is not None and wanted != actual for wanted, actual in immutable):
        return False
    if isinstance(match, Picked):
        return True
    since, before = filters.active_since_ms, filters.active_before_ms
    moment = session.last_activity_ms
    return (since is None or moment >= since) and (before is None or moment < before)
