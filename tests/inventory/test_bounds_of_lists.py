"""Where pages begin and end, from several searches at once and in both orders, and what slices read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Q

from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Prefix
from mcp_sessions.records import Kind, Session
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Found, Query
from mcp_sessions.store.calls.ranges import Located
from tests.inventory.stores import MINUTE, START, ListedStore, Stores, numbers, session, sessions

BOTH = SessionQuery(aliases=("default",), kinds=("session", "handle"))


def entry(number: int, kind: Kind = "session") -> Entry:
    one = session(number, kind=kind)
    return Entry(one.fingerprint, one.last_activity_ms)


@dataclass
class Hasty(ListedStore):
    """A store that looks through the records of a kind only as far as one of them."""

    stops: dict[Kind, int] = field(default_factory=dict)

    def entries(self, query: Query, *, limit: int, after: Entry | None) -> Found:
        found = super().entries(query, limit=limit, after=after)
        if query.kind not in self.stops:
            return found
        reached = entry(self.stops[query.kind], query.kind)
        sign = 1 if query.ascending else -1
        seen = [each for each in found.entries if sign * each.entry.active_ms <= sign * reached.active_ms]
        return found._replace(entries=seen, exact=False, reached=reached)


@dataclass
class Emptied(ListedStore):
    """A store all of whose records have ended since they were indexed."""

    def records(self, query: Query, found: Sequence[Located]) -> list[Session]:
        return []


@pytest.mark.parametrize(
    ("ascending", "stops", "shown", "after"),
    [
        (False, (4, 7), [0, 1, 2, 3, 4], entry(4)),
        (False, (8, 3), [0, 1, 2, 3], entry(3, "handle")),
        (True, (4, 7), [9, 8, 7], entry(7, "handle")),
        (True, (6, 3), [9, 8, 7, 6], entry(6)),
    ],
)
def test_of_several_searches_the_one_that_came_least_far_ends_the_page(
    stores: Stores, ascending: bool, stops: tuple[int, int], shown: list[int], after: Entry
) -> None:
    listed = [session(n, kind="handle" if n % 2 else "session") for n in range(10)]
    stores.by_alias["default"] = Hasty(listed, stops={"session": stops[0], "handle": stops[1]})
    query = replace(BOTH, filters=Query(ascending=ascending))
    page = query.page(limit=50)
    assert [row.session.requests for row in page.rows] == shown
    assert (page.after, page.exact, page.before) == (after, False, None)


def test_where_everything_is_gone_nothing_is_counted(stores: Stores) -> None:
    stores.by_alias["default"] = Emptied([session(0), session(1, kind="handle"), session(2, kind="handle")])
    page = BOTH.page(limit=10)
    assert (page.rows, page.total) == ([], 0)
    assert (BOTH.page(limit=1).total, BOTH.page(limit=2).counts) == (2, {"session": 0, "handle": 1})


@pytest.mark.parametrize("order", ["last_activity", "-last_activity"])
def test_what_is_chosen_from_some_is_paged_in_either_order(stores: Stores, order: str) -> None:
    some = sessions().order_by(order).among([session(n).fingerprint for n in range(9)])
    pages = [some.read_page(limit=4)]
    while pages[-1].of.after is not None:
        pages.append(some.read_page(limit=4, after=pages[-1].of.after))
    expected = list(range(9)) if order.startswith("-") else list(range(9))[::-1]
    assert [numbers(page.rows) for page in pages] == [expected[:4], expected[4:8], expected[8:]]
    back = some.read_page(limit=4, before=pages[2].of.before)
    assert numbers(back.rows) == expected[4:8]
    assert [page.of.total for page in pages] == [9, 9, 9]


def test_slices_read_what_they_say_and_an_empty_one_nothing(stores: Stores) -> None:
    for some in (sessions()[5:3], sessions()[3:3], sessions()[:0]):
        assert (list(some), some.count(), bool(some)) == ([], 0, False)
    assert numbers(sessions()[118:130]) == [118, 119]
    whole = sessions()[0:]
    assert numbers(whole.filter(client_name="client")[:2]) == [0, 1], "that is no slice"
    assert numbers(whole[3:5]) == [3, 4]
    assert (whole.selected, whole.count_by_kind()["session"]) == (sessions().selected, 120)
    assert sessions()[7].record.requests == 7
    for part in (sessions()[1:], sessions()[:5], sessions()[0:5]):
        with pytest.raises(UnsupportedLookup, match="slice"):
            part.filter(client_name="client")


def test_without_an_argument_all_is_read_in_parts_and_the_order_is_the_usual_one(stores: Stores) -> None:
    assert numbers(sessions().iterator()) == list(range(120))
    assert stores["default"].asked[0][-1] == 501
    assert numbers(sessions().order_by()[:3]) == [0, 1, 2]
    assert numbers(sessions().order_by("last_activity", "pk", "-fingerprint")[:2]) == [119, 118]
    with pytest.raises(AttributeError, match="_filter_or_exclude"):
        _ = sessions()._filter_or_exclude


def test_a_list_that_was_read_to_its_end_is_known(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(n) for n in range(5)])
    for limit, trips in ((5, 2), (6, 2), (4, 4)):
        stores["default"].round_trips = 0
        read = sessions().read(offset=0, limit=limit)
        assert numbers(read.all()) == list(range(5))
        assert stores["default"].round_trips == trips, limit
    other = sessions().read(offset=0, limit=5).filter(client_name="nobody")
    assert (list(other), other.count()) == ([], 0)


def test_conditions_may_be_nested_and_each_of_them_holds(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(0, client="a"), session(1, protocol="b"), session(2)])
    nested = Q(Q(client_name="client"), Q(("protocol_version", "2025-11-25")))
    assert numbers(sessions().filter(nested)[:9]) == [2]
    with pytest.raises(UnsupportedLookup, match="cannot be filtered by 7"):
        sessions().filter(Q(7))
    with pytest.raises(UnsupportedLookup, match="AND"):
        sessions().filter(Q(Q(client_name="a") | Q(client_name="b"), protocol_version="c"))


@pytest.mark.parametrize(("more_ms", "is_shown"), [(0, False), (1, True)])
def test_what_is_looked_up_was_used_before_the_bound(stores: Stores, more_ms: int, is_shown: bool) -> None:
    moment = datetime.fromtimestamp((START - 3 * MINUTE) / 1000, UTC) + timedelta(milliseconds=more_ms)
    found = sessions().filter(last_activity__lt=moment).matching([Prefix(digits=session(3).fingerprint[:9])])
    assert numbers(found[:9]) == ([3] if is_shown else [])


def test_a_page_from_an_offset_has_what_follows(stores: Stores) -> None:
    page = SessionQuery(aliases=("default",)).page(offset=118, limit=2)
    assert ([row.session.requests for row in page.rows], page.after) == ([118, 119], None)
    page = SessionQuery(aliases=("default",)).page(offset=117, limit=2)
    assert page.after == entry(118)
    assert SessionQuery(aliases=("default",), matches=()).page(limit=5).rows == []
