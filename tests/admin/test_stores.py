"""The admin without its store, and over sessions in the memory of its process."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from mcp_sessions.admin import common
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.ending import end_batch
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.jobs import driving
from mcp_sessions.repeats import Repeats
from tests.admin.pages import (
    LIST,
    action,
    alive,
    body,
    confirmed,
    detail,
    endpoint,
    history,
    listed,
    on_redis,
)
from tests.support.redis import run_server
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


@pytest.fixture
def lost_store(settings: LazySettings, one_endpoint: None) -> Iterator[Opened]:
    """A Redis with a session in it, which has just gone away."""
    with run_server() as server:
        settings.CACHES = on_redis(server.url)
        settings.MCP_SESSIONS = {"default": endpoint()}
        [session] = open_sessions([Opened()])
        server.stop()
        yield session


def test_a_store_that_is_down_is_explained(
    operator: Client, lost_store: Opened, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "_away", Repeats(common.logger, "Pages"))  # no test before has had an outage
    responses = [
        operator.get(LIST),
        operator.get(LIST, {"q": "x"}),
        operator.get(detail(lost_store)),
        operator.get(history(lost_store)),
        operator.post(LIST, action(lost_store)),
        operator.post(LIST, confirmed(lost_store)),
    ]
    for response in responses:
        assert response.status_code == 503
        assert response["Retry-After"] == "5"
        assert "Nothing is lost" in body(response)
        assert "redis://" not in body(response)
    assert "The admin cannot reach a session store" in caplog.text
    assert LogEntry.objects.count() == 0


def test_the_rest_of_the_admin_goes_on_without_the_store(admin_client: Client, lost_store: Opened) -> None:
    assert admin_client.get("/admin/").status_code == 200
    assert admin_client.get(reverse("admin:auth_user_changelist")).status_code == 200


def test_what_the_store_leaves_open_is_ended_and_recorded_when_it_is_back(operator: Client) -> None:
    sessions = open_sessions([Opened() for _ in range(3)])

    def end_one(alias: str, fingerprints: list[str], **more: Any) -> None:
        end_batch(alias, fingerprints[:1], **more)
        raise StoreUnavailable("away")

    with mock.patch.object(driving, "end_batch", end_one):
        response = operator.post(LIST, confirmed(*sessions))
    assert response.status_code == 503
    job = EndingJob.objects.get()
    page = f"/admin/mcp_sessions/endingjob/{job.pk}/change/"
    assert f'The session store went away. <a href="{page}">Go on with job {job.pk}</a>' in body(response)
    assert LogEntry.objects.count() == 1
    assert "Under way:" in body(operator.get(page))
    assert "Done:" in body(operator.post(page, {"act": "step"}, follow=True))
    assert not any(map(alive, sessions))
    assert AuditEntry.objects.filter(outcome="ended").count() == 3


@pytest.fixture
def in_memory(settings: LazySettings, one_endpoint: None) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def test_in_memory_the_list_says_that_it_is_this_process_only(operator: Client, in_memory: None) -> None:
    [session] = open_sessions([Opened(client="local")])
    response = operator.get(LIST)
    assert "Records of this process only" in body(response)
    assert listed(response) == [session.fingerprint]
    operator.post(LIST, confirmed(session))
    assert not alive(session)


def test_with_redis_the_list_says_nothing_of_the_kind(viewer: Client) -> None:
    assert "this process only" not in body(viewer.get(LIST))
