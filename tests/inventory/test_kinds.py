"""Records of several kinds in one list: merged, filtered, searched and counted."""

from typing import Any

import pytest

from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.inventory import kinds, search
from mcp_sessions.inventory.listing import MAX_DEPTH
from mcp_sessions.inventory.lookups import Named, Prefix
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls.queries import Query
from tests.inventory.stores import ListedStore, Stores, numbers, session, sessions


@pytest.fixture
def mixed(stores: Stores) -> Stores:
    """Records of all kinds that alternate in time; those of two kinds have a label."""
    stores.by_alias["default"] = ListedStore(
        [
            session(
                number,
                kind=kind,
                label={"handle": "basket", "conversation": "thread"}.get(kind, ""),
                name=f"basket-483-920-{number:03}" if kind == "handle" else "",
                principal=f"owner {number % 2}",
            )
            for number, kind in enumerate(KINDS * 10)
        ]
    )
    return stores


def kinds_of(found: Any) -> list[Kind]:
    return [row.record.kind for row in found]


def test_all_kinds_are_one_list_by_last_activity(mixed: Stores) -> None:
    page = sessions().read(offset=0, limit=12)
    assert numbers(page[:12]) == list(range(12))
    assert kinds_of(page[:6]) == list(KINDS)
    assert page.count() == 60
    assert page.count_by_kind() == dict.fromkeys(KINDS, 10)
    assert mixed["default"].round_trips == 2, "the indexes, and then the records of the page"


def test_a_later_page_of_all_kinds_and_the_other_order_hold_together(mixed: Stores) -> None:
    assert numbers(sessions().read(offset=24, limit=12)[24:36]) == list(range(24, 36))
    assert mixed["default"].round_trips == 2
    assert numbers(sessions().order_by("last_activity")[:4]) == [59, 58, 57, 56]


def test_one_kind_is_read_alone(mixed: Stores) -> None:
    found = sessions().filter(kind="handle")
    assert kinds_of(found[:50]) == ["handle"] * 10
    assert [query.kind for query, *_ in mixed["default"].asked] == ["handle"]
    assert list(sessions().filter(kind="no such kind")) == []


def test_a_list_can_be_paged_to_its_end_and_back(mixed: Stores) -> None:
    for order in ("-last_activity", "last_activity"):
        pages = [sessions().order_by(order).read_page(limit=7)]
        while pages[-1].of.after is not None:
            pages.append(sessions().order_by(order).read_page(limit=7, after=pages[-1].of.after))
        shown = [numbers(page.rows) for page in pages]
        everything = [number for page in shown for number in page]
        assert everything == sorted(range(60), reverse=order == "last_activity")
        assert [page.of.total for page in pages] == [60] * len(pages)
        for number in range(len(pages) - 1, 0, -1):
            back = sessions().order_by(order).read_page(limit=7, before=pages[number].of.before)
            assert numbers(back.rows) == shown[number - 1]
            assert back.of.after == pages[number - 1].of.after
            assert (back.of.before is None) == (number == 1)


def test_a_list_can_be_sliced_only_so_far(mixed: Stores) -> None:
    with pytest.raises(UnsupportedLookup, match="in parts"):
        list(sessions()[MAX_DEPTH : MAX_DEPTH + 10])


def test_any_number_of_records_is_read_in_parts(stores: Stores) -> None:
    stores.by_alias["default"] = ListedStore([session(n, kind="handle") for n in range(MAX_DEPTH + 60)])
    found = sessions().iterator(chunk_size=1_000)
    assert sum(1 for _ in found) == MAX_DEPTH + 60
    assert max(limit for *_, limit in stores["default"].asked) == 1_001


