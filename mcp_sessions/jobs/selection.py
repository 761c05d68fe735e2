"""Which records a job ends: what was selected when it began, in a form that a database keeps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any, Final, Self

from django.utils import translation
from django.utils.translation import gettext as _

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import JobCannotGoOn
from mcp_sessions.inventory.display import ENGLISH
from mcp_sessions.inventory.kinds import listed
from mcp_sessions.inventory.listing import MAX_DEPTH, Located, LocatedPage, SessionQuery, combine
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, WORDS
from mcp_sessions.store.calls import queries, validity
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.texts import restored, storable

#: Records that are selected by their fingerprints at most where others may come to meet the conditions.
MOST_NAMED: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A part of a selection at one endpoint: what a query finds, or records by their fingerprints."""

    alias: str
    query: Query | None = None
    picked: tuple[str, ...] = ()
    #: Before when what is picked was created, milliseconds since the epoch: that may be ahead of the cut-off, if the
    #: store's clock was set back. 0 for picks of an older release.
    before_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a job ends. Only records that were created before the cut-off, or that are picked."""

    sources: tuple[Source, ...]
    #: By endpoint, milliseconds since the epoch by the clock of its store.
    cut_off_ms: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "sources": [_source_as_json(each) for each in self.sources],
            "cut_off_ms": dict(self.cut_off_ms),
        }

    @property
    def may_be_joined(self) -> bool:
        """Whether a record that was there may come to be meant: if it is used."""
        return any(each.query is not None and each.query.active_since_ms is not None for each in self.sources)

    def before_ms(self, alias: str) -> int:
        """What was created at that moment, or later, is none of the records, whatever its fingerprint."""
        return max(
            self.cut_off_ms[alias], *(each.before_ms for each in self.sources if each.alias == alias), 0
        )

    def records(self, *, most: int) -> tuple[list[Located], bool]:
        """The records that would end now, among so many that were used last, and whether there are more.

        Raises: StoreUnavailable.
        """
        found = [each.query for each in self.sources if each.query is not None]
        picked = frozenset(fingerprint for each in self.sources for fingerprint in each.picked)
        matches = dict.fromkeys(replace(query, kind="session", ascending=False) for query in found)
        listed_ = SessionQuery(
            aliases=tuple(dict.fromkeys(each.alias for each in self.sources)),
            kinds=tuple(dict.fromkeys(query.kind for query in found)) or KINDS,
            matches=(*matches, *([Picked(fingerprints=tuple(picked))] if picked else [])),
        )
        page = listed_.page(limit=most)
        # What the index says of the last activity is behind.
        before = min((query.active_before_ms for query in found if query.active_before_ms), default=inf)
        rows = [
            row
            for row in page.rows
            if (
                row.session.created_ms < self.before_ms(row.alias)
                if row.session.fingerprint in picked
                else row.session.created_ms < self.cut_off_ms[row.alias]
                and row.session.last_activity_ms < before
            )
        ]
        return rows, page.after is not None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises: JobCannotGoOn for what a newer release has selected."""
        sources = tuple(_source_from_json(each) for each in document["sources"])
        return cls(sources=sources, cut_off_ms=document["cut_off_ms"])


#: Fields of a query that are kept, and those that say what is selected.
_QUERY: Final = frozenset(field.name for field in fields(Query))
_CONDITIONS: Final = ("client", "protocol", "principal", "label")


def _source_as_json(source: Source) -> dict[str, Any]:
    if source.query is None:
        return {"alias": source.alias, "picked": list(source.picked), "before_ms": source.before_ms}
    # Names that clients choose are among them.
    given = {
        name: storable(value) if isinstance(value, str) else value
        for name, value in asdict(source.query).items()
        if value is not None
    }
    return {"alias": source.alias, "query": given}


