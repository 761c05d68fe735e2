"""The audit and the jobs in the admin: who may see them, what they show, and how they are searched."""

import re
import urllib.parse
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.db import connection
from django.template import RequestContext
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from mcp_sessions import audit
from mcp_sessions.admin.audit import MOST_COUNTED
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.templatetags.mcp_sessions_user import mcp_sessions_of
from tests.admin.pages import body, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

ENTRIES = "/admin/mcp_sessions/auditentry/"
JOBS = "/admin/mcp_sessions/endingjob/"


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server", "NAMESPACE": "audit"}}


@pytest.fixture
def auditor() -> Client:
    return staff("view_auditentry", "view_endingjob", name="auditor")


def shown(response: Any) -> list[str]:
    return [entry.title for entry in response.context["cl"].result_list]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            {"alias": "gone", "query": {"kind": "session"}},
            "The endpoint “gone” is not in MCP_SESSIONS any more.",
        ),
        ({"alias": "gone", "picked": ["ab" * 32]}, "The endpoint “gone” is not in MCP_SESSIONS any more."),
        (
            {"alias": "default", "query": {"mood": "bad"}},
            "The job is of a newer release: it selects by mood.",
        ),
    ],
)
@pytest.mark.parametrize("batch", ["", "begun"])
def test_a_job_that_cannot_go_on_says_so_and_can_be_stopped(
    source: dict[str, Any], words: str, batch: str
) -> None:
    operator = staff("view_mcpsession", "expire_session", "view_endingjob")
    job = EndingJob.objects.create(
        action="force-expire",
        by="ada",
        selection={"sources": [source], "cut_off_ms": {source["alias"]: 1}},
        described="some",
        batch=batch,
    )
    audit.record(action="force-expire", by="ada", outcome="intended", endpoint="gone", batch=batch, job=job)
    page = f"{JOBS}{job.pk}/change/"
    shown = body(operator.get(page))
    assert words in shown
    assert "data-auto" not in shown
    assert operator.get(JOBS).status_code == 200
    for act in ("step", "resume"):
        assert words in body(operator.post(page, {"act": act}, follow=True))
    told = operator.post(page, {"act": "step"}, headers={"Accept": "application/json"}).json()
    assert (told["state"], told["problem"].startswith(words)) == ("running", True)
    assert "Stopped:" in body(operator.post(page, {"act": "stop"}, follow=True))
    assert EndingJob.objects.get().driver == ""


def test_who_may_see_and_nobody_may_change(auditor: Client, admin_client: Client) -> None:
    audit.record(action="drain", by="ada", title="node 1")
    entry = AuditEntry.objects.get()
    assert staff("view_mcpsession").get(ENTRIES).status_code == 403
    assert shown(auditor.get(ENTRIES)) == ["node 1"]
    assert auditor.get(f"{ENTRIES}{entry.pk}/change/").status_code == 200
    assert admin_client.get(f"{ENTRIES}add/").status_code == 403
    assert admin_client.post(f"{ENTRIES}{entry.pk}/change/", {"by": "bob"}).status_code == 403
    assert admin_client.post(f"{ENTRIES}{entry.pk}/delete/", {"post": "yes"}).status_code == 403


def test_entries_are_found_by_record_user_operator_and_principal(auditor: Client) -> None:
    ada = User.objects.create_user("ada")
    audit.record(action="block", by="bob", title="one", fingerprint="ab" * 32, principal=f"user:{ada.pk}")
    audit.record(action="block", by="ada", title="two", fingerprint="abab" + "0" * 60)
    audit.record(action="block", by="eve", title="three", principal='oauth:[null,"x"]')
    for text, titles in (
        ("ab" * 32, ["one"]),
        ("abab0000", ["two"]),
        ("ABABABAB", ["one"]),
        ("ada", ["two", "one"]),
        ('oauth:[null,"x"]', ["three"]),
        ("ad", []),
    ):
        assert shown(auditor.get(ENTRIES, {"q": text})) == titles, text


def test_entries_are_filtered(auditor: Client) -> None:
    job = EndingJob.objects.create(action="force-expire", by="ada", selection={}, described="all")
    audit.record(action="block", by="ada", title="old", when=timezone.now() - timedelta(days=3))
    audit.record(action="force-expire", by="ada", title="new", outcome="gone", kind="handle", job=job)
    for query, titles in (
        ({"when": "day"}, ["new"]),
        ({"when": "week"}, ["new", "old"]),
        ({"action": "block"}, ["old"]),
        ({"outcome": "gone"}, ["new"]),
        ({"kind": "handle", "when": "day"}, ["new"]),
        ({"job": str(job.pk)}, ["new"]),
    ):
        assert shown(auditor.get(ENTRIES, query)) == titles, query


@pytest.mark.parametrize(
    ("age", "seconds"), [("hour", 3_600), ("day", 86_400), ("week", 604_800), ("month", 2_592_000)]
)
def test_each_age_is_a_filter_to_the_minute(auditor: Client, age: str, seconds: int) -> None:
    for title, more in (("within", -60), ("before", 60)):
        when = timezone.now() - timedelta(seconds=seconds + more)
        audit.record(action="block", by="ada", title=title, when=when)
    assert shown(auditor.get(ENTRIES, {"when": age})) == ["within"]
    assert shown(auditor.get(ENTRIES, {"when": "odd"})) == ["before", "within"]


