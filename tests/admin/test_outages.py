"""Every page that reads the store explains an outage, and the pages of jobs say what a job is held up by."""

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpResponseRedirect
from django.test import Client
from django.utils import timezone

from mcp_sessions.admin import actions, confirming, of_user
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.jobs import driving
from tests.admin.pages import (
    LIST,
    NOT_KNOWN,
    action,
    alive,
    body,
    confirmed,
    detail,
    endpoint,
    history,
    said,
    staff,
)
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

JOBS = "/admin/mcp_sessions/endingjob/"


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


@pytest.fixture
def away(settings: LazySettings, in_memory: None) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }


@pytest.mark.usefixtures("away")
def test_each_page_that_reads_the_store_explains_an_outage(
    admin_client: Client, settings: LazySettings
) -> None:
    unknown, user = Opened(), User.objects.create_user("ada")
    of_user = f"{LIST}of-user/{user.pk}/force-expire/"
    pages = [
        *(LIST, detail(unknown), history(unknown), of_user),
        *(f"{LIST}{page}/" for page in ("end-all", "export/csv", "now", "processes")),
    ]
    answers = [admin_client.get(page) for page in pages]
    posts: dict[str, Any] = {
        LIST: action(unknown),
        of_user: {"post": "yes"},
        detail(unknown): {"notify": "1"},
        f"{LIST}find/": {"q": "abababab"},
        f"{LIST}now/": {"cancel": "x"},
        f"{LIST}processes/": {"process": "x"},
    }
    answers += [admin_client.post(page, data) for page, data in posts.items()]
    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.request["PATH_INFO"]
        assert "Show only the records of one endpoint" not in body(answer)
    settings.MCP_SESSIONS |= {"other": endpoint(PATH="other")}
    assert '?endpoint=other">other</a>' in body(admin_client.get(LIST))


def job(**more: Any) -> EndingJob:
    selection = {
        "sources": [{"alias": "default", "query": {"kind": "session"}}],
        "cut_off_ms": {"default": 1},
    }
    return EndingJob.objects.create(**{"action": "force-expire", "by": "ada", "selection": selection} | more)


GONE = {"sources": [{"alias": "gone", "query": {"kind": "session"}}], "cut_off_ms": {"gone": 1}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ["goes_on", "is_open"]),
        ({"state": "stopping"}, ["goes_on", "is_open"]),
        ({"state": "stopped"}, ["is_stopped"]),
        ({"state": "done"}, ["is_done"]),
        ({"driven_until": timedelta(minutes=1)}, ["goes_on", "is_open", "is_driven"]),
        ({"driven_until": timedelta(minutes=-1)}, ["goes_on", "is_open"]),
        ({"selection": GONE}, ["is_open"]),
        ({"selection": GONE, "state": "done"}, ["is_done"]),
    ],
    ids=str,
)
def test_the_page_of_a_job_says_how_it_is(
    admin_client: Client, facts: dict[str, Any], expected: list[str]
) -> None:
    if "driven_until" in facts:
        facts = facts | {"driven_until": timezone.now() + facts["driven_until"]}
    page = admin_client.get(f"{JOBS}{job(**facts).pk}/change/")
    flags = ("goes_on", "is_open", "is_stopped", "is_done", "is_driven")
    assert [name for name in flags if page.context[name]] == expected
    assert page.context["may_act"] is True
    hindered = facts.get("selection") is GONE and facts.get("state") != "done"
    assert ("is not in MCP_SESSIONS any more" in page.context["problem"]) is hindered
    viewer = staff("view_endingjob").get(f"{JOBS}{EndingJob.objects.get().pk}/change/")
    assert viewer.context["may_act"] is False


@pytest.mark.parametrize(("state", "shown"), [("running", "It is stuck."), ("done", "It is stuck.")])
def test_what_held_a_job_up_is_shown(admin_client: Client, state: str, shown: str) -> None:
    made = job(problem="It is stuck.", state=state)
    assert admin_client.get(f"{JOBS}{made.pk}/change/").context["problem"] == shown


