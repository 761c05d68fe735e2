"""What the pages ask that end records, how much they name, and what Django's log says afterwards."""

import re
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.test import Client

from mcp_sessions.admin import actions, confirming
from mcp_sessions.audit.models import EndingJob
from tests.admin.pages import LIST, action, alive, body, confirmed, detail, endpoint, said
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}
    monkeypatch.setattr(confirming, "MAX_NAMED", 2)


def asked(page: Any) -> dict[str, Any]:
    names = (
        "counted",
        "counted_records",
        "more",
        "total",
        "left",
        "gone",
        "across",
        "several_endpoints",
        "is_action",
    )
    return {name: page.context[name] for name in names}


def test_a_page_names_some_and_counts_the_others(admin_client: Client) -> None:
    opened = open_sessions([Opened(client=f"client {n}") for n in range(3)])
    gone = Opened()
    page = admin_client.post(LIST, action(*opened, gone))
    assert asked(page) == {
        "counted": "3 sessions",
        "counted_records": "3 records",
        "more": 1,
        "total": 3,
        "left": 0,
        "gone": 1,
        "across": False,
        "several_endpoints": False,
        "is_action": True,
    }
    assert [each.pk for each in page.context["named"]] == [each.fingerprint for each in opened[:0:-1]]
    assert set(page.context["picked"]) == {each.fingerprint for each in opened}
    assert page.context["only_kind"][1] == "sessions"
    assert len(page.context["stranded"]) == 3
    hidden = re.findall(r'name="_selected_action" value="([^"]*)"', body(page))
    assert set(hidden) == {each.fingerprint for each in opened}


def test_a_page_for_all_pages_has_one_checkbox_and_names_as_many(
    admin_client: Client, settings: LazySettings
) -> None:
    opened = open_sessions([Opened() for _ in range(3)])
    open_sessions([Opened(kind="caller"), Opened(kind="caller")])
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    page = admin_client.post(LIST, action(opened[0], select_across="1"))
    found = asked(page)
    assert (found["counted"], found["more"], found["total"]) == ("3 sessions and 2 callers", 3, 5)
    assert (found["across"], found["several_endpoints"]) == (True, True)
    assert (len(page.context["named"]), len(page.context["picked"])) == (2, 1)
    assert page.context["only_kind"] is None
    assert len(page.context["consequences"]) == 2
    user = User.objects.get(username="admin")
    open_sessions([Opened(principal=f"user:{user.pk}")])
    mine = admin_client.get(f"{LIST}of-user/{user.pk}/force-expire/")
    assert (mine.context["picked"], mine.context["is_action"], mine.context["total"]) == ([], False, 1)
    assert admin_client.get(f"{LIST}of-user/999/force-expire/").status_code == 404
    assert admin_client.get(f"{LIST}of-user/x/force-expire/").status_code == 404


@pytest.mark.parametrize("number", [1, 2])
def test_djangos_log_names_a_record_if_it_is_the_only_one(admin_client: Client, number: int) -> None:
    opened = open_sessions([Opened() for _ in range(number)])
    admin_client.post(LIST, confirmed(*opened, reason=" a leak "))
    [entry], job = LogEntry.objects.all(), EndingJob.objects.get()
    assert entry.object_id == (opened[0].fingerprint if number == 1 else "")
    assert (entry.action_flag, entry.object_repr, job.reason) == (DELETION, job.described, "a leak")
    assert entry.change_message == f"Force-expired: {job.described}, job {job.pk}. Reason: a leak"
    assert not any(map(alive, opened))


def test_what_became_of_a_job_is_said(admin_client: Client) -> None:
    one, gone = open_sessions([Opened()]), Opened()
    assert said(admin_client.post(LIST, confirmed(gone), follow=True)) == ["1 record was already gone."]
    both = admin_client.post(LIST, confirmed(*one, gone), follow=True)
    assert said(both) == [
        "Force-expired 1 session. No node serves it any more.",
        "1 record was already gone.",
    ]
    nothing = admin_client.post(f"{LIST}?client=none", confirmed(gone, select_across="1"), follow=True)
    assert said(nothing) == ["Nothing was left to end."]
    assert actions.already_gone(1_234) == "1,234 records were already gone."


def test_the_sections_of_a_page_are_those_of_its_kind(admin_client: Client) -> None:
    [session] = open_sessions([Opened(state={"a": 1})])
    titles = re.findall(r"<h2[^>]*>\s*([^<]+?)\s*</h2>", body(admin_client.get(detail(session))))
    assert titles[1:] == [*("Now", "Activity", "Last requests", "Chosen by the client", "State", "Its user")]


def test_nothing_to_end_is_said_for_each_endpoint(admin_client: Client, settings: LazySettings) -> None:
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    open_sessions([Opened()])
    page = admin_client.get(f"{LIST}end-all/")
    assert page.context["endpoints"] == [("default", "1 session"), ("other", "no open session")]
    done = admin_client.post(f"{LIST}end-all/", {"endpoint": ["other", "default"]}, follow=True)
    assert [text.partition(" of ")[0].partition(" that ")[0] for text in said(done)] == [
        *("Session ids", "Ended 1 session", "Session ids")
    ]
    assert done.redirect_chain == [(LIST, 302)]
    [first, second] = LogEntry.objects.order_by("pk")
    assert [each.change_message.partition(",")[0] for each in (first, second)] == [
        *("End of all sessions of default", "End of all sessions of other")
    ]
