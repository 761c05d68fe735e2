"""The lazy queryset of records: what it reads, when, and what it refuses."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db.models import Q

from mcp_sessions.errors import MCPSessionsError, UnsupportedLookup
from mcp_sessions.inventory.listing import MAX_DEPTH
from mcp_sessions.inventory.lookups import Prefix
from mcp_sessions.models import MCPSession
from mcp_sessions.store.calls.queries import Query
from tests.inventory.stores import MINUTE, START, ListedStore, Stores, numbers, session, sessions


def test_nothing_is_read_before_it_is_needed(stores: Stores) -> None:
    sessions().filter(client_name="client").order_by("last_activity")[:10]
    assert stores["default"].asked == []


def test_a_page_and_its_total_are_one_read(stores: Stores) -> None:
    page = sessions().read(offset=50, limit=50)
    assert page.count() == 120
    assert numbers(page[50:100]) == list(range(50, 100))
    assert stores["default"].round_trips == 2, "the index, and then the records"


def test_rows_are_read_once_however_often_they_are_looked_at(stores: Stores) -> None:
    page = sessions()[:10]
    assert len(page) == len(list(page)) == 10
    assert page[0] is next(iter(page))
    assert stores["default"].round_trips == 2


def test_djangos_paginator_gets_its_last_page(stores: Stores) -> None:
    page = Paginator(sessions(), 50).page(3)
    assert numbers(page.object_list) == list(range(100, 120))


def test_a_short_list_that_was_read_needs_no_other_read(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(n) for n in range(7)])
    assert numbers(sessions().read(offset=0, limit=50).all()) == list(range(7))
    assert stores["default"].round_trips == 2


def test_sessions_are_sorted_by_last_activity_both_ways(stores: Stores) -> None:
    assert numbers(sessions()[:3]) == [0, 1, 2]
    assert numbers(sessions().order_by("last_activity", "-pk")[:3]) == [119, 118, 117]


@pytest.mark.parametrize("names", [("client_name",), ("pk",), ("-last_activity", "endpoint"), ("?",)])
def test_no_other_order_is_invented(stores: Stores, names: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedLookup):
        sessions().order_by(*names)


@pytest.mark.parametrize(
    "lookup",
    [
        {"client_name__icontains": "x"},
        {"created": 1},
        {"last_activity": 1},
        {"pk__startswith": "a"},
        {"endpoint__in": []},
    ],
)
def test_a_lookup_without_an_index_is_refused(stores: Stores, lookup: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedLookup):
        sessions().filter(**lookup)


@pytest.mark.parametrize("condition", [~Q(pk="a"), Q(pk="a") | Q(pk="b"), Q(~Q(pk="a"), client_name="b")])
def test_only_conditions_that_all_hold_are_accepted(stores: Stores, condition: Q) -> None:
    with pytest.raises(UnsupportedLookup):
        sessions().filter(condition)


@pytest.mark.parametrize(
    "method",
    [
        "values",
        "exclude",
        "aggregate",
        "annotate",
        "update",
        "delete",
        "distinct",
        "create",
        "select_related",
    ],
)
def test_what_only_querysets_can_do_is_refused_by_name(stores: Stores, method: str) -> None:
    with pytest.raises(UnsupportedLookup, match=method):
        getattr(sessions(), method)


def test_unknown_attributes_are_missing_as_everywhere(stores: Stores) -> None:
    assert not hasattr(sessions(), "no_such_thing")


def test_conditions_reach_the_index(stores: Stores) -> None:
    since = datetime.fromtimestamp((START - 5 * MINUTE) / 1000, UTC)
    found = sessions().filter(Q(("last_activity__gte", since)), client_name="client")
    assert numbers(found[:50]) == list(range(6))
    assert stores["default"].asked[0][0] == Query(client="client", active_since_ms=START - 5 * MINUTE)


def test_client_protocol_and_principal_filter_together(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore(
        [session(0, protocol="a"), session(1, client="b"), session(2, principal="c"), session(3)]
    )
    found = sessions().filter(client_name="client").filter(protocol_version="2025-11-25")
    assert numbers(found[:9]) == [2, 3]
    assert numbers(found.filter(principal="anonymous")[:9]) == [3]


def test_two_different_clients_match_no_session(stores: Stores) -> None:
    assert list(sessions().filter(client_name="client").filter(client_name="other")) == []
    assert stores["default"].asked == []


def test_one_session_is_found_by_its_fingerprint(stores: Stores) -> None:
    wanted = session(77)
    assert sessions().get(pk=wanted.fingerprint).record == wanted
    assert sessions().get(fingerprint=wanted.fingerprint).pk == wanted.fingerprint


@pytest.mark.parametrize("pk", ["0" * 64, "no fingerprint", "", "'\"<script>"])
def test_an_unknown_session_does_not_exist(stores: Stores, pk: str) -> None:
    with pytest.raises(MCPSession.DoesNotExist):
        sessions().get(pk=pk)


def test_one_session_cannot_be_found_by_anything_else(stores: Stores) -> None:
    with pytest.raises(UnsupportedLookup):
        sessions().get(client_name="client")


def test_what_cannot_be_a_fingerprint_is_not_asked_for(stores: Stores) -> None:
    assert list(sessions().filter(pk__in=["*", "../x", "A" * 64])) == []
    assert stores["default"].asked == []


def test_picked_sessions_are_those_picked_even_if_time_has_passed(stores: Stores) -> None:
    picked = [session(3).fingerprint, session(90).fingerprint, "f" * 64]
    now = datetime.fromtimestamp(START / 1000, UTC)
    assert numbers(sessions().filter(last_activity__gte=now).filter(pk__in=picked)) == [3, 90]
    assert numbers(sessions().filter(client_name="other").filter(pk__in=picked)) == []


def test_picking_from_nothing_gives_nothing(stores: Stores) -> None:
    assert list(sessions().none().filter(pk__in=[session(1).fingerprint])) == []


def test_several_endpoints_are_merged_by_last_activity(two: Stores) -> None:
    page = sessions().read(offset=5, limit=5)
    assert (page.count(), numbers(page[5:10])) == (20, [5, 6, 7, 8, 9])
    assert [found.endpoint for found in page[5:7]] == ["odd", "even"]
    assert two["even"].round_trips == two["odd"].round_trips == 2


def test_merged_endpoints_can_be_sorted_the_other_way(two: Stores) -> None:
    assert numbers(sessions().order_by("last_activity")[:4]) == [19, 18, 17, 16]


def test_one_of_several_endpoints_is_read_alone(two: Stores) -> None:
    assert numbers(sessions().filter(endpoint="odd")[:3]) == [1, 3, 5]
    assert two["even"].asked == []
    assert list(sessions().filter(endpoint="neither")) == []


def test_a_merged_list_can_be_paged_only_so_far(two: Stores) -> None:
    with pytest.raises(UnsupportedLookup, match="10,000"):
        list(sessions()[MAX_DEPTH : MAX_DEPTH + 10])


def test_more_than_fits_in_memory_must_be_sliced(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(n) for n in range(MAX_DEPTH + 1)])
    with pytest.raises(UnsupportedLookup, match="slice"):
        list(sessions())


def test_a_search_may_mean_several_things(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(0, client="a"), session(1, principal="b"), session(2)])
    wanted = session(2).fingerprint
    found = sessions().matching([Query(client="a"), Query(principal="b"), Prefix(digits=wanted[:8])])
    assert (numbers(found[:10]), found.count()) == ([0, 1, 2], 3)


def test_a_session_that_a_search_finds_twice_is_listed_once(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(0, client="a", principal="b")])
    found = sessions().matching([Query(client="a"), Query(principal="b")]).read(offset=0, limit=50)
    assert (numbers(found[:50]), found.count()) == ([0], 1)


def test_filters_hold_for_sessions_found_by_fingerprint(stores: Stores) -> None:
    prefix = Prefix(digits=session(50).fingerprint[:8])
    before = datetime.fromtimestamp((START - 60 * MINUTE) / 1000, UTC)
    assert numbers(sessions().matching([prefix])[:10]) == [50]
    assert numbers(sessions().filter(client_name="other").matching([prefix])[:10]) == []
    assert numbers(sessions().filter(last_activity__lt=before).matching([prefix])[:10]) == []


def test_a_slice_is_the_last_step(stores: Stores) -> None:
    with pytest.raises(UnsupportedLookup):
        sessions()[:10].filter(client_name="client")
    with pytest.raises(UnsupportedLookup):
        sessions()[:10][:5]
    with pytest.raises(UnsupportedLookup):
        sessions()[-5:]


def test_existence_and_truth_are_asked_of_the_store(stores: Stores) -> None:
    assert sessions().exists()
    assert not sessions().filter(client_name="other").exists()
    assert not sessions().none()
    assert sessions().first() == sessions()[0:1][0]


def test_no_database_holds_sessions(stores: Stores) -> None:
    assert list(sessions().using("default").order_by("fingerprint").iterator()) == []


def test_sessions_are_neither_saved_nor_deleted_as_rows(stores: Stores) -> None:
    found = sessions().get(pk=session(0).fingerprint)
    with pytest.raises(MCPSessionsError):
        found.save()
    with pytest.raises(MCPSessionsError):
        found.delete()
