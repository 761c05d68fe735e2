"""Which sessions an operator looks at, over all endpoints: pages of them, newest activity first.

One endpoint and one condition is one range read of the store. Several endpoints, or a search that may mean several
things, are as many reads, merged here; so a merged page costs what is above it too, and the depth is bounded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.store.calls import queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.store.session import FINGERPRINT, Session

#: How far down a merged list can be paged, and how many sessions one page or one action may hold.
MAX_DEPTH: Final = 10_000
#: Sessions that a fingerprint's first digits may find.
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
    """Part of a list of sessions."""

    #: Those that ended since they were indexed are left out.
    rows: Sequence[Located]
    #: How many match, as the indexes know it; a session that matches a search in two ways counts twice.
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A search for sessions whose fingerprint starts so."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Sessions named by their fingerprints. Activity bounds do not hold for them: they were picked by hand."""

    fingerprints: tuple[str, ...]


Match = Query | Prefix | Picked


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Sessions of some endpoints which meet a condition, and any of several matches."""

    aliases: tuple[str, ...]
    #: What the filters ask for; its order is the list's.
    query: Query = EVERYTHING
    #: What a search or a selection asks for; any of them. Empty: nothing is listed.
    matches: tuple[Match, ...] = (EVERYTHING,)

    def page(self, *, offset: int, limit: int) -> LocatedPage:
        """One page of the list.

        Raises: UnsupportedLookup where no index serves it; StoreUnavailable.
        """
        sources = [(alias, match) for alias in self.aliases for match in self._combined()]
        if len(sources) == 1 and isinstance(query := sources[0][1], Query):
            return self._indexed(sources[0][0], query, offset=offset, limit=limit)
        if offset + limit > MAX_DEPTH:
            raise UnsupportedLookup(f"Lists of several endpoints or searches end at {MAX_DEPTH:,} sessions.")
        return self._merged([self._read(*source, limit=offset + limit) for source in sources], offset, limit)

    def _combined(self) -> Iterator[Match]:
        """The matches, with the filters applied to those that are index reads."""
        for match in self.matches:
            if not isinstance(match, Query):
                yield match
            elif (query := combine(self.query, match)) is not None:
                yield query

    def _read(self, alias: str, match: Match, *, limit: int) -> LocatedPage:
        """The first sessions of one source."""
        if isinstance(match, Query):
            return self._indexed(alias, match, offset=0, limit=limit)
        found = [session for session in _looked_up(alias, match) if _meets(session, self.query, match)]
        return LocatedPage(
            rows=[Located(alias=alias, session=session) for session in found], total=len(found)
        )

    def _indexed(self, alias: str, query: Query, *, offset: int, limit: int) -> LocatedPage:
        page = sync_store_for(alias).run(
            queries.page(query, offset=offset, limits=endpoint(alias).limits, limit=limit)
        )
        return LocatedPage(
            rows=[Located(alias=alias, session=session) for session in page.sessions], total=page.total
        )

    def _merged(self, pages: Sequence[LocatedPage], offset: int, limit: int) -> LocatedPage:
        distinct = {row.session.fingerprint: row for page in pages for row in page.rows}
        rows = sorted(distinct.values(), key=_activity, reverse=not self.query.ascending)
        total = sum(page.total for page in pages)
        if all(len(page.rows) == page.total for page in pages):
            total = len(rows)
        return LocatedPage(rows=rows[offset : offset + limit], total=total)


def combine(first: Query, second: Query) -> Query | None:
    """Both at once; None if no session can meet both. The order is the first's.

    Raises: UnsupportedLookup, because an index serves one of client, protocol and principal.
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
            f"Sessions are listed by client, protocol or principal, one at a time; not by {names}."
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


def _looked_up(alias: str, match: Prefix | Picked) -> Iterable[Session]:
    store = sync_store_for(alias)
    if isinstance(match, Prefix):
        return store.run(queries.find(match.digits, limit=MAX_FOUND, limits=endpoint(alias).limits))
    valid = [fingerprint for fingerprint in match.fingerprints if FINGERPRINT.match(fingerprint)]
    return [session for fingerprint in valid if (session := store.run(sessions.get(fingerprint))) is not None]


def _meets(session: Session, query: Query, match: Match) -> bool:
    """Whether a session that was looked up meets the filters."""
    immutable = (
        (query.client, session.handshake.client_name),
        (query.protocol, session.handshake.protocol_version),
        (query.principal, session.principal),
    )
    if any(wanted is not None and wanted != actual for wanted, actual in immutable):
        return False
    return isinstance(match, Picked) or _is_active_within(session, query)


def _is_active_within(session: Session, query: Query) -> bool:
    since, before = query.active_since_ms, query.active_before_ms
    moment = session.last_activity_ms
    return (since is None or moment >= since) and (before is None or moment < before)
