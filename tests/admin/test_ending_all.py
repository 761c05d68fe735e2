"""Ending every session that was opened before now: who may, what ends, and what is written down."""

from unittest import mock

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings

from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.jobs import everything
from mcp_sessions.store.calls import validity
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, alive, body, endpoint, said
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db]

END_ALL = f"{LIST}end-all/"


@pytest.mark.usefixtures("one_endpoint")
def test_the_page_asks_first_and_counts(operator: Client) -> None:
    one, _ = open_sessions([Opened(), Opened()])
    assert f'href="{END_ALL}"' in body(operator.get(LIST))
    page = body(operator.get(END_ALL))
    assert "default: 2 sessions" in page
    assert 'value="default" checked' in page
    assert alive(one)


@pytest.mark.usefixtures("one_endpoint")
def test_every_session_ends_with_an_entry_in_the_log(operator: Client) -> None:
    opened = open_sessions([Opened(client=f"client {n}") for n in range(3)])
    response = operator.post(END_ALL, {"endpoint": ["default"]}, follow=True)
    assert not any(map(alive, opened))
    assert said(response) == [
        "Session ids that were given out before now are unknown to every node of “default”.",
        "Ended 3 sessions of the endpoint “default”.",
    ]
    entries = AuditEntry.objects.filter(by="operator", action="end-all", outcome="ended")
    assert {entry.fingerprint for entry in entries} == {each.fingerprint for each in opened}
    assert LogEntry.objects.filter(user__username="operator").count() == 1


@pytest.mark.usefixtures("one_endpoint")
def test_an_end_that_the_store_took_without_confirming_it_is_in_the_audit(operator: Client) -> None:
    open_sessions([Opened()])
    went_away = mock.patch.object(everything, "snapshot", side_effect=StoreUnavailable("away"))
    with went_away:
        answer = operator.post(END_ALL, {"endpoint": ["default"], "reason": "a leak"})
    assert answer.status_code == 503
    assert sync_store_for("default").run(validity.min_created(0)).min_created_ms, "they are over"
    entry = AuditEntry.objects.get()
    assert str(entry) == (
        "every session of default that was opened before: ended with all sessions (asked, and not confirmed by Redis)"
    )
    assert (entry.by, entry.reason, entry.endpoint) == ("operator", "a leak", "default")


@pytest.mark.usefixtures("two_endpoints")
def test_only_the_chosen_endpoints_are_ended(operator: Client) -> None:
    [shop], [stock] = open_sessions([Opened()], "shop"), open_sessions([Opened()], "stock")
    response = operator.post(END_ALL, {"endpoint": ["shop", "no such endpoint"]}, follow=True)
    assert (alive(shop, "shop"), alive(stock, "stock")) == (False, True)
    assert said(response)[1] == "Ended 1 session of the endpoint “shop”."
    assert not sync_store_for("stock").run(validity.min_created(0)).min_created_ms


@pytest.mark.usefixtures("one_endpoint")
def test_who_may_only_view_is_refused(viewer: Client) -> None:
    [session] = open_sessions([Opened()])
    assert END_ALL not in body(viewer.get(LIST))
    assert viewer.get(END_ALL).status_code == 403
    assert viewer.post(END_ALL, {"endpoint": ["default"]}).status_code == 403
    assert alive(session)


def test_an_outage_is_explained(operator: Client) -> None:
    caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=caches, MCP_SESSIONS={"default": endpoint()}):
        for response in (operator.get(END_ALL), operator.post(END_ALL, {"endpoint": ["default"]})):
            assert response.status_code == 503
            assert "Redis cannot be reached" in body(response)
