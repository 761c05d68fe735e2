"""A lazy list of records that looks to Django's admin like a queryset, and can do what the admin needs.

Whatever else a queryset can do raises UnsupportedLookup: no index serves it, and returning the wrong records would be
worse.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, overload

from django.db.models import Model, Q, QuerySet

from mcp_sessions import conf
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.listing import (
    BATCH,
    MAX_DEPTH,
    Located,
    LocatedPage,
    Match,
    SessionQuery,
    combine,
)
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.records import Kind
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Query

Row = TypeVar("Row", bound=Model)

#: Lookup -> field of Query.
_LOOKUPS: Final = {
    "client_name": "client",
    "protocol_version": "protocol",
    "principal": "principal",
    "label": "label",
    "last_activity__gte": "active_since_ms",
    "last_activity__lt": "active_before_ms",
}
_READ: Final = "At most {:,} records can be read at once: slice the list."
_KEYS: Final = ("pk", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLFacts:
    """The attributes of `queryset.query` that the admin reads. There is no SQL query behind them."""

    order_by: tuple[str, ...] = ()
    select_related: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """The instances of one page, and what is known of the list."""

    rows: list[Row]
    of: LocatedPage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A part of the list that was read."""

    offset: int
    limit: int
    page: LocatedPage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Which part of which list a queryset stands for."""

    sessions: SessionQuery
    start: int = 0
    stop: int | None = None
    #: What is already known of the list.
    window: _Window | None = None


class SessionQuerySet(Generic[Row]):
    """The records of all kinds and endpoints, as instances of `model`, which `from_rows` makes of what the stores hold.

    Each step returns a new queryset, and nothing is read before it is used. Reading raises StoreUnavailable when a
    store cannot be reached.
    """

    #: Always by last activity.
    ordered: Final = True
    #: The fingerprint breaks ties.
    totally_ordered: Final = True
    query: Final = SQLFacts()

    def __init__(
        self,
        model: type[Row],
        from_rows: Callable[[Iterable[Located]], list[Row]],
        part: _Part | None = None,
    ) -> None:
        self.model = model
        self._from_rows = from_rows
        self._part = part or _Part(sessions=SessionQuery(aliases=conf.aliases()))
        self._rows: list[Row] | None = None

    def all(self) -> Self:
        return self._clone()

    def none(self) -> Self:
        return self._with(replace(self._part.sessions, matches=()))

    def using(self, alias: str | None) -> QuerySet[Row]:
        """An empty queryset: no database holds records, so `dumpdata` writes none."""
        return QuerySet(self.model, using=alias).none()

    def filter(self, *conditions: Q, **lookups: Any) -> Self:
        """Narrow by `pk`, `pk__in`, `endpoint`, `kind`, `client_name`, `protocol_version`, `principal`, `label`,
        `last_activity__gte` and `last_activity__lt`.

        Raises: UnsupportedLookup.
        """
        sessions = self._part.sessions
        for name, value in [*_pairs(conditions), *lookups.items()]:
            sessions = _narrowed(sessions, name, value)
        return self._with(sessions)

    def at(self, aliases: Iterable[str]) -> Self:
        """Narrow to the records of these endpoints, and read no others."""
        among, sessions = frozenset(aliases), self._part.sessions
        return self._with(
            replace(sessions, aliases=tuple(each for each in sessions.aliases if each in among))
        )

    def matching(self, matches: Iterable[Match]) -> Self:
        """Narrow to the records that meet any of the matches; to nothing if there are none."""
        return self._with(replace(self._part.sessions, matches=tuple(matches)))

    def among(self, fingerprints: Iterable[str]) -> Self:
        """Narrow to records with these fingerprints: for conditions that no index knows. They are read one by one."""
        chosen, known = frozenset(fingerprints), self._part.sessions.among
        return self._with(replace(self._part.sessions, among=chosen if known is None else chosen & known))

    def order_by(self, *names: str) -> Self:
        """Sort by "last_activity" or "-last_activity". The primary key may follow and changes nothing.

        Raises: UnsupportedLookup.
        """
        first = names[0] if names else "-last_activity"
        others = {name.lstrip("-") for name in names[1:]} - set(_KEYS)
        if first.lstrip("-") != "last_activity" or others:
            raise UnsupportedLookup(
                f"Records can be sorted only by last activity, not by {', '.join(names)}."
            )
        filters = replace(self._part.sessions.filters, ascending=not first.startswith("-"))
        return self._with(replace(self._part.sessions, filters=filters))

    def get(self, **lookups: Any) -> Row:
        """The record with this `pk` or `fingerprint`. Raises: the model's DoesNotExist, UnsupportedLookup."""
        if not set(lookups) & set(_KEYS):
            raise UnsupportedLookup("A single record can be found only by its fingerprint.")
        found = self.filter(**lookups).first()
        if found is None:
            gone = self.model.DoesNotExist  # type: ignore[attr-defined]  # every model that is not abstract has one
            raise gone("There is no such record: it ended, or it never existed.")
        return found

    def first(self) -> Row | None:
        return next(iter(self[:1]), None)

    def exists(self) -> bool:
        return self.first() is not None

    def count(self) -> int:
        """How many records match, according to the indexes: at most one read, and none after `read`."""
        window, stop = self._part.window, self._part.stop
        page = self._part.sessions.page(offset=0, limit=1) if window is None else window.page
        return max(0, (page.total if stop is None else min(page.total, stop)) - self._part.start)

    def count_by_kind(self) -> Mapping[Kind, int]:
        """How many records of each kind match; costs as `count`. Raises: UnsupportedLookup for a slice."""
        if self._is_slice():
            raise UnsupportedLookup("A slice of records is not counted by kind.")
        window = self._part.window
        return (self._part.sessions.page(offset=0, limit=1) if window is None else window.page).counts

    @property
    def selected(self) -> SessionQuery:
        """Which records these are, for what works through them in parts. Raises: UnsupportedLookup for a slice."""
        if self._is_slice():
            raise UnsupportedLookup("A slice of records is not read in parts.")
        return self._part.sessions

    def read(self, *, offset: int, limit: int) -> Self:
        """Read one page and the total now, so that this page and `count()` need no further read."""
        page = self._part.sessions.page(offset=offset, limit=limit)
        return self._clone(window=_Window(offset=offset, limit=limit, page=page))

    def read_page(
        self, *, limit: int, after: Entry | None = None, before: Entry | None = None
    ) -> "Page[Row]":
        """The page behind an entry, or the one that ends before one, from the first record on by default.

        Raises: StoreUnavailable.
        """
        page = self._part.sessions.page(limit=limit, after=after, before=before)
        return Page(self._from_rows(page.rows), page)

    def iterator(self, chunk_size: int | None = None) -> Iterator[Row]:
        """All records, however many, read in parts. Raises: UnsupportedLookup for a slice; StoreUnavailable."""
        if self._is_slice():
            raise UnsupportedLookup("A slice of records is not read in parts.")
        for page in self._part.sessions.pages(limit=chunk_size or BATCH):
            yield from self._from_rows(page.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __bool__(self) -> bool:
        return bool(self._loaded())

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: int | slice) -> Row | Self:
        if isinstance(key, int):
            return self._loaded()[key]
        if self._is_slice() or key.step or (key.start or 0) < 0 or (key.stop or 0) < 0:
            raise UnsupportedLookup(
                "A list of records can be sliced only once, without steps or negative indexes."
            )
        return self._clone(start=key.start or 0, stop=key.stop)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse, by name, what other querysets can do and this one cannot."""
        if not name.startswith("_") and hasattr(QuerySet, name):
            raise UnsupportedLookup(f"Records are not in a database: {name}() is not supported.")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _clone(self, **changes: Any) -> Self:
        """Another part of the same list, with what is already known of it."""
        return type(self)(self.model, self._from_rows, replace(self._part, **changes))

    def _with(self, sessions: SessionQuery) -> Self:
        """Another list, of which nothing is known yet.

        Raises: UnsupportedLookup for a slice.
        """
        if self._is_slice():
            raise UnsupportedLookup("A slice of records cannot be filtered or sorted.")
        return self._clone(sessions=sessions, window=None)

    def _is_slice(self) -> bool:
        return bool(self._part.start) or self._part.stop is not None

    def _loaded(self) -> list[Row]:
        if self._rows is None:
            self._rows = self._from_rows(self._page().rows)
        return self._rows

    def _page(self) -> LocatedPage:
        """This part of the list: taken from what is known, or read now.

        Raises: UnsupportedLookup if it is more than fits in one page.
        """
        start, stop, known = self._part.start, self._part.stop, self._part.window
        if stop is None and known is not None:
            stop = known.page.total
        limit = MAX_DEPTH if stop is None else max(0, stop - start)
        if known is not None and known.offset == start and limit <= known.limit:
            return replace(known.page, rows=known.page.rows[:limit])
        if limit > MAX_DEPTH and stop is not None:
            raise UnsupportedLookup(_READ.format(MAX_DEPTH))
        page = self._part.sessions.page(offset=start, limit=min(limit, MAX_DEPTH))
        if stop is None and page.after is not None:
            raise UnsupportedLookup(_READ.format(MAX_DEPTH))
        return page


def _pairs(conditions: Iterable[Q]) -> Iterator[tuple[str, Any]]:
    """The lookups in Q objects. Raises: UnsupportedLookup for anything but AND."""
    for condition in conditions:
        if condition.negated or condition.connector != Q.AND:
            raise UnsupportedLookup("Conditions on records can be combined only with AND.")
        for child in condition.children:
            if isinstance(child, tuple):
                yield child
            elif isinstance(child, Q):
                yield from _pairs([child])
            else:
                raise UnsupportedLookup(f"Records cannot be filtered by {child!r}.")


def _narrowed(sessions: SessionQuery, name: str, value: Any) -> SessionQuery:
    if not sessions.matches:
        return sessions
    if name == "endpoint":
        return replace(sessions, aliases=tuple(alias for alias in sessions.aliases if alias == value))
    if name == "kind":
        return replace(sessions, kinds=tuple(kind for kind in sessions.kinds if kind == value))
    if name in _KEYS:
        return replace(sessions, matches=(Picked(fingerprints=(value,)),))
    if name in ("pk__in", "fingerprint__in"):
        return replace(sessions, matches=(Picked(fingerprints=tuple(value)),))
    if name not in _LOOKUPS:
        raise UnsupportedLookup(f"Records cannot be looked up by {name}.")
    field = _LOOKUPS[name]
    wanted = round(value.timestamp() * 1000) if field.endswith("_ms") else value
    filters = combine(sessions.filters, Query(**{field: wanted}))
    return replace(sessions, matches=()) if filters is None else replace(sessions, filters=filters)
