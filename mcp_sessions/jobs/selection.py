"""Which records a job ends: what was selected when it began, in a form that a database keeps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import JobCannotGoOn
from mcp_sessions.inventory.kinds import listed
from mcp_sessions.inventory.listing import Located, SessionQuery, combine
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, WORDS
from mcp_sessions.store.calls import queries, validity
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A part of a selection at one endpoint: what a query finds, or records by their fingerprints."""

    alias: str
    query: Query | None = None
    picked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a job ends. Only records that were created before the cut-off."""

    sources: tuple[Source, ...]
    #: By endpoint, milliseconds since the epoch by the clock of its store.
    cut_off_ms: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "sources": [_source_as_json(each) for each in self.sources],
            "cut_off_ms": dict(self.cut_off_ms),
        }

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
        return {"alias": source.alias, "picked": list(source.picked)}
    given = {name: value for name, value in asdict(source.query).items() if value is not None}
    return {"alias": source.alias, "query": given}


def _source_from_json(document: Mapping[str, Any]) -> Source:
    if "picked" in document:
        return Source(alias=document["alias"], picked=tuple(document["picked"]))
    unknown = document["query"].keys() - _QUERY
    if unknown:
        raise JobCannotGoOn(f"The job is of a newer release: it selects by {', '.join(sorted(unknown))}.")
    return Source(alias=document["alias"], query=Query(**document["query"]))


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


def cut_offs(aliases: Iterable[str]) -> dict[str, int]:
    """The moments from which on what is created is not meant any more, by endpoint. Raises: StoreUnavailable."""
    return {alias: sync_store_for(alias).run(validity.min_created(0)).now_ms for alias in aliases}


def snapshot(selected: SessionQuery, *, cut_off_ms: Mapping[str, int] | None = None) -> Snapshot:
    """What is selected now. An earlier cut-off, such as of the page that asked for confirmation, holds.

    Raises: StoreUnavailable, UnsupportedLookup.
    """
    now = cut_offs(selected.aliases)
    cut_off = {alias: min(ms, (cut_off_ms or {}).get(alias, ms)) for alias, ms in now.items()}
    sources: list[Source] = []
    expected = 0
    if selected.among is None:
        for alias in selected.aliases:
            for query in _queries(selected):
                entries = queries.entries(query, limits=endpoint(alias).limits, limit=1)
                expected += sync_store_for(alias).run(entries).total
                sources.append(Source(alias=alias, query=query))
    found = _looked_up(selected)
    sources += [Source(alias=alias, picked=tuple(rows)) for alias, rows in found.items() if rows]
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
        described=_described(selected, picked),
    )


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
    matches = tuple(
        match for match in selected.matches if selected.among is not None or not isinstance(match, Query)
    )
    found: dict[str, dict[str, Located]] = {alias: {} for alias in selected.aliases}
    for page in replace(selected, matches=matches).pages() if matches else ():
        for row in page.rows:
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
    words = []
    if len(picked) == 1:
        words.append(str(MCPSession.from_rows(picked)[0]))
    elif picked:
        words.append(f"{len(picked):,} selected")
    if selected.among is None and any(isinstance(match, Query) for match in selected.matches):
        kinds = (
            ["records"] if set(selected.kinds) == set(KINDS) else [WORDS[kind][1] for kind in selected.kinds]
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
