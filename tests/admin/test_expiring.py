"""Force-expiring in the admin: what is asked first, what ends, and who learns of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, action, alive, answer, body, confirmed, detail, history, listed, said
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def test_expiring_asks_first(operator: Client) -> None:
    one, two, other = open_sessions([Opened(client="one"), Opened(client="two"), Opened(client="other")])
    page = body(operator.post(LIST, action(one, two, index="0")))
    assert "force-expire these 2 sessions?" in page
    assert one.fingerprint[:12] in page
    assert "two 1.0" in page
    assert other.fingerprint[:12] not in page
    assert alive(one)
    assert LogEntry.objects.count() == 0


def test_confirmed_sessions_end_and_others_go_on(operator: Client) -> None:
    one, two, other = open_sessions([Opened(), Opened(), Opened()])
    response = operator.post(LIST, confirmed(one, two), follow=True)
    assert [alive(session) for session in (one, two, other)] == [False, False, True]
    assert listed(response) == [other.fingerprint]
    assert said(response) == ["Force-expired 2 sessions. No node serves them any more."]


def test_each_ended_session_is_in_the_audit_and_each_action_in_djangos_log(operator: Client) -> None:
    ada = User.objects.create_user("ada")
    one, two = open_sessions([Opened(client="one", principal=f"user:{ada.pk}"), Opened(client="two")])
    operator.post(LIST, confirmed(one, two, reason="a leak"))
    entry = AuditEntry.objects.get(fingerprint=one.fingerprint)
    assert AuditEntry.objects.filter(fingerprint=two.fingerprint).count() == 1
    assert (entry.by, entry.outcome, entry.reason) == ("operator", "ended", "a leak")
    assert (entry.title, entry.client, entry.principal_name) == (
        f"{one.fingerprint[:12]} (one 1.0)",
        "one",
        "ada",
    )
    logged = LogEntry.objects.get()
    assert (logged.user.get_username(), logged.action_flag) == ("operator", DELETION)
    assert logged.content_type == ContentType.objects.get(app_label="mcp_sessions", model="mcpsession")
    assert logged.object_repr == "2 selected"
    assert logged.change_message == f"Force-expired: 2 selected, {entry.job}. Reason: a leak"


def test_the_history_outlives_the_session(operator: Client) -> None:
    [session] = open_sessions([Opened(client="one")])
    assert operator.get(history(session)).status_code == 200
    operator.post(LIST, confirmed(session))
    assert "Force-expired. Kind: session. Client: one." in body(operator.get(history(session)))
    after = operator.get(detail(session), follow=True)
    assert after.redirect_chain == [(history(session), 302)]
    assert said(after)[-1] == "This record was force-expired; see below."


def test_the_page_of_one_session_can_expire_it(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    page = body(operator.get(detail(session)))
    assert "Force-expire this session" in page
    assert f'action="{LIST}"' in page
    assert f'name="_selected_action" value="{session.fingerprint}"' in page
    assert "force-expire this session?" in body(operator.post(LIST, action(session)))


def test_sessions_that_ended_in_the_meantime_are_told_apart(operator: Client) -> None:
    one, two = open_sessions([Opened(), Opened()])
    sync_store_for("default").run(sessions.end(two.fingerprint, principal=None, reason="expired_by_operator"))
    page = body(operator.post(LIST, action(one, two)))
    assert "1 of the selected records is already gone" in page
    response = operator.post(LIST, confirmed(one, two), follow=True)
    assert said(response)[1] == "1 record was already gone."
    assert AuditEntry.objects.count() == 1


def test_nothing_left_to_end_offers_the_way_back(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    sync_store_for("default").run(
        sessions.end(session.fingerprint, principal=None, reason="expired_by_operator")
    )
    page = body(operator.post(LIST, action(session)))
    assert "already gone" in page
    assert "Yes, I’m sure" not in page
    assert said(operator.post(LIST, confirmed(session), follow=True)) == ["1 record was already gone."]


def test_all_pages_can_be_selected_and_only_what_the_filter_shows_ends(operator: Client) -> None:
    wanted = open_sessions([Opened(client="leaky") for _ in range(120)])
    [other] = open_sessions([Opened(client="other")])
    page = body(operator.post(f"{LIST}?client=leaky", action(wanted[0], select_across="1", index="0")))
    assert "force-expire all 120 sessions" in page
    assert "and 70 more" in page
    assert page.count('name="_selected_action"') == 1
    response = operator.post(f"{LIST}?client=leaky", confirmed(wanted[0], select_across="1"), follow=True)
    assert said(response) == ["Force-expired 120 sessions. No node serves them any more."]
    assert not any(alive(session) for session in wanted)
    assert alive(other)
    assert AuditEntry.objects.filter(outcome="ended").count() == 120
    assert LogEntry.objects.count() == 1


def test_what_joins_the_list_after_the_question_is_not_ended(operator: Client) -> None:
    """Also if it is selected with everything else, and however often clients come back."""
    first = open_sessions([Opened() for _ in range(7)])
    asked = operator.post(LIST, action(first[0], select_across="1"))
    assert "What joins it from now on is not ended" in body(asked)
    returned = open_sessions([Opened() for _ in range(3)])
    response = operator.post(LIST, answer(asked), follow=True)
    assert said(response) == ["Force-expired 7 sessions. No node serves them any more."]
    assert sorted(listed(response)) == sorted(each.fingerprint for each in returned)


def test_what_takes_longer_goes_on_with_the_page_of_its_job(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", 0)
    opened = open_sessions([Opened() for _ in range(7)])
    response = operator.post(LIST, confirmed(opened[0], select_across="1"), follow=True)
    job = EndingJob.objects.get()
    page = f"/admin/mcp_sessions/endingjob/{job.pk}/change/"
    assert response.redirect_chain == [(page, 302)]
    assert "jobs resume" in body(response)
    assert all(map(alive, opened))

    step = operator.post(page, {"act": "step"}, headers={"accept": "application/json"})
    assert step.json() == {"state": "done", "ended": 7, "gone": 0, "expected": 7, "problem": ""}
    assert not any(map(alive, opened))
    assert "Done:" in body(operator.get(page))


def test_a_job_is_stopped_and_resumed_on_its_page(
    operator: Client, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", 0)
    opened = open_sessions([Opened() for _ in range(3)])
    operator.post(LIST, confirmed(opened[0], select_across="1"))
    page = f"/admin/mcp_sessions/endingjob/{EndingJob.objects.get().pk}/change/"
    assert [viewer.get(page).status_code, viewer.post(page, {"act": "step"}).status_code] == [403, 403]
    assert "Stopped:" in body(operator.post(page, {"act": "stop"}, follow=True))
    operator.post(page, {"act": "step"})
    assert all(map(alive, opened))
    assert "Done:" in body(operator.post(page, {"act": "resume"}, follow=True))
    assert not any(map(alive, opened))


def test_the_question_names_clients_that_do_not_come_back(operator: Client) -> None:
    opened = open_sessions([Opened(client=name) for name in ("claude-code", "Visual Studio Code", "mine")])
    page = body(operator.post(LIST, action(*opened)))
    assert "do not open a new one by themselves: mine (not known), Claude Code." in page


def test_nothing_selected_ends_nothing(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    response = operator.post(LIST, action(index="0"), follow=True)
    assert "Items must be selected" in said(response)[0]
    assert alive(session)


@pytest.fixture
def signals() -> Iterator[list[dict[str, Any]]]:
    received: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        received.append({name: facts[name] for name in ("fingerprint", "alias", "reason")})

    session_ended.connect(receive)
    yield received
    session_ended.disconnect(receive)


def test_each_end_is_signalled_once(operator: Client, signals: list[dict[str, Any]]) -> None:
    one, gone = open_sessions([Opened(), Opened()])
    sync_store_for("default").run(
        sessions.end(gone.fingerprint, principal=None, reason="expired_by_operator")
    )
    operator.post(LIST, confirmed(one, gone))
    assert signals == [{"fingerprint": one.fingerprint, "alias": "default", "reason": "expired_by_operator"}]


def test_the_log_says_who_ended_a_session(operator: Client, caplog: pytest.LogCaptureFixture) -> None:
    [session] = open_sessions([Opened()])
    with caplog.at_level("INFO", "mcp_sessions.ending"):
        operator.post(LIST, confirmed(session, reason="a leak"))
    assert (
        f"Session {session.fingerprint[:12]} ended: expired_by_operator, by 'operator': 'a leak'."
        in caplog.messages
    )


def test_sessions_of_two_endpoints_end_in_one_action(operator: Client, two_endpoints: None) -> None:
    opened = [*open_sessions([Opened(), Opened()], "shop"), *open_sessions([Opened()], "stock")]
    gone = opened.pop(0)
    sync_store_for("shop").run(sessions.end(gone.fingerprint, principal=None, reason="deleted"))
    response = operator.post(LIST, confirmed(gone, *opened), follow=True)
    assert said(response) == [
        "Force-expired 2 sessions. No node serves them any more.",
        "1 record was already gone.",
    ]
    assert AuditEntry.objects.count() == 2
    assert not alive(opened[0], "shop")
    assert not alive(opened[1], "stock")


def test_a_receiver_that_raises_stops_nothing(
    operator: Client, signals: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**facts: Any) -> None:
        raise RuntimeError("a receiver's own trouble")

    session_ended.connect(broken)
    try:
        one, two = open_sessions([Opened(), Opened()])
        operator.post(LIST, confirmed(one, two))
    finally:
        session_ended.disconnect(broken)
    assert len(signals) == 2
    assert "a receiver's own trouble" in caplog.text
