"""The page of one session, and what clients write into it."""

import html
import json
import re

import pytest
from django.test import Client
from django_redis import get_redis_connection

from mcp_sessions import blocks
from mcp_sessions.admin.live_columns import in_words
from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.store.calls import nodes, recent, sessions, subscriptions
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import HOSTILE, LIST, action, body, confirmed, detail, history, said, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def test_the_detail_page_shows_everything_and_changes_nothing(viewer: Client) -> None:
    [session] = open_sessions(
        [
            Opened(
                capabilities={"sampling": {"tools": {}}},
                client_info={"title": "The Inspector"},
                state={"facts": ["one", "two"], "long": "x" * 5000},
                tools=("archive",),
                log_level="warning",
                calls=("tools/call:remember",),
            )
        ]
    )
    page = body(viewer.get(detail(session)))
    for words in (
        session.fingerprint,
        "tools/call:remember",
        "archive",
        "warning",
        "in operation",
        "The Inspector",
    ):
        assert words in page
    assert "&quot;sampling&quot;: {" in page
    assert "[&quot;one&quot;, &quot;two&quot;]" in page
    assert "x" * 300 in page
    assert "x" * 500 not in page
    assert "<td>5,002</td>" in page
    assert 'name="_save"' not in page


def test_the_page_lists_the_resources_that_the_client_subscribes_to(viewer: Client) -> None:
    [session] = open_sessions([Opened()])
    store = sync_store_for("default")
    assert "none</span>" in resources_of(viewer, session)
    for uri in ("book://2", f"book://{HOSTILE}"):
        store.run(subscriptions.subscribe(session.fingerprint, uri, max_subscriptions=9))
    shown = resources_of(viewer, session)
    assert "<li><code>book://2</code></li><li><code>book://&lt;script&gt;" in shown
    store.run(sessions.end(session.fingerprint, principal=None, reason="deleted"))
    assert store.run(subscriptions.resources(session.fingerprint)) == []


def resources_of(viewer: Client, session: Opened) -> str:
    """What the page says of them."""
    page = body(viewer.get(detail(session)))
    return page.partition("Subscribed resources")[2].partition("What it can do")[0]


def test_who_may_not_read_state_sees_names_and_sizes() -> None:
    [session] = open_sessions([Opened(state={"facts": ["a secret"], "more": 1})])
    page = body(staff("view_mcpsession").get(detail(session)))
    assert "facts" in page
    assert "<td>12</td>" in page
    assert "a secret" not in page
    assert "Value" not in page


def test_the_page_says_what_the_last_requests_did_and_which_other_sessions_the_user_has(
    viewer: Client,
) -> None:
    owner = 'oauth:["https://login.example.com","ada"]'
    session, other = open_sessions([Opened(principal=owner), Opened(principal=owner, client="second")])
    past = recent.Past(1_800_000_000_000, 1234, "tool error", "ab12cd34", "tools/call:<b>sum</b>")
    sync_store_for("default").run(recent.note(session.fingerprint, [past], failed=1, most=50))
    page = body(viewer.get(detail(session)))
    assert "1 ended, 1 of them failed" in page
    assert "&lt;b&gt;sum&lt;/b&gt;" in page
    assert "1,234" in page
    assert detail(other) in page
    assert "none has ended" in body(viewer.get(detail(other)))


def test_an_operator_sends_a_test_notification(operator: Client, viewer: Client) -> None:
    [session] = open_sessions([Opened()])
    assert viewer.post(detail(session), {"notify": "1"}).status_code == 403
    page = operator.post(detail(session), {"notify": "1"}, follow=True)
    assert "on its way" in said(page)[0]
    with get_redis_connection("default") as redis:
        assert len(list(redis.scan_iter(f"*{session.fingerprint}*:stream:standalone"))) == 1


