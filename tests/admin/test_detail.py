"""The page of one session, and what clients write into it."""

import pytest
from django.test import Client

from tests.admin.pages import HOSTILE, LIST, action, body, confirmed, detail, history, said
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