def _source_from_json(document: Mapping[str, Any]) -> Source:
    if "picked" in document:
        picked, before_ms = tuple(document["picked"]), document.get("before_ms", 0)
        return Source(alias=document["alias"], picked=picked, before_ms=before_ms)
    unknown = document["query"].keys() - _QUERY
    if unknown:
        text = _("The job is of a newer release: it selects by %(conditions)s.")
        raise JobCannotGoOn(text % {"conditions": ", ".join(sorted(unknown))})
    given: dict[str, Any] = {
        name: restored(value) if isinstance(value, str) else value
        for name, value in document["query"].items()
    }
    return Source(alias=document["alias"], query=Query(**given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A selection at the moment when it was made."""

    selection: Selection
    #: How many records matched, as the indexes knew it.
    expected: int
    #: How many were picked that are gone.
    gone: int
    #: What was selected, in words.
    described: str
    #: The records, if they were selected by their fingerprints.
    named: LocatedPage | None = None

    @property
    def left(self) -> int:
        """How many more match than MOST_NAMED: those that were used longest ago, which are not selected."""
        return 0 if self.named is None else self.named.total - len(self.named.rows)


def cut_offs(aliases: Iterable[str]) -> dict[str, int]:
    """The moments from which on what is created is not meant any more, by endpoint. Raises: StoreUnavailable.

    If the store's clock is behind the moment before which no session counts, sessions are opened at that moment.
    """
    moments = {alias: sync_store_for(alias).run(validity.min_created(0)) for alias in aliases}
    return {
        alias: moment.min_created_ms + 1 if moment.min_created_ms > moment.now_ms else moment.now_ms
        for alias, moment in moments.items()
    }


def snapshot(
    selected: SessionQuery, *, cut_off_ms: Mapping[str, int] | None = None, closed: bool = False
) -> Snapshot:
    """What is selected now. An earlier cut-off holds.

    What is selected by what it does now is taken by fingerprint: the MOST_NAMED that were used last. `closed`: so is
    what was used lately, if it is not more than that. Otherwise a record joins the selection when it is used.

    Raises: StoreUnavailable, UnsupportedLookup.
    """
    now = cut_offs(selected.aliases)
    cut_off = {alias: min(ms, (cut_off_ms or {}).get(alias, ms)) for alias, ms in now.items()}
    sources: list[Source] = []
    expected = 0
    named = _named(selected, closed=closed)
    if named is None:
        for alias in selected.aliases:
            for query in _queries(selected):
                entries = queries.entries(query, limits=endpoint(alias).limits, limit=1)
                expected += sync_store_for(alias).run(entries).total
                sources.append(Source(alias=alias, query=query))
    found = _looked_up(selected) if named is None else _by_alias(selected.aliases, named.rows)
    sources += [_picked(alias, rows.values()) for alias, rows in found.items() if rows]
    if named is None:
        sources += [
            _picked(alias, rows)
            for alias in selected.aliases
            if (rows := _ahead(selected, alias, now[alias]))
        ]
    asked = {
        fingerprint
        for match in selected.matches
        if isinstance(match, Picked)
        for fingerprint in match.fingerprints
    }
    picked = [row for rows in found.values() for row in rows.values()]
    return Snapshot(
        selection=Selection(sources=tuple(sources), cut_off_ms=cut_off),
        expected=expected + len(picked),
        gone=len(asked.difference(*found.values())),
        described=_described(selected, picked if named is None or selected.among is not None else ()),
        named=named,
    )


def _picked(alias: str, rows: Iterable[Located]) -> Source:
    """Records by their fingerprints. One that is made again under the same fingerprint is another."""
    created = {row.session.fingerprint: row.session.created_ms for row in rows}
    return Source(alias=alias, picked=tuple(created), before_ms=max(created.values()) + 1)


def _ahead(selected: SessionQuery, alias: str, now_ms: int) -> list[Located]:
    """What indexes list of a selection, and is there, although it was created at a moment that is yet to come.

    That is so after the clock of the store was set back, and on a Cluster whose nodes' clocks differ.
    """
    filters = replace(selected.filters, active_since_ms=max(now_ms, selected.filters.active_since_ms or 0))
    matches = tuple(match for match in selected.matches if isinstance(match, Query))
    later = replace(selected, aliases=(alias,), matches=matches, filters=filters)
    most = later.page(limit=1).total
    rows = later.page(limit=min(most, MOST_NAMED)).rows if most else ()
    return [row for row in rows if row.session.created_ms >= now_ms]


def _named(selected: SessionQuery, *, closed: bool) -> LocatedPage | None:
    """The records, if they are to be selected by their fingerprints; None if conditions select them."""
    if selected.among is not None:
        return selected.page(limit=MOST_NAMED)
    if not closed or selected.filters.active_since_ms is None or selected.page(limit=1).total > MOST_NAMED:
        return None
    page = selected.page(limit=MOST_NAMED)
    return page if page.after is None else None


def unread(selected: SessionQuery, *, cut_off_ms: int) -> Snapshot:
    """What indexes list of a selection, where the store cannot be asked: a job finds it when the store is back.

    Nobody knows how many those are.
    """
    return Snapshot(
        selection=Selection(
            sources=tuple(
                Source(alias=alias, query=query) for alias in selected.aliases for query in _queries(selected)
            ),
            cut_off_ms=dict.fromkeys(selected.aliases, cut_off_ms),
        ),
        expected=0,
        gone=0,
        described=_described(selected, ()),
    )


def _looked_up(selected: SessionQuery) -> dict[str, dict[str, Located]]:
    """Those that no index lists, by endpoint and fingerprint."""
    matches = tuple(match for match in selected.matches if not isinstance(match, Query))
    pages = replace(selected, matches=matches).pages(limit=MAX_DEPTH) if matches else ()
    return _by_alias(selected.aliases, (row for page in pages for row in page.rows))


def _by_alias(aliases: Iterable[str], rows: Iterable[Located]) -> dict[str, dict[str, Located]]:
    found: dict[str, dict[str, Located]] = {alias: {} for alias in aliases}
    for row in rows:
        found[row.alias][row.session.fingerprint] = row
    return found


def _queries(selected: SessionQuery) -> Iterator[Query]:
    """The oldest activity first: what is used meanwhile moves to where the job has not been yet."""
    for match in selected.matches:
        query = combine(selected.filters, match) if isinstance(match, Query) else None
        if query is not None:
            for kind in selected.kinds:
                yield replace(query, kind=kind, ascending=True)


def _described(selected: SessionQuery, picked: Sequence[Located]) -> str:
    """In English: it is stored."""
    with translation.override(ENGLISH):
        words = []
        if len(picked) == 1:
            words.append(str(MCPSession.from_rows(picked)[0]))
        elif picked:
            words.append(f"{len(picked):,} selected")
        if selected.among is None and any(isinstance(match, Query) for match in selected.matches):
            kinds = (
                ["records"]
                if set(selected.kinds) == set(KINDS)
                else [WORDS[kind][1] for kind in selected.kinds]
            )
            words.append(f"{listed(kinds)} of {listed(selected.aliases)}")
            words += _conditions(selected)
        return ", ".join(words)


def _conditions(selected: SessionQuery) -> Iterator[str]:
    for query in (selected.filters, *(match for match in selected.matches if isinstance(match, Query))):
        for name in _CONDITIONS:
            value = getattr(query, name)
            if value is not None:
                yield f"{name} {value!r}"
        if query.active_since_ms is not None:
            yield "used lately"
        if query.active_before_ms is not None:
            yield "not used lately"
