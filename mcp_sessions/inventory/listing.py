"""Pages of records, over all kinds and endpoints, newest activity first.

What is merged are the entries of indexes: places in time, and fingerprints. The records of a page are read when it is
known which they are. A page begins behind an entry, which its address names, so that each costs the same, however deep
it is. What is read of one server shares its round trips.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.lookups import Lookup, Picked, look_up, means
from mcp_sessions.records import FINGERPRINT, KINDS, Kind, Session
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import queries
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Found, Query
from mcp_sessions.store.calls.ranges import Located as Place
from mcp_sessions.store.calls.ranges import position
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for

#: How many records one page may hold, with those that it leaves out before them.
MAX_DEPTH: Final = 10_000
#: Records that are read at once by who reads all of them.
BATCH: Final = 500

#: No condition.
EVERYTHING: Final = Query()
_CONDITIONS: Final = ("client", "protocol", "principal", "label")

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
    #: How many of each kind match, according to the indexes.
    counts: Mapping[Kind, int]
    #: Whether there are no more than that. If several conditions hold, or a search has several meanings, they are counted
    #: only as far as they were read.
    exact: bool = True
    #: The page before this one ends before this entry; None: this is the first.
    before: Entry | None = None
    #: The next page begins after this entry; None: this is the last. If this page is not full, the search goes on there.
    after: Entry | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is read of one endpoint for one match: the indexes of one kind, or what is looked up."""

    alias: str
    match: Match
    kinds: tuple[Kind, ...]
    #: What the match is by: records of the same kind are in one source of each group at most.
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """An entry, where it was found, and the record if it is known."""

    place: Place
    source: _Source
    session: Session | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What a source has."""

    source: _Source
    candidates: Sequence[_Candidate]
    counts: Mapping[Kind, int]
    exact: bool
    reached: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which records to list: those of some kinds and endpoints that pass the filters and meet any of the matches."""

    aliases: tuple[str, ...]
    kinds: tuple[Kind, ...] = KINDS
    #: The filters, and the order of the list.
    filters: Query = EVERYTHING
    #: What a search or a selection asks for. Empty: nothing.
    matches: tuple[Match, ...] = (EVERYTHING,)
    #: The fingerprints to choose from; None: all.
    among: frozenset[str] | None = None

    def page(
        self, *, offset: int = 0, limit: int, after: Entry | None = None, before: Entry | None = None
    ) -> LocatedPage:
        """Read one page: the records behind an entry, or the last ones before one, or from an offset on.

        Raises: UnsupportedLookup for more than MAX_DEPTH records; StoreUnavailable.
        """
        if offset + limit > MAX_DEPTH:
            raise UnsupportedLookup(
                f"At most {MAX_DEPTH:,} records can be read at once: read the list in parts."
            )
        query = self if before is None else self._reversed()
        reads = query._read(limit=offset + limit + 1, after=after if before is None else before)
        found, reached = query._merged(reads, after if before is None else before)
        cut = found[offset : offset + limit]
        rows, gone = _rows(cut)
        next_ = cut[-1].place.entry if cut and len(found) > offset + limit else reached
        first = cut[0].place.entry if cut else after
        counts, exact = _counted(reads, found, complete=after is before is reached is None)
        for kind, number in gone.items():
            counts[kind] = max(0, counts[kind] - number)
        if before is None:
            return LocatedPage(
                rows=rows, counts=counts, exact=exact, before=None if after is None else first, after=next_
            )
        last = first if cut else before
        return LocatedPage(rows=rows[::-1], counts=counts, exact=exact, before=next_, after=last)

    def pages(self, *, limit: int = BATCH) -> Iterator[LocatedPage]:
        """All pages, one after another; nothing of one is kept while the next is read. Raises: StoreUnavailable."""
        page = self.page(limit=limit)
        yield page
        while page.after is not None:
            page = self.page(limit=limit, after=page.after)
            yield page

    def _reversed(self) -> "SessionQuery":
        return replace(self, filters=replace(self.filters, ascending=not self.filters.ascending))

    def _sources(self) -> Iterator[_Source]:
        """The matches at each endpoint, with the filters applied to those that are index reads."""
        for alias in self.aliases:
            if self.among is not None:
                if self.matches:
                    picked = Picked(fingerprints=tuple(self.among))
                    yield _Source(alias=alias, match=picked, kinds=self.kinds, group="among")
                continue
            for match in self.matches:
                if not isinstance(match, Query):
                    yield _Source(alias=alias, match=match, kinds=self.kinds, group=type(match).__name__)
                elif (query := combine(self.filters, match)) is not None:
                    group = " ".join(name for name in _CONDITIONS if getattr(match, name) is not None)
                    for kind in self.kinds:
                        of_kind = replace(query, kind=kind)
                        yield _Source(alias=alias, match=of_kind, kinds=(kind,), group=group)

    def _read(self, *, limit: int, after: Entry | None) -> list[_Read]:
        sources = list(self._sources())
        return run_together(
            [(sync_store_for(source.alias), self._read_one(source, limit, after)) for source in sources]
        )

    def _read_one(self, source: _Source, limit: int, after: Entry | None) -> Operation[_Read]:
        limits = endpoint(source.alias).limits
        if isinstance(source.match, Query):
            found = yield from queries.entries(source.match, limits=limits, limit=limit, after=after)
            return _read_of(source, found)
        sessions = yield from look_up(source.match, kinds=source.kinds, filters=self.filters, limits=limits)
        if source.group == "among":
            sessions = [each for each in sessions if self._picks(each)]
        places = [Place(Entry(each.fingerprint, each.last_activity_ms), "") for each in sessions]
        return _Read(
            source=source,
            candidates=[
                _Candidate(place=place, source=source, session=session)
                for place, session in zip(places, sessions, strict=True)
            ],
            counts=Counter(each.kind for each in sessions),
            exact=True,
            reached=None,
        )

    def _picks(self, session: Session) -> bool:
        """Whether a record that is to be chosen from meets a match, and is within the bounds."""
        since, before = self.filters.active_since_ms, self.filters.active_before_ms
        if not (since or 0) <= session.last_activity_ms < (before or session.last_activity_ms + 1):
            return False
        return any(
            replace(match, kind=session.kind).admits(session)
            if isinstance(match, Query)
            else means(match, session)
            for match in self.matches
        )

    def _merged(self, reads: Sequence[_Read], after: Entry | None) -> tuple[list[_Candidate], Entry | None]:
        """The candidates in order, each once, as far as all sources were read; and how far that is."""
        descending = not self.filters.ascending
        horizon = [read.reached for read in reads if read.reached is not None]
        reached = (max if descending else min)(horizon, key=position, default=None)
        distinct = {each.place.entry.fingerprint: each for read in reads for each in read.candidates}
        order = sorted(distinct.values(), key=lambda each: position(each.place.entry), reverse=descending)

        def is_between(entry: Entry) -> bool:
            place = position(entry)
            if descending:
                return (after is None or place < position(after)) and (
                    reached is None or place >= position(reached)
                )
            return (after is None or place > position(after)) and (
                reached is None or place <= position(reached)
            )

        return [each for each in order if is_between(each.place.entry)], reached


