"""A lazy list of sessions that looks to Django's admin like a queryset, and has what the admin needs of one.

Everything else a queryset can do raises UnsupportedLookup: no index serves it, and answering with the wrong
sessions would be worse.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, overload

from django.db.models import Q, QuerySet

from mcp_sessions import conf
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.listing import MAX_DEPTH, Listing, LocatedPage, Match, Picked, combine
from mcp_sessions.store.calls.queries import Query

if TYPE_CHECKING:
    from mcp_sessions.models import MCPSession

#: Lookup -> field of Query.
_LOOKUPS: Final = {
    "client_name": "client",
    "protocol_version": "protocol",
    "principal": "principal",
    "last_activity__gte": "active_since_ms",
    "last_activity__lt": "active_before_ms",
}
_KEYS: Final = ("pk", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLFacts:
    """What the admin reads from `queryset.query`: this is no SQL query, and it is not ordered by more than it says."""

    order_by: tuple[str, ...] = ()
    select_related: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A part of the list that has been read."""

    offset: int
    limit: int
    page: LocatedPage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Which part of which list a relation stands for."""

    listing: Listing
    start: int = 0
    stop: int | None = None
    #: What is known of the list already.
    window: _Window | None = None


class SessionRelation:
    """Sessions of all endpoints, narrowed step by step; each step is a new relation, and nothing is read before use.

    Reading raises StoreUnavailable when a store cannot be asked.
    """

    #: Always: by last activity.
    ordered: Final = True
    #: The fingerprint breaks ties.
    totally_ordered: Final = True
    query: Final = SQLFacts()

    def __init__(self, model: "type[MCPSession]", part: _Part | None = None) -> None:
        self.model = model
        self._part = part or _Part(listing=Listing(aliases=conf.aliases()))
        self._rows: list[MCPSession] | None = None

    def all(self) -> Self:
        return self._clone()

    def none(self) -> Self:
        return self._with(replace(self._part.listing, matches=()))

    def using(self, alias: str | None) -> "QuerySet[MCPSession]":
        """An empty queryset, because no database holds sessions: `dumpdata` writes none."""
        return QuerySet(self.model, using=alias).none()

    def filter(self, *conditions: Q, **lookups: Any) -> Self:
        """Narrow by `pk`, `pk__in`, `endpoint`, `client_name`, `protocol_version`, `principal`,
        `last_activity__gte` and `last_activity__lt`; one of client, protocol and principal.

        Raises: UnsupportedLookup.
        """
        listing = self._part.listing
        for name, value in [*_pairs(conditions), *lookups.items()]:
            listing = _narrowed(listing, name, value)
        return self._with(listing)

    def matching(self, matches: Iterable[Match]) -> Self:
        """Narrow to what any of the matches finds; none of them: nothing."""
        return self._with(replace(self._part.listing, matches=tuple(matches)))

    def order_by(self, *names: str) -> Self:
        """By "last_activity" or "-last_activity"; the primary key may follow, which changes nothing.

        Raises: UnsupportedLookup.
        """
        first = names[0] if names else "-last_activity"
        others = {name.lstrip("-") for name in names[1:]} - set(_KEYS)
        if first.lstrip("-") != "last_activity" or others:
            raise UnsupportedLookup(f"Sessions are sorted by last activity, not by {', '.join(names)}.")
        query = replace(self._part.listing.query, ascending=not first.startswith("-"))
        return self._with(replace(self._part.listing, query=query))

    def get(self, **lookups: Any) -> "MCPSession":
        """The one session of `pk` or `fingerprint`. Raises: the model's DoesNotExist, UnsupportedLookup."""
        if not set(lookups) & set(_KEYS):
            raise UnsupportedLookup("One session is found by its fingerprint.")
        found = self.filter(**lookups).first()
        if found is None:
            raise self.model.DoesNotExist("There is no such session: it ended, or it never was.")
        return found

    def first(self) -> "MCPSession | None":
        return next(iter(self[:1]), None)

    def exists(self) -> bool:
        return self.first() is not None

    def count(self) -> int:
        """How many sessions match, as the index knows it: one read at most, and none after `read`."""
        total, stop = self._total(), self._part.stop
        return max(0, (total if stop is None else min(total, stop)) - self._part.start)

    def read(self, *, offset: int, limit: int) -> Self:
        """Read one page and the total now; this page and `count()` need no other read."""
        page = self._part.listing.page(offset=offset, limit=limit)
        return self._clone(window=_Window(offset=offset, limit=limit, page=page))

    def iterator(self, chunk_size: int | None = None) -> "Iterator[MCPSession]":
        return iter(self)

    def __iter__(self) -> "Iterator[MCPSession]":
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __bool__(self) -> bool:
        return bool(self._loaded())

    @overload
    def __getitem__(self, key: int) -> "MCPSession": ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: int | slice) -> "MCPSession | Self":
        if isinstance(key, int):
            return self._loaded()[key]
        if self._is_slice() or key.step or (key.start or 0) < 0 or (key.stop or 0) < 0:
            raise UnsupportedLookup("Sessions are sliced once, forwards.")
        return self._clone(start=key.start or 0, stop=key.stop)

    def __getattr__(self, name: str) -> NoReturn:
        """Name what querysets can do and sessions cannot."""
        if not name.startswith("_") and hasattr(QuerySet, name):
            raise UnsupportedLookup(f"Sessions are not in a database: they have no {name}().")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _clone(self, **changes: Any) -> Self:
        """Another part of the same list, with what is known of it."""
        return type(self)(self.model, replace(self._part, **changes))

    def _with(self, listing: Listing) -> Self:
        """Another list, of which nothing is known.

        Raises: UnsupportedLookup, for a slice cannot be narrowed.
        """
        if self._is_slice():
            raise UnsupportedLookup("A slice of sessions cannot be narrowed or sorted.")
        return self._clone(listing=listing, window=None)

    def _is_slice(self) -> bool:
        return bool(self._part.start) or self._part.stop is not None

    def _total(self) -> int:
        if self._part.window is not None:
            return self._part.window.page.total
        return self._part.listing.page(offset=0, limit=1).total

    def _loaded(self) -> "list[MCPSession]":
        if self._rows is None:
            self._rows = self.model.from_rows(self._page().rows)
        return self._rows

    def _page(self) -> LocatedPage:
        """What this part holds: of what has been read, or read now."""
        start, stop, known = self._part.start, self._part.stop, self._part.window
        if stop is None and known is not None:
            stop = known.page.total
        limit = MAX_DEPTH if stop is None else max(0, stop - start)
        if known is not None and known.offset == start and limit <= known.limit:
            return replace(known.page, rows=known.page.rows[:limit])
        return self._read_now(start, limit, whole=stop is None)

    def _read_now(self, start: int, limit: int, *, whole: bool) -> LocatedPage:
        """Raises: UnsupportedLookup if that is more than fits in one page."""
        page = self._part.listing.page(offset=start, limit=min(limit, MAX_DEPTH))
        if limit > MAX_DEPTH or (whole and page.total > start + MAX_DEPTH):
            raise UnsupportedLookup(f"At most {MAX_DEPTH:,} sessions are read at once: slice them.")
        return page