def test_capabilities_are_told_in_words() -> None:
    assert in_words({}) == "nothing besides calling"
    assert in_words({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "x": 1}) == (
        "asks its user (forms and links); lets the server use its model with tools; x"
    )
    assert in_words({"roots": {"listChanged": True}, "elicitation": {}}) == (
        "asks its user (forms); names its folders and tells of changes"
    )


def test_a_session_that_never_was_leads_back_to_the_list(viewer: Client) -> None:
    for unknown in ("f" * 64, "nonsense", "_3C_script_3E_"):
        response = viewer.get(f"{LIST}{unknown}/change/", follow=True)
        assert response.redirect_chain == [(LIST, 302)]
        assert "record no longer exists" in said(response)[0]


def test_no_page_runs_what_a_client_calls_itself(operator: Client) -> None:
    [session] = open_sessions(
        [
            Opened(
                client=HOSTILE,
                client_version=HOSTILE,
                client_info={"title": HOSTILE},
                capabilities={"experimental": {HOSTILE: {HOSTILE: 1}}},
                principal=f'oauth:["{"x" * 5}","<script>alert(3)</script>"]',
                state={HOSTILE: HOSTILE},
                calls=(f"tools/call:{HOSTILE}",),
                tools=(HOSTILE,),
            )
        ]
    )
    pages = [
        operator.get(LIST),
        operator.get(LIST, {"q": HOSTILE}),
        operator.get(LIST, {"client": HOSTILE}),
        operator.get(detail(session)),
        operator.post(LIST, action(session)),
        operator.post(LIST, confirmed(session), follow=True),
        operator.get(history(session)),
        operator.get("/admin/"),
    ]
    for page in pages:
        text = body(page)
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;" in text, "the name is shown, escaped"


def test_a_client_cannot_hide_in_control_characters(viewer: Client) -> None:
    open_sessions([Opened(client="good\u202etxt.exe\x00\ud800", client_version="\n" * 50)])
    assert "good\N{REPLACEMENT CHARACTER}txt.exe" in body(viewer.get(LIST))


def test_nor_can_it_where_it_is_written_down(admin_client: Client) -> None:
    name = "good\u202etxt.exe"
    [session] = open_sessions([Opened(client=name)])
    admin_client.post(LIST, confirmed(session))
    block = blocks.block("client", name, duration=None, by="admin")
    ours = "/admin/mcp_sessions"
    for page in (
        f"{ours}/auditentry/",
        *(f"{ours}/auditentry/{entry.pk}/change/" for entry in AuditEntry.objects.all()),
        history(session),
        f"{ours}/endingjob/",
        f"{ours}/block/",
        f"{ours}/block/{block.pk}/change/",
    ):
        shown = body(admin_client.get(page))
        assert "\u202e" not in shown, page
        assert "good\N{REPLACEMENT CHARACTER}txt.exe" in shown, page
    assert str(block) == "client good\N{REPLACEMENT CHARACTER}txt.exe"


def test_no_call_can_keep_the_page_of_what_runs_from_being_shown(operator: Client) -> None:
    """JSON can name a tool as no page can: with half of a surrogate pair."""
    [session] = open_sessions([Opened()])
    calls = [
        [number, "session", session.fingerprint, f"tools/call:{tool}", "anonymous", tool, tool, 1]
        for number, tool in enumerate(("half \ud800", "good\u202etxt.exe", HOSTILE, "slow"))
    ]
    told = json.dumps({"host": "web", "pid": 7, "calls": len(calls), "running": calls})
    sync_store_for("default").run(nodes.report("0ff1ce5", told=told))
    page = operator.get(f"{LIST}now/")
    options = re.findall(r"<option[^>]*>([^<]*)", body(page))
    assert options == ["all", html.escape(HOSTILE), "good\N{REPLACEMENT CHARACTER}txt.exe", "slow"]
    for chosen in ("slow", HOSTILE, "gone"):
        assert f'value="{html.escape(chosen)}" selected' in body(
            operator.get(f"{LIST}now/", {"tool": chosen})
        )
