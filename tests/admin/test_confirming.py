"""What is ended, and who is blocked, is what the confirmation page showed, whatever happens in between."""

import json
import time
from typing import Any
from unittest import mock

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from mcp_sessions import conf
from mcp_sessions.admin import blocks as blocking
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.ending import end_session
from mcp_sessions.jobs import selection
from mcp_sessions.models import Block
from mcp_sessions.store.calls import nodes, sessions
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, action, alive, answer, body, confirmed, said, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

BLOCK = {"action": "force_expire_and_block"}
STATES = ("calling", "stuck", "streaming", "failing")


@pytest.fixture
def guard() -> Client:
    return staff("view_mcpsession", "expire_session", "add_block", name="guard")


def report(*doing: Opened, alias: str = "default") -> None:
    """Have a node report that these do all that the list can be narrowed to, and others nothing."""
    began = round(time.time() * 1000) - 60_000
    running = [
        [number, "session", each.fingerprint, "tools/call:t", each.principal, each.client, "1", began]
        for number, each in enumerate(doing)
    ]
    told = {
        "host": "web",
        "pid": 7,
        "process": "p",
        "version": "1",
        "calls": len(doing),
        "running": running,
        "streams": len(doing),
        "open": [[each.fingerprint, "s"] for each in doing],
        "failing": [each.fingerprint for each in doing],
    }
    sync_store_for(alias).run(nodes.report("0ff1ce5", told=json.dumps(told)))


def use(*opened: Opened) -> None:
    store, limits = sync_store_for("default"), conf.endpoint("default").limits
    for each in opened:
        store.run(sessions.touch(each.fingerprint, principal=each.principal, limits=limits))


@pytest.mark.parametrize("state", STATES)
def test_a_record_that_was_picked_ends_although_its_state_has_changed(operator: Client, state: str) -> None:
    picked, other = open_sessions([Opened(), Opened()])
    report(picked, other)
    page = operator.post(f"{LIST}?state={state}", action(picked))
    report()
    response = operator.post(f"{LIST}?state={state}", answer(page), follow=True)
    assert said(response) == ["Force-expired 1 session. No node serves it any more."]
    assert [alive(picked), alive(other)] == [False, True]


@pytest.mark.parametrize("state", STATES)
def test_a_record_that_was_picked_is_asked_about_although_its_state_has_changed(
    operator: Client, state: str
) -> None:
    [picked] = open_sessions([Opened()])
    page = operator.post(f"{LIST}?state={state}&activity=idle-1800&client=x", action(picked))
    assert picked.fingerprint[:12] in body(page)
    assert "force-expire this session?" in body(page)


@pytest.mark.parametrize("state", STATES)
def test_of_all_in_a_state_those_end_that_were_in_it_when_it_was_asked(operator: Client, state: str) -> None:
    left, stays, joins = open_sessions([Opened(), Opened(), Opened()])
    report(left, stays)
    page = operator.post(f"{LIST}?state={state}", action(left, select_across="1"))
    assert "all 2 sessions" in body(page)
    report(stays, joins)
    response = operator.post(f"{LIST}?state={state}", answer(page), follow=True)
    assert said(response) == ["Force-expired 2 sessions. No node serves them any more."]
    assert [alive(left), alive(stays), alive(joins)] == [False, False, True]