def _pairs(conditions: Iterable[Q]) -> Iterator[tuple[str, Any]]:
    """The lookups in Q objects that only say "and"."""
    for condition in conditions:
        if condition.negated or condition.connector != Q.AND:
            raise UnsupportedLookup("Sessions are narrowed by conditions that all hold.")
        for child in condition.children:
            if isinstance(child, tuple):
                yield child
            elif isinstance(child, Q):
                yield from _pairs([child])
            else:
                raise UnsupportedLookup(f"Sessions are not narrowed by {child!r}.")


def _narrowed(listing: Listing, name: str, value: Any) -> Listing:
    if not listing.matches:
        return listing
    if name == "endpoint":
        return replace(listing, aliases=tuple(alias for alias in listing.aliases if alias == value))
    if name in _KEYS:
        return replace(listing, matches=(Picked(fingerprints=(value,)),))
    if name in ("pk__in", "fingerprint__in"):
        return replace(listing, matches=(Picked(fingerprints=tuple(value)),))
    if name not in _LOOKUPS:
        raise UnsupportedLookup(f"Sessions cannot be looked up by {name}.")
    field = _LOOKUPS[name]
    found = round(value.timestamp() * 1000) if field.endswith("_ms") else value
    query = combine(listing.query, Query(**{field: found}))
    return replace(listing, matches=()) if query is None else replace(listing, query=query)