def test_records_can_be_chosen_from_some_fingerprints(mixed: Stores) -> None:
    some = [record.fingerprint for record in mixed["default"].sessions[:20]]
    assert numbers(sessions().among(some)[:50]) == list(range(20))
    found = sessions().filter(kind="handle").among(some).matching([Query(principal="owner 1")])
    assert (numbers(found[:50]), found.count()) == ([1, 7, 13, 19], 4)
    assert list(sessions().among(some).among([])) == []
    page = sessions().among(some).read_page(limit=8)
    assert numbers(sessions().among(some).read_page(limit=8, after=page.of.after).rows) == list(range(8, 16))


def test_records_are_found_by_label_and_with_the_principal_too(mixed: Stores) -> None:
    assert kinds_of(sessions().filter(label="basket")[:50]) == ["handle"] * 10
    assert len(sessions().filter(label="basket").filter(principal="owner 1")[:50]) == 10
    assert list(sessions().filter(label="basket", principal="owner 0")) == []
    assert len(sessions().filter(label="basket", client_name="client")[:50]) == 10


def test_a_filter_by_kind_holds_for_what_is_picked_and_for_a_fingerprint(mixed: Stores) -> None:
    session_, handle = mixed["default"].sessions[:2]
    picked = [session_.fingerprint, handle.fingerprint]
    assert kinds_of(sessions().filter(pk__in=picked)) == ["session", "handle"]
    assert kinds_of(sessions().filter(kind="handle").filter(pk__in=picked)) == ["handle"]
    prefix = Prefix(digits=handle.fingerprint[:8])
    assert kinds_of(sessions().matching([prefix])[:10]) == ["handle"]
    assert kinds_of(sessions().filter(kind="session").matching([prefix])[:10]) == []


@pytest.mark.parametrize(
    "spelled",
    [
        "basket-483-920-007",
        "BASKET 483 920 007",
        "basket483920007",
        "`basket‑483‑920‑007`.",
        "  Basket_483–920–007 ",
        "ba­sket 483\u200b920\u200b007",
        "basket-483-92o-oo7",
        "483-920-007",
        "483920007",
    ],
)
def test_a_handle_is_found_by_its_text_in_any_spelling(mixed: Stores, spelled: str) -> None:
    found = sessions().matching(search.lookups(spelled))[:10]
    assert [row.record.name for row in found] == ["basket-483-920-007"]
    assert mixed["default"].round_trips == 2, "whatever it may mean, and what the last request did"


@pytest.mark.parametrize(
    "text", ["claude-code", "ada", "483", "", "-", "client 2.1", "2025-06-18", "x" * 5000 + "1234"]
)
def test_other_texts_cost_no_search_of_the_handles(text: str) -> None:
    assert search.lookups(text) == []


def test_digits_of_a_fingerprint_are_not_taken_for_a_handle() -> None:
    assert search.lookups(" 5D41402a ") == [Prefix(digits="5d41402a")]
    assert search.lookups("3d-model-1234") == [Named(text="3d-model-1234")]
    assert search.lookups("483920007") == [Prefix(digits="483920007"), Named(text="483920007")]


def test_a_search_for_a_handle_holds_to_the_filters(mixed: Stores) -> None:
    named = search.lookups("basket-483-920-007")
    assert len(sessions().filter(principal="owner 1").matching(named)[:10]) == 1
    assert len(sessions().filter(principal="owner 0").matching(named)[:10]) == 0
    assert len(sessions().filter(kind="session").matching(named)[:10]) == 0


def test_records_picked_together_are_two_round_trips(mixed: Stores) -> None:
    picked = [record.fingerprint for record in mixed["default"].sessions]
    assert len(sessions().filter(pk__in=picked)[:100]) == 60
    assert mixed["default"].round_trips == 2, "and what their last requests did"


def test_counts_are_said_in_words() -> None:
    assert kinds.counted({"session": 1, "handle": 3}) == "3 handles and 1 session"
    assert (
        kinds.counted({"caller": 1_000, "user": 1, "session": 2})
        == "1,000 callers, 2 sessions and 1 user state"
    )
    assert kinds.counted({"session": 0}) == "0 records"
