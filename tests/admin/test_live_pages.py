"""What the pages of what runs, of processes and of the overview show at their bounds."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.test import Client

from mcp_sessions.admin import operating
from mcp_sessions.admin import overview as overview_page
from mcp_sessions.admin.changelist import RecordChangeList
from mcp_sessions.admin.live_columns import in_words
from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import CallCancelled, DrainAsked, Notification
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import findings
from mcp_sessions.inventory.figures import DAY, Figures, ToolFigures
from mcp_sessions.inventory.overview import Overview
from mcp_sessions.records import KINDS
from tests.admin.pages import LIST, body, endpoint, said
from tests.admin.test_columns import call, detailed, node, row, shown
from tests.inventory.stores import START


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        ({"elicitation": {"url": {}}}, "asks its user (links)"),
        ({"elicitation": {"form": {}}}, "asks its user (forms)"),
        ({"elicitation": True, "sampling": [], "roots": "all"}, "nothing besides calling"),
        ({"sampling": {}}, "lets the server use its model"),
        ({"roots": {}}, "names its folders"),
        ({"roots": {"listChanged": False}}, "names its folders"),
        ({"z" * 41: {}, "b": {}, "a": 1}, f"a; b; {'z' * 39}…"),
        ({"z" * 40: {}}, "z" * 40),
    ],
)
def test_each_capability_is_said_in_words(capabilities: Mapping[str, Any], words: str) -> None:
    assert in_words(capabilities) == words


def test_names_of_calls_are_cut_wherever_they_are_shown() -> None:
    long = call(1, seconds=5, call="tools/call:" + "t" * 101)
    assert shown("in_flight", detailed(node(long))).startswith("t" * 99 + "… for ")
    assert operating._shown(long)["tool"] == "t" * 99 + "…"
    fits = replace(long, call="tools/call:" + "t" * 100)
    assert shown("in_flight", detailed(node(fits))).startswith("t" * 100 + " for ")
    assert shown("last_ended", row(last_call="tools/call:" + "t" * 61)) == "t" * 59 + "…"
    assert shown("last_ended", row(last_call="tools/call:" + "t" * 60)) == "t" * 60


def test_only_a_session_leads_to_the_page_of_a_session() -> None:
    found = {kind: operating._shown(replace(call(1, seconds=5), kind=kind))["is_session"] for kind in KINDS}
    assert found == {kind: kind == "session" for kind in KINDS}


def test_clocks_differ_by_what_they_differ() -> None:
    far = replace(node(), ahead_ms=2_499_400, host="web")
    words = "2,499 s behind that of Redis"
    assert operating._skew(far) == f"clock {words}"
    assert operating._skew(replace(far, ahead_ms=-2_499_400)).endswith("2,499 s ahead of that of Redis")
    [found] = findings.of_nodes("default", [far], now_ms=START)
    assert found.what == f"The clock of the machine web is {words}."


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Notification]]:
    """What nodes are told."""
    found: list[tuple[str, Notification]] = []
    monkeypatch.setattr(outside, "broadcast", lambda *facts: found.append(facts))
    return found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("drains", "title", "words"),
    [
        ("1", "process 7 on web", "takes on nothing new."),
        ("0", "process 7 on web, no longer", "takes on sessions and streams again."),
    ],
)
def test_each_node_of_a_process_is_told_that_it_is_drained(
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, Notification]],
    drains: str,
    title: str,
    words: str,
) -> None:
    of_it = [replace(node(), process="p", id=each) for each in ("a", "b")]
    monkeypatch.setattr(operating, "nodes_of", lambda _: [*of_it, replace(node(), process="q", id="c")])
    page = admin_client.post(f"{LIST}processes/", {"process": "p", "drains": drains}, follow=True)
    assert said(page) == [f"Process 7 on web {words}"]
    assert told == [
        ("default", DrainAsked(node=each, drains=drains == "1", by="admin")) for each in ("a", "b")
    ]
    assert (
        list(AuditEntry.objects.values_list("action", "title", "endpoint"))
        == [("drain", title, "default")] * 2
    )


@pytest.mark.django_db
def test_the_call_that_is_named_is_cancelled_and_no_other(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, Notification]]
) -> None:
    calls = [replace(call(number, seconds=5), call="tools/call:" + "t" * 101) for number in (1, 2, 11)]
    found = [node(*calls), replace(node(call(2, seconds=5, node="another")), id="another")]
    monkeypatch.setattr(operating, "nodes_of", lambda _: found)
    page = admin_client.post(f"{LIST}now/", {"cancel": "0ff1ce5000:2"}, follow=True)
    said_ = (
        f"Asked to cancel {'t' * 99}…. If it still runs, its client gets the error of a cancelled request."
    )
    assert said(page) == [said_]
    assert told == [("default", CallCancelled(node="0ff1ce5000", number=2, by="admin"))]
    assert AuditEntry.objects.get().title == f"{'t' * 99}… of {calls[1].fingerprint[:12]}"
    gone = admin_client.post(f"{LIST}now/?tool=x", {"cancel": "0ff1ce5000:3"})
    assert gone.headers["Location"] == f"{LIST}now/?tool=x"
    assert len(told) == 1


@pytest.mark.django_db
def test_a_process_that_hangs_is_not_said_to_be_drained(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, Notification]]
) -> None:
    monkeypatch.setattr(operating, "nodes_of", lambda _: [replace(node(is_silent=True), process="p")])
    page = admin_client.post(f"{LIST}processes/", {"process": "p", "drains": "1"}, follow=True)
    assert said(page) == ["Process 7 on web gives no sign of life. It hears of that if it goes on."]
    assert len(told) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("page", "posted"),
    [("now/", {"cancel": "0ff1ce5000:1"}), ("processes/", {"process": "p", "drains": "1"})],
)
def test_what_redis_does_not_take_is_not_written_down_as_done(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, page: str, posted: dict[str, str]
) -> None:
    """A full Redis answers what is read, and refuses what is written."""
    monkeypatch.setattr(operating, "nodes_of", lambda _: [replace(node(call(1, seconds=5)), process="p")])
    with monkeypatch.context() as refusing:
        refuse = Mock(side_effect=StoreUnavailable("OOM"))
        refusing.setattr(outside, "broadcast", refuse)
        assert admin_client.post(LIST + page, posted).status_code == 503
    assert AuditEntry.objects.get().outcome == "unconfirmed"
    assert admin_client.post(LIST + page, posted).status_code == 302
    assert [each.outcome for each in AuditEntry.objects.order_by("pk")] == ["unconfirmed", "done"]


@pytest.mark.django_db
def test_a_call_of_which_redis_has_lost_the_report_is_not_said_to_have_ended(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, Notification]]
) -> None:
    reported = replace(node(), started=node().seen)
    for found, words in (
        ([reported], "That call has ended."),
        ([replace(reported, id="another")], "Nothing was done: Redis knows no such process."),
        ([node()], "Nothing was done: Redis knows no such process."),
    ):
        monkeypatch.setattr(operating, "nodes_of", lambda _, found=found: found)
        page = admin_client.post(f"{LIST}now/", {"cancel": "0ff1ce5000:1"}, follow=True)
        assert said(page)[0].startswith(words)
    assert told == []


@pytest.mark.django_db
def test_processes_are_told_apart_by_endpoint_where_there_are_several(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    long = call(1, seconds=5, call="tools/call:" + "t" * 101)
    monkeypatch.setattr(operating, "nodes_of", lambda _: [node(long)])
    assert admin_client.get(f"{LIST}processes/").context["several"] is False
    assert admin_client.get(f"{LIST}now/").context["tools"] == [("t" * 101, "t" * 99 + "…")]
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    assert admin_client.get(f"{LIST}processes/").context["several"] is True
    monkeypatch.setattr(operating, "nodes_of", lambda _: [])
    page = admin_client.get(f"{LIST}processes/")
    assert (page.context["nodes"], page.context["versions"], page.context["silent"]) == ([], [], 0)
    assert admin_client.get(f"{LIST}now/", {"endpoint": "other"}).context["endpoint"] == "other"


@pytest.mark.django_db
@pytest.mark.parametrize("number", [50, 51, 53])
def test_so_many_tools_are_listed(admin_client: Client, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    tools = [
        ToolFigures(name=f"tool {n}", calls=1, failed=0, cancelled=0, p50=0, p95=0) for n in range(number)
    ]
    figures = Figures(span=DAY, now_ms=START, steps=[{"limited:a": 5, "limited:b": 20}, {}], tools=tools)
    shown_ = Overview(figures=figures, counts={}, nodes=[], servers={}, findings=[])
    asked: list[Any] = []

    def overview_of(aliases: Any, span: Any) -> Overview:
        asked.append((tuple(aliases), span.name))
        return shown_

    monkeypatch.setattr(overview_page, "overview_of", overview_of)
    page = admin_client.get(f"{LIST}overview/", {"span": "day"})
    assert (len(page.context["tools"]), page.context["more_tools"]) == (50, number - 50)
    found = re.findall(r"<p>and (\d+) more\.", body(page))
    assert found == ([str(number - 50)] if number > 50 else [])
    assert page.context["limited"] == [("b", "20", "2"), ("a", "5", "0.5")]
    assert asked == [(("default",), "day")]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("chosen", "shown_", "unknown", "asked"),
    [
        ("", "", "", ("default", "other")),
        ("other", "other", "", ("other",)),
        ("nowhere", "", "nowhere", ("default", "other")),
    ],
)
def test_the_overview_is_of_all_endpoints_or_of_one(
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    settings: LazySettings,
    chosen: str,
    shown_: str,
    unknown: str,
    asked: tuple[str, ...],
) -> None:
    found: list[tuple[str, ...]] = []

    def overview_of(aliases: Any, span: Any) -> Overview:
        found.append(tuple(aliases))
        assert span.name == "hour"
        return Overview(figures=None, counts={}, nodes=[], servers={}, findings=[])

    monkeypatch.setattr(overview_page, "overview_of", overview_of)
    assert admin_client.get(f"{LIST}overview/").context["endpoints"] == ()
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    page = admin_client.get(f"{LIST}overview/", {"endpoint": chosen, "span": "odd"}).context
    assert (page["endpoint"], page["unknown"], page["endpoints"]) == (shown_, unknown, ("default", "other"))
    assert found[1:] == [asked]


def test_what_a_list_says_of_its_counts() -> None:
    def counted(*, exact: bool, **counts: int) -> str:
        page = SimpleNamespace(total=sum(counts.values()), counts=counts, exact=exact)
        return str(RecordChangeList.counted.__get__(SimpleNamespace(page=page)))

    assert counted(exact=True, session=2) == "2 sessions"
    assert counted(exact=False, session=2, handle=1) == "at least 2 sessions and 1 handle"
    assert (counted(exact=True), counted(exact=False, session=0)) == ("0 records", "at least 0 records")