def test_more_in_a_state_than_can_be_named_are_said_to_stay(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_NAMED", 2)
    oldest, *last = open_sessions([Opened(), Opened(), Opened()])
    report(oldest, *last)
    page = operator.post(f"{LIST}?state=calling", action(oldest, select_across="1"))
    assert "the 2 records in the list that were used last" in body(page)
    assert "1 others stay" in body(page)
    operator.post(f"{LIST}?state=calling", answer(page))
    assert [alive(oldest), *map(alive, last)] == [True, False, False]
    assert EndingJob.objects.get().expected == 2


def test_a_window_of_activity_is_that_of_the_question(operator: Client) -> None:
    """A session that was used within the window then ends, also if that is longer ago now; no other joins."""
    recent, old = open_sessions([Opened(minutes_ago=29), Opened(minutes_ago=40)])
    page = operator.post(f"{LIST}?activity=last-1800", action(recent, select_across="1"))
    assert "all 1 session in the list" in body(page)
    use(old)
    with mock.patch("django.utils.timezone.now", return_value=later(minutes=5)):
        operator.post(f"{LIST}?activity=last-1800", answer(page))
    assert [alive(recent), alive(old)] == [False, True]


def test_what_was_idle_and_is_used_again_does_not_end_and_no_other_joins(operator: Client) -> None:
    idle, woken, recent = open_sessions(
        [Opened(minutes_ago=40), Opened(minutes_ago=35), Opened(minutes_ago=28)]
    )
    page = operator.post(f"{LIST}?activity=idle-1800", action(idle, select_across="1"))
    assert "all 2 sessions in the list" in body(page)
    use(woken)
    with mock.patch("django.utils.timezone.now", return_value=later(minutes=5)):
        operator.post(f"{LIST}?activity=idle-1800", answer(page))
    assert [alive(idle), alive(woken), alive(recent)] == [False, True, True]


def test_where_what_was_used_lately_is_too_much_to_be_named_the_page_says_what_joins(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_NAMED", 1)
    *recent, old = open_sessions([Opened(minutes_ago=29), Opened(minutes_ago=10), Opened(minutes_ago=40)])
    page = operator.post(f"{LIST}?activity=last-1800", action(recent[0], select_across="1"))
    assert "is used before you confirm, is" in body(page)
    use(old)
    with mock.patch("django.utils.timezone.now", return_value=later(minutes=5)):
        operator.post(f"{LIST}?activity=last-1800", answer(page))
    assert not any(map(alive, [*recent, old]))


def test_a_search_means_what_it_meant_when_it_was_asked(operator: Client) -> None:
    """A part of a client's name stands for the clients that were seen by then."""
    first, old = open_sessions([Opened(client="rude one"), Opened(client="kind")])
    page = operator.post(f"{LIST}?q=rude", action(first, select_across="1"))
    open_sessions([Opened(client="rude two")])
    operator.post(f"{LIST}?q=rude", answer(page))
    assert [alive(first), alive(old)] == [False, True]
    assert EndingJob.objects.get().ended == 1


def test_only_who_was_on_the_confirmed_list_is_blocked(guard: Client) -> None:
    shown = open_sessions([Opened(client="x", principal="user:1"), Opened(client="x", principal="user:2")])
    page = guard.post(f"{LIST}?client=x", action(shown[0], select_across="1") | BLOCK)
    [joined] = open_sessions([Opened(client="x", principal="user:3")])
    response = guard.post(f"{LIST}?client=x", answer(page), follow=True)
    assert sorted(Block.objects.values_list("value", flat=True)) == ["user:1", "user:2"]
    assert [*map(alive, shown), alive(joined)] == [False, False, True]
    assert said(response)[0] == "Blocked: 2."


def test_who_was_in_a_state_when_it_was_asked_is_blocked_and_who_is_in_it_later_is_not(guard: Client) -> None:
    left, joins = open_sessions([Opened(principal="user:1"), Opened(principal="user:2")])
    report(left)
    page = guard.post(f"{LIST}?state=stuck", action(left, select_across="1") | BLOCK)
    report(joins)
    guard.post(f"{LIST}?state=stuck", answer(page))
    assert list(Block.objects.values_list("value", flat=True)) == ["user:1"]
    assert [alive(left), alive(joins)] == [False, True]


def test_who_was_idle_and_came_back_is_not_blocked(guard: Client) -> None:
    idle, woken = open_sessions(
        [Opened(principal="user:1", minutes_ago=40), Opened(principal="user:2", minutes_ago=40)]
    )
    page = guard.post(f"{LIST}?activity=idle-1800", action(idle, select_across="1") | BLOCK)
    use(woken)
    guard.post(f"{LIST}?activity=idle-1800", answer(page))
    assert list(Block.objects.values_list("value", flat=True)) == ["user:1"]
    assert alive(woken)


def test_a_warning_says_that_not_all_records_were_read_for_whom_to_block(
    guard: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "MOST_READ", 2)
    opened = open_sessions([Opened(client="x", principal=f"user:{number}") for number in range(3)])
    page = guard.post(f"{LIST}?client=x", action(opened[0], select_across="1") | BLOCK)
    response = guard.post(f"{LIST}?client=x", answer(page), follow=True)
    assert said(response)[:2] == [
        "Blocked: 2.",
        "Only the 2 records that were used last were looked at for whom to block.",
    ]
    assert sorted(Block.objects.values_list("value", flat=True)) == ["user:1", "user:2"]
    assert not any(map(alive, opened))


def test_a_page_that_is_posted_twice_does_everything_once(
    guard: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the button of the browser that goes back, or with two clicks: also while the first job is under way."""
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", 0)
    [session] = open_sessions([Opened(client="x", principal="user:1")])
    page = guard.post(f"{LIST}?client=x", action(session, select_across="1") | BLOCK)
    guard.post(f"{LIST}?client=x", answer(page))
    assert alive(session)
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", 60)
    guard.post(f"{LIST}?client=x", answer(page))
    assert not alive(session)
    again = guard.post(f"{LIST}?client=x", answer(page), follow=True)
    assert "Nothing was left to end." in said(again)
    assert AuditEntry.objects.filter(outcome="ended").count() == 1
    assert Block.objects.count() == 1


def test_who_goes_back_and_chooses_a_longer_block_gets_it(
    guard: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", 0)
    [session] = open_sessions([Opened(principal="user:1")])
    page = guard.post(LIST, action(session) | BLOCK)
    for duration in ("an hour", "a week", "until it is lifted", "a day", "until it is lifted"):
        guard.post(LIST, answer(page, duration=duration))
    lasting = [each.expires and (each.expires - each.created) for each in Block.objects.order_by("pk")]
    assert [each and round(each.total_seconds() / 3600) for each in lasting] == [1, 7 * 24, None]


def test_a_record_that_ended_after_the_question_is_said_to_be_gone(operator: Client) -> None:
    one, two = open_sessions([Opened(), Opened()])
    page = operator.post(LIST, action(one, two))
    end_session("default", two.fingerprint)
    response = operator.post(LIST, answer(page), follow=True)
    assert said(response) == [
        "Force-expired 1 session. No node serves it any more.",
        "1 record was already gone.",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", "e30:1uJb:x", "\0", "é", "x" * 10_000])
@pytest.mark.parametrize("across", ["0", "1"])
def test_a_confirmation_that_was_tampered_with_does_nothing(guard: Client, text: str, across: str) -> None:
    [session] = open_sessions([Opened(principal="user:1")])
    for posted in (action(session), action(session) | BLOCK | {"block": "principal", "duration": "a day"}):
        fields = posted | {"select_across": across, "post": "yes", "confirmed": text}
        response = guard.post(LIST, fields, follow=True)
        assert response.status_code == 200
        assert "cannot be read any more" in said(response)[0]
    assert alive(session)
    assert [Block.objects.count(), EndingJob.objects.count(), LogEntry.objects.count()] == [0, 0, 0]


def test_a_confirmation_of_a_newer_release_does_nothing(operator: Client, one_endpoint: None) -> None:
    """In a rolling deploy, one process asks and another one is answered."""
    [session] = open_sessions([Opened()])
    with mock.patch.object(
        selection, "_source_as_json", return_value={"alias": "default", "query": {"mood": "bad"}}
    ):
        page = operator.post(LIST, action(session))
    response = operator.post(LIST, answer(page), follow=True)
    assert "cannot be read any more" in said(response)[0]
    assert alive(session)


def test_what_an_operator_was_asked_helps_nobody_without_the_permission(
    operator: Client, viewer: Client, guard: Client
) -> None:
    [session] = open_sessions([Opened(principal="user:1")])
    asked = answer(operator.post(LIST, action(session, select_across="1")))
    assert viewer.post(LIST, asked).status_code == 403
    asked_to_block = answer(guard.post(LIST, action(session) | BLOCK))
    for client in (viewer, operator):
        client.post(LIST, asked_to_block)
    assert [alive(session), Block.objects.count()] == [True, 0]


def test_a_confirmation_of_an_endpoint_that_is_no_more_does_nothing(
    operator: Client, two_endpoints: None, settings: Any
) -> None:
    [session] = open_sessions([Opened()], "stock")
    page = operator.post(LIST, action(session))
    settings.MCP_SESSIONS = {"shop": settings.MCP_SESSIONS["shop"]}
    response = operator.post(LIST, answer(page), follow=True)
    assert "cannot be read any more" in said(response)[0]


@pytest.mark.parametrize(
    "fields", [{"block": ""}, {"block": "address"}, {"block": "principal", "duration": "forever"}]
)
def test_a_block_that_was_tampered_with_ends_nothing(guard: Client, fields: dict[str, str]) -> None:
    [session] = open_sessions([Opened(principal="user:1")])
    page = guard.post(LIST, action(session) | BLOCK)
    response = guard.post(LIST, answer(page) | fields, follow=True)
    assert said(response) == ["Nothing was done: choose whom to block, and for how long."]
    assert [alive(session), Block.objects.count()] == [True, 0]


@pytest.mark.parametrize("across", ["2", "true", "on", "01", ""])
def test_only_the_page_of_the_admin_can_select_everything(operator: Client, across: str) -> None:
    picked, other = open_sessions([Opened(), Opened()])
    operator.post(LIST, confirmed(picked, select_across=across))
    assert [alive(picked), alive(other)] == [False, True]


@pytest.mark.parametrize(
    "filters", ["?client=nobody", "?state=nonsense", "?activity=nonsense", "?user=nobody", "?kind=handle"]
)
def test_filters_that_match_nothing_end_nothing(operator: Client, filters: str) -> None:
    [session] = open_sessions([Opened()])
    page = operator.post(LIST + filters, action(session, select_across="1"))
    assert "There is nothing to end." in body(page)
    assert "Yes, I’m sure" not in body(page)
    response = operator.post(LIST + filters, confirmed(session, select_across="1"), follow=True)
    assert said(response)[0] == "Nothing was left to end."
    assert alive(session)


def test_a_picked_record_ends_while_the_store_of_another_endpoint_is_away(
    operator: Client, two_endpoints: None, settings: Any
) -> None:
    [session] = open_sessions([Opened()], "shop")
    settings.CACHES = settings.CACHES | {
        "away": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    settings.MCP_SESSIONS["stock"]["CACHE"] = "away"
    address = f"{LIST}?endpoint=shop&state=stuck"
    page = operator.post(address, action(session))
    operator.post(address, answer(page))
    assert not alive(session, "shop")


def test_the_page_of_a_user_ends_what_it_showed(operator: Client) -> None:
    from django.contrib.auth.models import User

    ada = User.objects.create_user("ada")
    [first] = open_sessions([Opened(principal=f"user:{ada.pk}")])
    address = f"{LIST}of-user/{ada.pk}/force-expire/"
    page = operator.get(address)
    [later_one] = open_sessions([Opened(principal=f"user:{ada.pk}")])
    tampered = operator.post(address, answer(page) | {"confirmed": "x"}, follow=True)
    assert alive(first)
    assert "cannot be read any more" in body(tampered)
    operator.post(address, answer(page))
    assert [alive(first), alive(later_one)] == [False, True]


def later(*, minutes: int) -> Any:
    from datetime import timedelta

    from django.utils import timezone

    return timezone.now() + timedelta(minutes=minutes)
