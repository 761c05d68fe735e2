"""Which choice of a filter is marked, what filters say of long values, and what stays of a list that is narrowed."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from mcp_sessions.admin import common, filters
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS
from mcp_sessions.store.calls import queries
from tests.admin.pages import LIST, body, endpoint, listed, said
from tests.admin.test_shown_processes import offered
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def marked(page: Any) -> dict[str, list[str]]:
    """By filter, the choices that are marked."""
    changelist = page.context["cl"]
    return {
        spec.parameter_name: [str(each["display"]) for each in spec.choices(changelist) if each["selected"]]
        for spec in changelist.filter_specs
    }


def test_of_each_filter_one_choice_is_marked(admin_client: Client) -> None:
    open_sessions([Opened(client=name) for name in ("a", "b", "c")])
    everything = {key: ["All"] for key in ("kind", "client", "protocol", "user", "activity", "state")}
    assert marked(admin_client.get(LIST)) == everything
    chosen = {
        "kind": "handle",
        "client": "b",
        "protocol": "2025-06-18",
        "user": "anonymous",
        "activity": "last-900",
        "state": "stuck",
    }
    assert marked(admin_client.get(LIST, chosen)) == {
        "kind": ["Handles"],
        "label": ["All"],
        "client": ["b"],
        "protocol": ["2025-06-18"],
        "user": ["Anonymous"],
        "activity": ["In the last 15 min"],
        "state": ["Calling for more than 30 s"],
    }


def test_the_form_for_a_user_keeps_the_rest_of_the_address(admin_client: Client) -> None:
    page = body(admin_client.get(LIST, {"client": "b", "q": "x", "user": "ada", "o": "7", "after": "1"}))
    form = page.partition('class="mcp-user"')[2].partition("</form>")[0]
    kept = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    assert sorted(kept) == [("client", "b"), ("o", "7"), ("q", "x")]


def test_labels_are_offered_for_the_kinds_that_have_them(admin_client: Client) -> None:
    open_sessions([Opened(kind="handle", label="l" * 41), Opened(kind="handle", label="\ud800")])
    found = {kind: "label" in marked(admin_client.get(LIST, {"kind": kind})) for kind in KINDS}
    assert found == {kind: kind in ("handle", "conversation") for kind in KINDS}
    page = admin_client.get(LIST, {"kind": "handle"})
    [spec] = [each for each in page.context["cl"].filter_specs if each.parameter_name == "label"]
    assert spec.lookup_choices == [("l" * 41, "l" * 39 + "…")], "and not what no address can have"


def test_what_is_wrong_with_an_address_is_said_of_long_values_too() -> None:
    long = "x" * 61
    address = dict.fromkeys(("endpoint", "kind", "state", "user", "activity"), long)
    said_ = list(filters.problems(RequestFactory().get("/", address)))
    assert [re.findall(r"“(x+…?)”", each) for each in said_] == [["x" * 59 + "…"]] * 5
    just_fits = dict.fromkeys(address, "x" * 60)
    assert ["x" * 60 in each for each in filters.problems(RequestFactory().get("/", just_fits))] == [True] * 5
    assert list(filters.problems(RequestFactory().get("/", {"user": ""}))) == []


def test_filters_offer_long_names_cut_and_windows_without_an_endpoint(settings: LazySettings) -> None:
    alias = "e" * 41
    settings.MCP_SESSIONS = {alias: endpoint(IDLE_TTL=600), "short": endpoint(PATH="short", IDLE_TTL=1_200)}
    assert offered(filters.EndpointFilter) == [(alias, "e" * 39 + "…"), ("short", "short")]
    assert offered(filters.ProtocolFilter, f"/?protocol={'p' * 31}")[-1] == ("p" * 31, "p" * 29 + "…")
    assert offered(filters.ActivityFilter, f"/?activity={'a' * 31}")[-1] == ("a" * 31, "a" * 29 + "…")
    assert [name for name, _ in offered(filters.ActivityFilter)][-1] == "idle-600", "of the longest IDLE_TTL"
    of_one = [name for name, _ in offered(filters.ActivityFilter, f"/?endpoint={alias}")]
    assert of_one == ["last-10", "last-50", "last-120", "idle-300"]
    settings.MCP_SESSIONS = {}
    assert [name for name, _ in offered(filters.ActivityFilter)] == [
        "last-60",
        "last-300",
        "last-900",
        "idle-1800",
    ]


def test_users_without_a_name_in_the_address_are_all(admin_client: Client) -> None:
    [session] = open_sessions([Opened(principal="user:1")])
    page = admin_client.get(LIST, {"user": ""})
    assert (listed(page), said(page)) == ([session.fingerprint], [])


def test_the_page_before_an_entry_near_the_beginning_is_the_whole_first_page(admin_client: Client) -> None:
    opened = [each.fingerprint for each in reversed(open_sessions([Opened() for _ in range(60)]))]
    page = admin_client.get(LIST)
    twentieth = page.context["cl"].result_list[20]
    before = f"{twentieth.record.last_activity_ms}-{twentieth.pk}"
    first = admin_client.get(LIST, {"before": before})
    assert listed(first) == opened[:50]
    assert (first.context["cl"].previous_page, first.context["cl"].first_page) == ("", "")
    last = admin_client.get(LIST + page.context["cl"].next_page)
    assert listed(last) == opened[50:]
    assert last.context["cl"].first_page == "?"
    assert [each.context["cl"].multi_page for each in (page, last)] == [True, True]
    assert not admin_client.get(LIST, {"client": "nobody"}).context["cl"].multi_page


def test_a_list_is_narrowed_by_a_search_or_by_a_filter(admin_client: Client) -> None:
    open_sessions([Opened()])
    for address, is_narrowed in (({}, False), ({"q": "inspector"}, True), ({"client": "inspector"}, True)):
        changelist = admin_client.get(LIST, address).context["cl"]
        assert changelist.is_narrowed is is_narrowed
        assert not changelist.can_show_all


def test_so_many_records_of_the_same_name_are_told_apart(admin_client: Client) -> None:
    open_sessions(
        [Opened(kind="handle", label="basket", name="basket-1234", principal=f"user:{n}") for n in range(6)]
    )
    [words] = said(admin_client.post(f"{LIST}find/", {"q": "basket-1234"}, follow=True))
    assert len(re.findall("[0-9a-f]{12}", words)) == 5
    [words] = said(admin_client.post(f"{LIST}find/", {"q": "basket-1235"}, follow=True))
    assert words == "No record matches."


def test_other_sessions_of_a_user_are_named_up_to_ten(admin_client: Client) -> None:
    opened = open_sessions([Opened(principal="user:1") for _ in range(12)])
    open_sessions([Opened(principal="user:1", kind="caller")])
    for one in (opened[0], opened[6], opened[-1]):
        page = body(admin_client.get(f"{LIST}{one.fingerprint}/change/"))
        others = page.partition("Other sessions of this user")[2]
        assert others.count("last active") == 10
        assert f"{one.fingerprint}/change/" not in others
    [alone] = open_sessions([Opened(principal="user:2")])
    page = body(admin_client.get(f"{LIST}{alone.fingerprint}/change/"))
    assert 'class="quiet">none<' in page.partition("Other sessions of this user")[2]


def test_a_record_is_read_once_for_a_request_and_another_one_is_another() -> None:
    first, second = open_sessions([Opened(), Opened()])
    pages, request = admin.site._registry[MCPSession], RequestFactory().get("/")
    found = pages.get_object(request, first.fingerprint)
    assert pages.get_object(request, first.fingerprint) is found
    for other in (second, first):
        again = pages.get_object(request, other.fingerprint)
        assert again is not None
        assert again.pk == other.fingerprint


@pytest.fixture
def sites(settings: LazySettings) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.admin.sites"
    common._page_of_one.cache_clear()
    yield
    common._page_of_one.cache_clear()


def test_the_address_of_a_page_is_that_of_the_urls_in_use(settings: LazySettings, sites: None) -> None:
    pages = admin.site._registry[MCPSession]
    known = common.page_of(pages, User, 1)
    settings.ROOT_URLCONF = "tests.admin.elsewhere"
    assert (known, common.page_of(pages, User, 1)) == (
        "/admin/auth/user/1/change/",
        "/elsewhere/auth/user/1/change/",
    )


@pytest.mark.parametrize(("length", "is_searched"), [(200, True), (201, False)])
def test_a_text_is_searched_for_among_the_names_of_handles_up_to_a_length(
    admin_client: Client, length: int, is_searched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    read = queries.page

    def page(query: Any, **more: Any) -> Any:
        asked.append((query.kind, query.ascending, more["offset"], more["limit"]))
        return read(query, **more)

    monkeypatch.setattr(queries, "page", page)
    admin_client.post(f"{LIST}find/", {"q": "1234".rjust(length, "x")})
    assert asked == ([("handle", False, 0, 10_000)] if is_searched else [])
