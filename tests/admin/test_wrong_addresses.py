"""What an address or a command names wrongly, and what is left of an endpoint that was removed, breaks no page."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from mcp_sessions import audit
from mcp_sessions.audit.models import STOPPED, EndingJob
from mcp_sessions.models import Block
from mcp_sessions.tokens import create_token
from tests.admin.pages import LIST

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

HUGE = "9" * 30
VALUES = ("gone", "a\0b", HUGE)
CHANGELIST = ("q", "o", "p", "e", "all", "_facets", "foo", "pk")
#: Page -> the parameters that it may take for its own.
PARAMETERS = {
    LIST: (
        "endpoint",
        "kind",
        "label",
        "client",
        "protocol",
        "user",
        "activity",
        "state",
        "after",
        *CHANGELIST,
    ),
    f"{LIST}now/": ("endpoint", "tool"),
    f"{LIST}overview/": ("endpoint", "span"),
    f"{LIST}processes/": ("foo",),
    f"{LIST}end-all/": ("foo",),
    f"{LIST}find/": ("q",),
    "/admin/mcp_sessions/auditentry/": ("job", "fingerprint", "when", "action", "endpoint", *CHANGELIST),
    "/admin/mcp_sessions/endingjob/": CHANGELIST,
    "/admin/mcp_sessions/block/": ("lifted", "kind", *CHANGELIST),
    "/admin/mcp_sessions/personaltoken/": ("user", "user__id", "revoked", *CHANGELIST),
}


@pytest.fixture
def left_of_gone() -> dict[str, Any]:
    """What remains of an endpoint that the settings do not have, by the path of its pages."""
    user = User.objects.create_user("ada")
    selection = {"sources": [{"alias": "gone", "query": {"kind": "session"}}], "cut_off_ms": {"gone": 1}}
    return {
        "auditentry": audit.record(action="drain", by="ada", endpoint="gone", fingerprint="ab" * 32),
        "endingjob": EndingJob.objects.create(
            action="end-all", by="ada", selection=selection, described="all"
        ),
        "block": Block.objects.create(kind="client", value="rude", endpoint="gone", by="ada"),
        "personaltoken": create_token(user, endpoint="gone")[0],
    }


@pytest.mark.parametrize("page", PARAMETERS)
def test_no_parameter_breaks_a_page(admin_client: Client, page: str) -> None:
    for name in PARAMETERS[page]:
        for value in VALUES:
            status = admin_client.get(page, {name: value}).status_code
            assert status in (200, 302, 400), (name, value, status)


@pytest.mark.parametrize(
    "address",
    ["auditentry/?endpoint=", "auditentry/?fingerprint=", "endingjob/?by=", "block/?kind=", "block/?by="],
)
def test_no_database_is_asked_for_what_it_does_not_take(admin_client: Client, address: str) -> None:
    """PostgreSQL refuses NUL."""
    assert admin_client.get(f"/admin/mcp_sessions/{address}a%00b").status_code == 400
    assert admin_client.get(f"/admin/mcp_sessions/{address}ab").status_code in (200, 302)


def test_pages_of_what_is_left_of_a_removed_endpoint_open(
    admin_client: Client, left_of_gone: dict[str, Any]
) -> None:
    for model, made in left_of_gone.items():
        for page in ("", f"{made.pk}/change/", f"{made.pk}/history/"):
            response = admin_client.get(f"/admin/mcp_sessions/{model}/{page}")
            assert response.status_code == 200, (model, page)
        for pk in (HUGE, "x", "-1", "_00"):
            response = admin_client.get(f"/admin/mcp_sessions/{model}/{pk}/change/")
            assert response.status_code in (302, 404), (model, pk)
    for pk in (HUGE, "x", "-1"):
        assert admin_client.get(f"{LIST}of-user/{pk}/force-expire/").status_code == 404
        assert admin_client.get(f"{LIST}{pk}/change/").status_code == 302
    lift = {"action": "lift", "_selected_action": [left_of_gone["block"].pk]}
    assert admin_client.post("/admin/mcp_sessions/block/", lift).status_code == 302
    revoke = {"action": "revoke", "_selected_action": [left_of_gone["personaltoken"].pk]}
    assert admin_client.post("/admin/mcp_sessions/personaltoken/", revoke).status_code == 302


@pytest.mark.parametrize(
    "posted",
    [
        ("", {"action": "nothing", "_selected_action": ["x"]}),
        ("", {"action": "force_expire", "_selected_action": ["x", "a\0b"], "post": "yes", "cut_off": "[1]"}),
        ("?endpoint=gone", {"action": "force_expire", "_selected_action": ["x"], "select_across": "1"}),
        (
            "?kind=x",
            {"action": "force_expire", "_selected_action": ["x"], "select_across": "1", "post": "yes"},
        ),
        ("now/", {"cancel": "x"}),
        ("processes/", {"process": HUGE, "drains": "x"}),
        ("end-all/", {"endpoint": ["gone"]}),
        ("find/", {"q": "a\0b", "list": "?foo=1"}),
        ("find/", {"q": "9" * 5_000}),
    ],
)
def test_no_form_breaks_a_page(admin_client: Client, posted: tuple[str, dict[str, Any]]) -> None:
    path, data = posted
    assert admin_client.post(LIST + path, data, follow=True).status_code in (200, 400)


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--endpoint", "gone"),
        ("list", "--kind", "x"),
        ("list", "--limit", "0"),
        ("list", "--user", "nobody"),
        ("list", "--idle-for", "soon"),
        ("show", "x"),
        ("expire",),
        ("expire", "--endpoint", "gone", "--yes"),
        ("expire-all", "--endpoint", "gone"),
        ("jobs", "resume", HUGE),
        ("jobs", "stop", "0"),
        ("unblock", HUGE),
        ("block", "client", "x", "--endpoint", "gone"),
        ("block", "address", "x"),
        ("block", "client", "x", "--for", "0h"),
        ("token", "create", "nobody"),
        ("token", "revoke", "x"),
        ("list", "--limit", HUGE + "."),
        ("list", "--limit", HUGE * 200),
        ("unblock", "x"),
        ("watch", "--interval", "x"),
        ("watch", "--interval", "nan"),
        ("stats", "--span", "x"),
        ("nodes", "--endpoint", "gone"),
    ],
)
def test_what_a_command_is_told_wrongly_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("mcp_sessions", *words, stdout=StringIO(), stderr=StringIO(), skip_checks=True)
    assert "invalid _" not in str(caught.value), "the name of a function says nothing to operators"


def test_commands_show_and_end_what_is_left_of_a_removed_endpoint(left_of_gone: dict[str, Any]) -> None:
    def run(*words: str) -> str:
        out = StringIO()
        call_command("mcp_sessions", *words, stdout=out, skip_checks=True)
        return out.getvalue()

    block, token, job = (left_of_gone[name] for name in ("block", "personaltoken", "endingjob"))
    assert "rude" in run("blocks")
    run("unblock", str(block.pk))
    assert "rude" not in run("blocks")
    assert token.prefix in run("token", "list")
    run("token", "revoke", token.prefix)
    token.refresh_from_db()
    assert token.revoked is not None
    assert f"{job.pk}" in run("jobs", "list", "--all")
    run("jobs", "stop", str(job.pk))
    job.refresh_from_db()
    assert job.state == STOPPED
    run("prune")
    assert EndingJob.objects.filter(pk=job.pk).exists(), "it is not old enough"
