"""What the pages of processes and of what runs show, and what filters offer."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.test import Client, RequestFactory

from mcp_sessions.admin import blocks as block_admin
from mcp_sessions.admin import common, filters, operating
from mcp_sessions.admin.audit import AuditEntryAdmin
from mcp_sessions.admin.changelist import RecordChangeList
from mcp_sessions.inventory import display
from mcp_sessions.inventory.surroundings import Surroundings
from mcp_sessions.models import AuditEntry, Block, MCPSession
from tests.admin.pages import LIST, endpoint, said
from tests.admin.test_columns import NOW, call, node, row
from tests.inventory.stores import session


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def test_a_process_is_shown_with_what_is_unusual_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "now_like", lambda _: NOW + timedelta(minutes=2))
    facts: dict[str, Any] = {
        "version": "1.0",
        "memory": 3_774_874,
        "started": NOW - timedelta(hours=1),
        "lag_ms": 1_200,
    }
    one = replace(node(), ahead_ms=-2_600, **facts)
    assert operating._row(one, "1.0") == {
        "node": one,
        "ago": "2 min ago",
        "silent_for": "2 min",
        "uptime": "1 h",
        "memory": "4 MiB",
        "other_version": False,
        "lag": "1,200 ms",
        "skew": "clock 3 s ahead of that of Redis",
        "slow": True,
    }
    bare = operating._row(replace(node(), lag_ms=199), "1.0")
    names = ("uptime", "memory", "skew", "slow", "other_version")
    assert [bare[name] for name in names] == ["", "", "", False, True]
    assert operating._row(replace(one, ahead_ms=2_600, lag_ms=200), "")["skew"].startswith("clock 3 s behind")
    assert operating._row(replace(one, lag_ms=200), "")["slow"]


def test_what_runs_is_counted_in_processes_that_live() -> None:
    told: dict[str, Any] = {"calls": 3, "streams": 5, "listeners": 7}
    found = [replace(node(), **told), replace(node(), **told), replace(node(is_silent=True), **told)]
    assert operating._counts(found) == {"calls": 6, "streams": 10, "listeners": 14, "silent": 1}
    calls = [call(number, seconds=number) for number in (2, 1, 2)]
    calls.append(call(3, seconds=1, call="tools/call:\ud800"))
    assert operating._choices(calls, "") == ["tool 1", "tool 2"]
    assert operating._choices(calls, "gone") == ["gone", "tool 1", "tool 2"]
    shown = operating._shown(call(1, seconds=5))
    assert (shown["client"], shown["short"], shown["is_session"]) == (
        "coder 1",
        session(0).fingerprint[:12],
        True,
    )


@pytest.mark.django_db
def test_calls_that_processes_do_not_name_are_counted(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    found = [replace(node(call(1, seconds=5), call(2, seconds=6)), calls=5)]
    monkeypatch.setattr(operating, "nodes_of", lambda _: found)
    page = admin_client.get(f"{LIST}now/", {"tool": "tool 2"})
    assert [each["tool"] for each in page.context["calls"]] == ["tool 2"]
    assert (page.context["unnamed"], page.context["aliases"], page.context["tool"]) == (3, (), "tool 2")
    wrong = admin_client.get(f"{LIST}now/", {"endpoint": "x" * 61}, follow=True)
    assert said(wrong) == [f"There is no endpoint “{'x' * 60}”."]
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    assert admin_client.get(f"{LIST}now/").context["aliases"] == ("default", "other")
    usual = [replace(node(), version=version, id=version) for version in ("1.0", "1.1", "1.1")]
    hung = replace(node(is_silent=True), version="0.9")
    stranger = replace(node(), is_stranger=True, version="")
    monkeypatch.setattr(operating, "nodes_of", lambda _: [*usual, hung, stranger])
    page = admin_client.get(f"{LIST}processes/")
    assert [each["other_version"] for each in page.context["nodes"]] == [True, False, False, True, True]
    assert page.context["versions"] == ["1.0", "1.1", "unknown"]
    assert (page.context["strangers"], page.context["silent"]) == (["default"], 1)


def offered(kind: type[Any], address: str = "/", *, clients: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    request = RequestFactory().get(address)
    around = Surroundings(counts={}, clients=clients, nodes=(), now_ms=0)
    setattr(request, filters._KEPT, {"default": around})
    params = {name: list(values) for name, values in request.GET.lists()}
    found: list[tuple[str, str]] = kind(
        request, params, MCPSession, admin.site._registry[MCPSession]
    ).lookup_choices
    return found


def test_filters_offer_what_there_is_and_what_was_chosen(settings: LazySettings) -> None:
    names = tuple(f"client {number}" for number in range(16))
    assert [name for name, _ in offered(filters.ClientFilter, clients=names)] == list(names[:15])
    some = offered(filters.ClientFilter, "/?client=gone", clients=("", "c" * 31, "", "\ud800"))
    assert some == [("", "(no name)"), ("c" * 31, "c" * 29 + "…"), ("gone", "gone")]
    assert offered(filters.UserFilter) == [("anonymous", "Anonymous")]
    assert offered(filters.UserFilter, f"/?user={'u' * 41}")[1] == ("u" * 41, "u" * 39 + "…")
    assert offered(filters.EndpointFilter) == []
    assert offered(filters.EndpointFilter, "/?endpoint=gone") == [("default", "default"), ("gone", "gone")]
    versions = [version for version, _ in offered(filters.ProtocolFilter)]
    assert versions == sorted(versions, reverse=True)
    settings.MCP_SESSIONS = {"default": endpoint(IDLE_TTL=7_200)}
    windows = [
        ("last-120", "In the last 2 min"),
        ("last-600", "In the last 10 min"),
        ("last-1800", "In the last 30 min"),
        ("idle-3600", "Not in the last 1 h"),
    ]
    assert offered(filters.ActivityFilter) == windows
    assert offered(filters.ActivityFilter, "/?activity=odd") == [*windows, ("odd", "odd")]


@pytest.mark.parametrize(
    ("seconds", "rounded"),
    [
        (0.2, 1),
        (1.4, 1),
        (59.4, 59),
        (60, 60),
        (89, 60),
        (91, 120),
        (3_599, 3_600),
        (5_500, 7_200),
        (130_000, 172_800),
    ],
)
def test_a_window_is_as_long_as_people_say_it(seconds: float, rounded: int) -> None:
    assert filters._round(seconds) == rounded


@pytest.mark.django_db
def test_a_search_keeps_the_filter_for_clients_without_a_name(admin_client: Client) -> None:
    answer = admin_client.post(f"{LIST}find/", {"q": "goose", "list": "?client=&p=3&before=x"})
    assert answer.headers["Location"] == f"{LIST}?client=&q=goose"


@pytest.mark.parametrize(
    ("expires", "duration", "lasts"),
    [
        (None, None, True),
        (None, timedelta(hours=1), True),
        (timedelta(hours=1), None, False),
        (timedelta(hours=1), timedelta(hours=1), True),
        (timedelta(hours=1, milliseconds=-900), timedelta(hours=1), True),
        (timedelta(hours=1, seconds=-1), timedelta(hours=1), False),
        (timedelta(hours=2), timedelta(hours=1), True),
    ],
)
def test_a_block_is_made_again_only_if_it_is_to_last_longer(
    expires: timedelta | None, duration: timedelta | None, lasts: bool
) -> None:
    made = Block(created=NOW, expires=None if expires is None else NOW + expires)
    assert block_admin._lasts(made, duration) is lasts


@pytest.mark.django_db
def test_so_many_are_blocked_at_a_time(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [SimpleNamespace(alias="default", session=session(n, principal=f"user:{n}")) for n in range(3)]
    selection = SimpleNamespace(records=lambda *, most: (rows, False), cut_off_ms={"default": 0})
    modeladmin = SimpleNamespace(message_user=lambda _request, text, level: told.append((str(text), level)))
    request = admin_client.get("/admin/").wsgi_request
    for most, words in ((3, []), (2, [("2 are blocked at a time. The others were not.", 30)])):
        told: list[tuple[str, int]] = []
        Block.objects.all().delete()
        monkeypatch.setattr(block_admin, "MOST_AT_ONCE", most)
        block_admin._block(modeladmin, request, selection, "principal", None)  # type: ignore[arg-type]
        assert told == [(f"Blocked: {most}.", 25), *words]
        assert sorted(Block.objects.values_list("value", flat=True)) == [f"user:{n}" for n in range(most)]


@pytest.mark.parametrize(
    ("lookup", "value", "fits"),
    [
        ("user", "1" * 18, True),
        ("user__id", "1" * 19, False),
        ("user", "x" * 30, True),
        ("name", "1" * 30, True),
    ],
)
def test_a_key_is_as_long_as_databases_take_it(lookup: str, value: str, fits: bool) -> None:
    assert common.fits_key(lookup, "user", value) is fits


def test_the_columns_of_the_audit_say_what_is_known_of_an_entry() -> None:
    columns = AuditEntryAdmin(AuditEntry, admin.site)
    entry = AuditEntry(action="block", outcome="done", kind="block", title="a\u202eb", client="c\u202ed")
    fields = (
        "shown_action",
        "shown_outcome",
        "shown_kind",
        "record",
        "shown_client",
        "user",
        "of_job",
        "done",
    )
    assert [str(getattr(columns, field)(entry)) for field in fields] == [
        *("blocked", "done", "block", "a\ufffdb", "c\ufffdd", "", "", "blocked")
    ]
    other = AuditEntry(
        action="x", outcome="y", kind="z", principal="anonymous", principal_name="n", job_id=12_345
    )
    assert [str(getattr(columns, field)(other)) for field in fields[:6]] == [
        "x",
        "y",
        "z",
        "",
        "",
        "anonymous",
    ]
    assert columns.of_job(other) == '<a href="/admin/mcp_sessions/endingjob/12345/change/">job 12345</a>'
    assert columns.user(AuditEntry(principal="user:1", principal_name="ada")) == "ada"


@pytest.mark.parametrize(
    ("rows", "after", "goes_on"), [(50, "x", False), (49, "x", True), (1, None, False), (50, None, False)]
)
def test_a_search_goes_on_behind_a_page_that_is_not_full(rows: int, after: str | None, goes_on: bool) -> None:
    changelist = SimpleNamespace(page=SimpleNamespace(rows=[row()] * rows, after=after), list_per_page=50)
    assert RecordChangeList.goes_on.__get__(changelist) is goes_on
