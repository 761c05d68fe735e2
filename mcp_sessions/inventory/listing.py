"""Pages of records, over all kinds and endpoints, newest activity first.

For one kind at one endpoint and one condition, a page is one range read of the store, and its records. For several
kinds or endpoints, or a search text with several meanings, the results are merged here; what is read of one endpoint
shares its round trips. A merged page also costs what precedes it, so its depth is bounded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.lookups import Lookup, look_up, together
from mcp_sessions.records import KINDS, Kind, Session
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import queries
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for

#: How deep a merged list can be paged, and how many records one page or one action may hold.
MAX_DEPTH: Final = 10_000

#: No condition.
EVERYTHING: Final = Query()
_CONDITIONS: Final = ("client", "protocol", "principal", "label")
#: Those that an index serves together.
_TOGETHER: Final = {"principal", "label"}

#: A query's own `kind` is not used: a list says which kinds it has.
Match = Query | Lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A record, and the endpoint whose store it is in."""

    alias: str
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedPage:
    """One page of a list of records."""

    #: Without the records that ended since they were indexed.
    rows: Sequence[Located]
    #: How many of each kind match, according to the indexes; a record that matches a search in two ways counts twice.
    counts: Mapping[Kind, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is read of one endpoint for one match: the index of one kind, or what is looked up."""

    alias: str
    match: Match
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which records to list: those of some kinds and endpoints that pass the filters and meet any of the matches."""

    aliases: tuple[str, ...]
    kinds: tuple[Kind, ...] = KINDS
    #: The filters, and the order of the list.
    filters: Query = EVERYTHING
    #: What a search or a selection asks for. Empty: nothing.
    matches: tuple[Match, ...] = (EVERYTHING,)

    def page(self, *, offset: int, limit: int) -> LocatedPage:
        """Read one page.

        Raises: UnsupportedLookup where no index serves it; StoreUnavailable.
        """
        sources = list(self._sources())
        pages = self._read(sources, offset=offset, limit=limit)
        found = [(source, page) for source, page in zip(sources, pages, strict=True) if page.total]
        if len(found) == 1 and isinstance(found[0][0].match, Query):
            return found[0][1]
        if found and offset + limit > MAX_DEPTH:
            raise UnsupportedLookup(
                f"Lists of several kinds, endpoints or searches end at {MAX_DEPTH:,} records."
            )
        if found and offset:
            pages = self._read([source for source, _ in found], offset=0, limit=offset + limit)
        return self._merged(pages, offset, limit)

    def _sources(self) -> Iterator[_Source]:
        """The matches at each endpoint, with the filters applied to those that are index reads."""
        for alias in self.aliases:
            for match in self.matches:
                if not isinstance(match, Query):
                    yield _Source(alias=alias, match=match, kinds=self.kinds)
                elif (query := combine(self.filters, match)) is not None:
                    for kind in self.kinds:
                        yield _Source(alias=alias, match=replace(query, kind=kind), kinds=(kind,))

    def _read(self, sources: Sequence[_Source], *, offset: int, limit: int) -> list[LocatedPage]:
        """A page of each index, and all that is looked up, in the round trips of one source for each endpoint."""
        pages: dict[_Source, LocatedPage] = {}
        for alias in dict.fromkeys(source.alias for source in sources):
            some = [source for source in sources if source.alias == alias]
            operations = [self._read_one(source, offset, limit) for source in some]
            pages.update(zip(some, sync_store_for(alias).run(together(operations)), strict=True))
        return [pages[source] for source in sources]

    def _read_one(self, source: _Source, offset: int, limit: int) -> Operation[LocatedPage]:
        limits = endpoint(source.alias).limits
        if isinstance(source.match, Query):
            page = yield from queries.page(source.match, offset=offset, limit=limit, limits=limits)
            return _located(source.alias, page.sessions, {source.match.kind: page.total})
        found = yield from look_up(source.match, kinds=source.kinds, filters=self.filters, limits=limits)
        return _located(source.alias, found, Counter(session.kind for session in found))

    def _merged(self, pages: Sequence[LocatedPage], offset: int, limit: int) -> LocatedPage:
        distinct = {row.session.fingerprint: row for page in pages for row in page.rows}
        rows = sorted(distinct.values(), key=_activity, reverse=not self.filters.ascending)
        counts: Counter[Kind] = Counter()
        if all(len(page.rows) == page.total for page in pages):
            counts.update(row.session.kind for row in rows)
        else:
            for page in pages:
                counts.update(page.counts)
        return LocatedPage(rows=rows[offset : offset + limit], counts=counts)


def combine(first: Query, second: Query) -> Query | None:
    """A query for the records that meet both, in the order of the first; None if no record can.

    Raises: UnsupportedLookup, because an index serves only one of client, protocol, principal and label, or the last
    two together.
    """
    conditions = {}
    for name in _CONDITIONS:
        values = {getattr(query, name) for query in (first, second)} - {None}
        if len(values) > 1:
            return None
        if values:
            conditions[name] = values.pop()
    if len(conditions) > 1 and set(conditions) != _TOGETHER:
        names = " and ".join(conditions)
        raise UnsupportedLookup(
            f"Records are listed by client, protocol, principal or label, one at a time, not by {names}."
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


def _located(alias: str, found: Sequence[Session], counts: Mapping[Kind, int]) -> LocatedPage:
    return LocatedPage(rows=[Located(alias=alias, session=session) for session in found], counts=counts)