def combine(first: Query, second: Query) -> Query | None:
    """A query for the records that meet both, in the order of the first; None if no record can."""
    conditions = {}
    for name in _CONDITIONS:
        values = {getattr(query, name) for query in (first, second)} - {None}
        if len(values) > 1:
            return None
        if values:
            conditions[name] = values.pop()
    return replace(
        first,
        **conditions,
        active_since_ms=_bound(max, first.active_since_ms, second.active_since_ms),
        active_before_ms=_bound(min, first.active_before_ms, second.active_before_ms),
    )


def entry_text(entry: Entry) -> str:
    """An entry as part of an address."""
    return f"{entry.active_ms}-{entry.fingerprint}"


def entry_of(text: str | None) -> Entry | None:
    """The entry that `entry_text` made this of; None for anything else."""
    moment, _, fingerprint = (text or "").partition("-")
    if not (moment.isdecimal() and len(moment) < 16 and FINGERPRINT.match(fingerprint)):
        return None
    return Entry(fingerprint, int(moment))


def _bound(choose: Callable[[Iterable[int]], int], *bounds: int | None) -> int | None:
    given = [bound for bound in bounds if bound is not None]
    return choose(given) if given else None


def _read_of(source: _Source, found: Found) -> _Read:
    [kind] = source.kinds
    return _Read(
        source=source,
        candidates=[_Candidate(place=place, source=source) for place in found.entries],
        counts={kind: found.total},
        exact=found.exact,
        reached=found.reached,
    )


def _rows(candidates: Sequence[_Candidate]) -> tuple[list[Located], Counter[Kind]]:
    """The records of candidates, in order, and how many of each kind are gone."""
    by_source: dict[_Source, list[Place]] = {}
    for each in candidates:
        if each.session is None:
            by_source.setdefault(each.source, []).append(each.place)
    works = [
        (
            sync_store_for(source.alias),
            queries.records(source.match, places, limits=endpoint(source.alias).limits),
        )
        for source, places in by_source.items()
        if isinstance(source.match, Query)
    ]
    found = {session.fingerprint: session for some in run_together(works) for session in some}
    rows: list[Located] = []
    gone: Counter[Kind] = Counter()
    for each in candidates:
        session = each.session or found.get(each.place.entry.fingerprint)
        if session is None:
            gone[each.source.kinds[0]] += 1
        else:
            rows.append(Located(alias=each.source.alias, session=session))
    return rows, gone


def _counted(
    reads: Sequence[_Read], found: Sequence[_Candidate], *, complete: bool
) -> tuple[Counter[Kind], bool]:
    """How many of each kind match, and whether that is all. `complete`: what was found is."""
    if complete:
        return Counter(each.session.kind if each.session else each.source.kinds[0] for each in found), True
    by_group: dict[str, Counter[Kind]] = {}
    exact = True
    for read in reads:
        by_group.setdefault(read.source.group, Counter()).update(read.counts)
        exact = exact and read.exact
    counts: Counter[Kind] = Counter()
    for group in by_group.values():
        counts |= group
    # What is in two groups is not known to be different records.
    return counts, exact and sum(1 for group in by_group.values() if group.total()) < 2