def test_only_several_endpoints_can_be_chosen_from(auditor: Client, settings: LazySettings) -> None:
    audit.record(action="block", by="ada", title="one", endpoint="default")
    audit.record(action="block", by="ada", title="two", endpoint="shop")
    assert "endpoint=" not in body(auditor.get(ENTRIES))
    settings.MCP_SESSIONS = {**settings.MCP_SESSIONS, "shop": {"SERVER": "unused", "PATH": "shop"}}
    assert 'href="?endpoint=shop"' in body(auditor.get(ENTRIES))
    assert shown(auditor.get(ENTRIES, {"endpoint": "shop"})) == ["two"]


def test_pages_count_no_further_than_they_reach(auditor: Client) -> None:
    auditor.get(ENTRIES)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        auditor.get(ENTRIES)
    counts = [each["sql"] for each in queries if "COUNT(" in each["sql"]]
    assert counts
    assert all(f"LIMIT {MOST_COUNTED}" in each for each in counts)


def test_the_page_of_a_user_leads_to_what_the_user_has(admin_client: Client) -> None:
    ada = User.objects.create_user("ada")
    mine, other = open_sessions([Opened(principal=f"user:{ada.pk}"), Opened()])
    page = body(admin_client.get(f"/admin/auth/user/{ada.pk}/change/"))
    end = f"/admin/mcp_sessions/mcpsession/of-user/{ada.pk}/force-expire/"
    assert f'href="{end}"' in page
    assert 'href="/admin/mcp_sessions/mcpsession/?user=ada"' in page
    asked = body(admin_client.get(end))
    assert mine.fingerprint[:12] in asked
    assert other.fingerprint[:12] not in asked
    ended = body(admin_client.post(end, {"post": "yes", "reason": "gone"}, follow=True))
    assert "There is nothing to end." in ended
    assert "already gone" not in ended, "as if somebody else had done it"
    assert list(AuditEntry.objects.values_list("fingerprint", "reason")) == [(mine.fingerprint, "gone")]


def test_the_history_shows_a_kind_that_only_another_release_knows(admin_client: Client) -> None:
    audit.record(action="force-expire", by="ada", fingerprint="ab" * 32, kind="dream", title="a dream")
    page = admin_client.get(f"/admin/mcp_sessions/mcpsession/{'ab' * 32}/history/")
    assert "Kind: dream." in body(page)


@pytest.mark.parametrize("key", ["anna_2F5", "staff/anna", "änna b", "5f2b0c9e-7d0c-4d0f-9d57-6a3f9e1f3c11"])
def test_a_user_with_any_key_is_linked(admin_client: Client, key: str) -> None:
    """Models of users have keys that the admin quotes in addresses: texts with underscores or slashes."""
    request = admin_client.get("/admin/").wsgi_request
    links = mcp_sessions_of(RequestContext(request), User(pk=key, username="anna"))
    found = re.search(r'href="([^"]*/of-user/[^"]*)"', links)
    assert found is not None
    assert unquote(resolve(urllib.parse.unquote(found[1])).kwargs["user_id"]) == key


def test_the_page_of_a_user_offers_only_what_is_allowed() -> None:
    ada = User.objects.create_user("ada")
    url = f"/admin/auth/user/{ada.pk}/change/"
    assert "MCP sessions</a>" not in body(staff("view_user", name="one").get(url))
    viewer = staff("view_user", "view_mcpsession", name="two")
    assert "End MCP sessions" not in body(viewer.get(url))
    end = f"/admin/mcp_sessions/mcpsession/of-user/{ada.pk}/force-expire/"
    assert (viewer.get(end).status_code, viewer.post(end).status_code) == (403, 403)


@pytest.mark.parametrize("has_separators", [False, True])
def test_numbers_for_browsers_and_shells_are_no_numbers_for_people(
    settings: LazySettings, has_separators: bool
) -> None:
    settings.USE_THOUSAND_SEPARATOR = has_separators
    selection = {"sources": [{"alias": "default", "picked": ["ab" * 32]}], "cut_off_ms": {"default": 1}}
    job = EndingJob.objects.create(
        pk=12_345, action="force-expire", by="olga", selection=selection, expected=23_456, ended=1_234
    )
    operator = staff("view_mcpsession", "expire_session", "view_auditentry", name="operator")
    page = body(operator.get(f"{JOBS}{job.pk}/change/"))
    assert 'max="23456" value="1234"' in page
    assert 'id="mcp-ended">1,234</strong> of <span id="mcp-expected">23,456</span>' in page
    assert "jobs resume 12345</code>" in page
    listed = body(operator.get(JOBS))
    assert (listed.count(">1,234<"), listed.count(">23,456<")) == (1, 1)
    [entries] = re.findall(r'href="(/admin/[^"]*\?job=[^"]*)"', page)
    assert operator.get(entries).status_code == 200, "not the error of a number that cannot be read"
