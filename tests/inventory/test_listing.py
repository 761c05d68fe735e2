"""Pages of records whose indexes are behind, searches that stop before their end, and entries in addresses."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.listing import (
    EVERYTHING,
    MAX_DEPTH,
    SessionQuery,
    combine,
    entry_of,
    entry_text,
)
from mcp_sessions.inventory.lookups import Named, Picked, Prefix
from mcp_sessions.records import Session
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Found, Query
from mcp_sessions.store.calls.ranges import Located
from tests.inventory.stores import MINUTE, START, ListedStore, Stores, numbers, session, sessions

BOTH = SessionQuery(aliases=("default",), kinds=("session", "handle"))


@dataclass
class Outdated(ListedStore):
    """A store some of whose records have ended since they were indexed."""

    gone: set[str] = field(default_factory=set)

    def records(self, query: Query, found: Sequence[Located]) -> list[Session]:
        return [each for each in super().records(query, found) if each.fingerprint not in self.gone]


@dataclass
class Hasty(ListedStore):
    """A store that looks through the sessions only as far as one of them, and finds that none matches."""

    stops_at: int = 0

    def entries(self, query: Query, *, limit: int, after: Entry | None) -> Found:
        found = super().entries(query, limit=limit, after=after)
        if query.kind != "session":
            return found
        last = session(self.stops_at)
        return Found([], 5, exact=False, reached=Entry(last.fingerprint, last.last_activity_ms))


def test_what_is_gone_is_neither_shown_nor_counted(stores: Stores) -> None:
    listed = [session(n, kind="handle" if n % 2 else "session") for n in range(10)]
    gone = {listed[0].fingerprint, listed[2].fingerprint, listed[3].fingerprint}
    stores.by_alias["default"] = Outdated(listed, gone=gone)
    page = BOTH.page(limit=6)
    assert [row.session.requests for row in page.rows] == [1, 4, 5]
    assert page.counts == {"session": 3, "handle": 4}
    assert page.total == 7
    assert page.after == Entry(listed[5].fingerprint, listed[5].last_activity_ms)
    assert all(row.recent is not None for row in page.rows)
    everything = [row.session.requests for page in BOTH.pages(limit=3) for row in page.rows]
    assert everything == [1, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("ascending", "shown"), [(False, [1, 3]), (True, [9, 7, 5])])
def test_a_page_ends_where_the_shortest_search_did(stores: Stores, ascending: bool, shown: list[int]) -> None:
    """What lies behind may be preceded by what that search has not come to yet."""
    handles = [session(n, kind="handle") for n in range(1, 10, 2)]
    stores.by_alias["default"] = Hasty(handles, stops_at=4)
    query = replace(BOTH, filters=Query(ascending=ascending))
    page = query.page(limit=8)
    assert [row.session.requests for row in page.rows] == shown
    assert (page.exact, page.counts) == (False, {"session": 5, "handle": 5})
    last = session(4)
    assert page.after == Entry(last.fingerprint, last.last_activity_ms)
    following = query.page(limit=8, after=Entry(handles[2].fingerprint, handles[2].last_activity_ms))
    assert following.rows == []


def test_a_page_knows_what_is_before_and_after_it(stores: Stores) -> None:
    query = SessionQuery(aliases=("default",))
    first = query.page(limit=50)
    assert (first.before, first.total, first.exact) == (None, 120, True)
    assert first.after is not None
    second = query.page(limit=50, after=first.after)
    assert [row.session.requests for row in second.rows] == list(range(50, 100))
    assert second.before == Entry(session(50).fingerprint, session(50).last_activity_ms)
    last = query.page(limit=20, after=second.after)
    assert (len(last.rows), last.after) == (20, None)
    beyond = Entry(session(119).fingerprint, session(119).last_activity_ms)
    empty = query.page(limit=20, after=beyond)
    assert (empty.rows, empty.before, empty.after, empty.total) == ([], beyond, None, 120)
    back = query.page(limit=50, before=second.before)
    assert (back.rows, back.before, back.after) == (first.rows, None, first.after)


@pytest.mark.parametrize(("offset", "limit", "fits"), [(0, MAX_DEPTH, True), (1, MAX_DEPTH, False)])
def test_a_page_reaches_so_deep_at_most(stores: Stores, offset: int, limit: int, fits: bool) -> None:
    query = SessionQuery(aliases=("default",))
    if fits:
        assert len(query.page(offset=offset, limit=limit).rows) == 120
    else:
        with pytest.raises(UnsupportedLookup, match="10,000"):
            query.page(offset=offset, limit=limit)


def test_bounds_of_activity_hold_for_what_is_chosen_from_some(stores: Stores) -> None:
    """From the earlier bound on, and before the later one."""
    some = [session(n).fingerprint for n in range(8)]
    since, before = START - 5 * MINUTE, START - 2 * MINUTE
    for filters, found in (
        (Query(active_since_ms=since), [0, 1, 2, 3, 4, 5]),
        (Query(active_before_ms=before), [3, 4, 5, 6, 7]),
        (Query(active_since_ms=since, active_before_ms=before), [3, 4, 5]),
    ):
        query = SessionQuery(aliases=("default",), among=frozenset(some), filters=filters)
        assert [row.session.requests for row in query.page(limit=50).rows] == found
    prefix = Prefix(digits=session(3).fingerprint[:8])
    for when, shown in ((since, True), (START - 3 * MINUTE, True), (START - 3 * MINUTE + 1, False)):
        lately = sessions().filter(last_activity__gte=datetime.fromtimestamp(when / 1000, UTC))
        assert numbers(lately.matching([prefix])[:9]) == ([3] if shown else [])
    chosen = sessions().among(some).matching([prefix, Picked(fingerprints=(some[5], "f" * 64))])
    assert numbers(chosen[:9]) == [3, 5]
    assert list(sessions().among(some).matching([])) == []


def test_the_handle_that_was_used_last_is_found_by_its_text_too(stores: Stores) -> None:
    handles = [session(n, kind="handle", name=f"basket-483-920-{n:03}") for n in range(3)]
    stores.by_alias["default"] = ListedStore(handles)
    for handle in handles:
        assert numbers(sessions().matching([Named(text=handle.handshake.name)])[:9]) == [handle.requests]
        chosen = sessions().among([each.fingerprint for each in handles])
        assert numbers(chosen.matching([Named(text=handle.handshake.name)])[:9]) == [handle.requests]


def test_a_count_is_exact_unless_several_meanings_have_more_than_was_read(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore(
        [session(n, client="ab"[n % 2], principal="c") for n in range(8)]
    )
    by_client, by_principal = Query(client="a"), Query(principal="c")
    for matches, limit, total, exact in (
        ((by_client,), 2, 4, True),
        ((by_client, by_principal), 2, 8, False),
        ((by_client, by_principal), 50, 8, True),
        ((by_client, Query(client="none")), 2, 4, True),
        ((by_client, Query(principal="none")), 2, 4, True),
    ):
        page = SessionQuery(aliases=("default",), matches=matches).page(limit=limit)
        assert (page.total, page.exact) == (total, exact), matches


def test_queries_are_combined_or_contradict_each_other() -> None:
    wide = Query(client="a", active_since_ms=5, active_before_ms=50, ascending=True)
    assert combine(wide, EVERYTHING) == wide
    assert combine(wide, Query(client="a", label="b", active_since_ms=7, active_before_ms=60)) == Query(
        client="a", label="b", active_since_ms=7, active_before_ms=50, ascending=True
    )
    assert combine(wide, Query(client="b")) is None
    assert combine(EVERYTHING, Query(active_since_ms=3)) == Query(active_since_ms=3)


def test_an_entry_in_an_address_is_read_again_and_nothing_else_is() -> None:
    entry = Entry("ab" * 32, START)
    text = entry_text(entry)
    assert text == f"{START}-{'ab' * 32}"
    assert entry_of(text) == entry
    assert entry_of(f"{'9' * 15}-{'ab' * 32}") == Entry("ab" * 32, int("9" * 15))
    odd: list[str | None] = [None, "", "1", f"-{'ab' * 32}", f"x-{'ab' * 32}", f"{'9' * 16}-{'ab' * 32}"]
    odd += [f"{START}-{'ab' * 31}", f"{START}-{'AB' * 32}", f"{text}-", f"²-{'ab' * 32}", f"{text}\n"]
    assert [entry_of(each) for each in odd] == [None] * len(odd)


def test_a_read_page_serves_no_more_than_was_read(stores: Stores) -> None:
    """A slice of it costs nothing; what reaches beyond it is read."""
    page: Any = sessions().read(offset=10, limit=5)
    trips = stores["default"].round_trips
    assert (numbers(page[10:15]), numbers(page[10:12])) == ([10, 11, 12, 13, 14], [10, 11])
    assert stores["default"].round_trips == trips
    assert numbers(page[10:16]) == [10, 11, 12, 13, 14, 15]
    assert numbers(page[9:11]) == [9, 10]
    assert stores["default"].round_trips == trips + 4
    assert (page[10:15].count(), page[118:130].count(), page[119:].count(), page[130:].count()) == (
        5,
        2,
        1,
        0,
    )
    for wrong in (slice(1, 5, 2), slice(-1, None), slice(None, -1)):
        with pytest.raises(UnsupportedLookup, match="sliced only once"):
            _ = page[wrong]
    with pytest.raises(UnsupportedLookup, match="sliced only once"):
        _ = page[1:][:2]
    for whole in ("count_by_kind", "iterator"):
        with pytest.raises(UnsupportedLookup, match="slice"):
            next(iter(getattr(page[1:], whole)()))
    with pytest.raises(UnsupportedLookup, match="slice"):
        _ = page[:5].selected