def test_a_failure_is_told_once_to_the_page_or_to_whoever_reads_it(admin_client: Client) -> None:
    """The script of the page shows it itself: as a message it would come up again on the next page."""
    page = f"{JOBS}{job().pk}/change/"
    failing = mock.patch.object(driving, "drive", side_effect=StoreUnavailable("away"))
    with failing:
        told = admin_client.post(page, {"act": "step"}, headers={"Accept": "application/json"})
    assert told.json() == {"state": "running", "ended": 0, "gone": 0, "expected": 0, "problem": ""}
    assert said(admin_client.get(page)) == []
    with failing:
        assert said(admin_client.post(page, {"act": "step"}, follow=True)) == ["away"]
    EndingJob.objects.update(problem="The store is away.")
    with failing:
        assert said(admin_client.post(page, {"act": "step"}, follow=True)) == ["The store is away."]
    assert admin_client.get(f"{JOBS}999/change/").status_code == 404


def test_the_page_of_the_last_job_that_takes_longer_is_shown(
    admin_client: Client, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MCP_SESSIONS = {name: endpoint(PATH=name) for name in ("a", "b", "c")}
    answers = {"a": HttpResponseRedirect("/a"), "b": HttpResponseRedirect("/b"), "c": None}

    def carry_out(_pages: Any, _request: Any, job: EndingJob, _words: Any) -> Any:
        return answers[job.selection["sources"][0]["alias"]]

    monkeypatch.setattr(actions, "carry_out", carry_out)
    for chosen, address in ((["a", "b", "c"], "/b"), (["a", "c"], "/a"), (["c"], LIST)):
        answer = admin_client.post(f"{LIST}end-all/", {"endpoint": chosen})
        assert answer.headers["Location"] == address


def test_nothing_happens_where_requests_are_transactions(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intentions would not be in the database before the ends: the page of the job goes on with it."""
    [session] = open_sessions([Opened()])
    settings_of_it = mock.Mock(settings_dict={"ATOMIC_REQUESTS": True})
    monkeypatch.setattr(actions, "connections", {"default": settings_of_it})
    answer = admin_client.post(LIST, confirmed(session))
    made = EndingJob.objects.get()
    assert answer.headers["Location"] == f"{JOBS}{made.pk}/change/"
    assert (made.state, alive(session)) == ("running", True)


@pytest.mark.parametrize("facts", [[1, 2], [{"sources": [], "cut_off_ms": {}}, 0, 0, "x", 5], {}])
def test_what_another_release_has_signed_is_not_taken_for_a_selection(
    admin_client: Client, facts: Any
) -> None:
    [session] = open_sessions([Opened()])
    text = signing.dumps(facts, salt=confirming._SALT, compress=True)
    page = admin_client.post(LIST, confirmed(session, confirmed=text), follow=True)
    assert said(page)[0].startswith("Nothing was done: what you confirmed cannot be read any more.")
    assert alive(session)


def test_a_process_without_a_name_is_not_drained_and_only_sessions_get_a_test_notification(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcp_sessions.store.calls import nodes
    from mcp_sessions.store.factory import sync_store_for

    told = json.dumps({"host": "web", "pid": 7, "version": "1"})
    sync_store_for("default").run(nodes.report("0ff1ce5", told=told))
    for posted in ({}, {"process": ""}, {"process": "gone", "drains": "1"}):
        page = admin_client.post(f"{LIST}processes/", posted, follow=True)
        assert said(page) == [NOT_KNOWN]
    handle, session = open_sessions([Opened(kind="user"), Opened()])
    assert said(admin_client.post(detail(handle), {"notify": "1"}, follow=True)) == []
    monkeypatch.setattr("mcp_sessions.messages.send", lambda *_, **__: False)
    assert said(admin_client.post(detail(session), {"notify": "1"}, follow=True)) == ["The session is gone."]


def test_a_key_that_no_user_can_have_is_that_of_no_user(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user model may have keys of its own, such as UUIDs, and say so of a text that is none."""
    user = User.objects.create_user("ada")

    def refuse(**_: Any) -> None:
        raise ValidationError("no UUID")

    page = f"{LIST}of-user/{user.pk}/force-expire/"
    assert admin_client.get(page).status_code == 200
    with monkeypatch.context() as patched:
        users = SimpleNamespace(DoesNotExist=User.DoesNotExist, _default_manager=SimpleNamespace(get=refuse))
        patched.setattr(of_user, "get_user_model", lambda: users)
        assert admin_client.get(page).status_code == 404
