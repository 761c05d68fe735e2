"""Where a router puts the jobs and the audit into a database of their own, with a replica that is far behind."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.urls import path
from pytest_django import DjangoDbBlocker

from mcp_sessions.audit.models import FINISHED, AuditEntry, EndingJob
from mcp_sessions.authentication.models import PersonalToken
from mcp_sessions.ending import end_batch
from mcp_sessions.jobs import driving
from mcp_sessions.tokens import create_token, revoke_token
from tests.admin.pages import LIST, body, confirmed, staff
from tests.jobs.test_automatic import alive, deactivate, owned
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ELSEWHERE = "elsewhere"


class Router:
    """What this app keeps of its own, without the tokens of users, is elsewhere. What is read is not there yet."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        is_ours = model._meta.app_label == "mcp_sessions" and model is not PersonalToken
        return ELSEWHERE if is_ours else None

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "default"


@pytest.fixture(scope="module", autouse=True)
def elsewhere(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The second database."""
    own = {**connections.settings["default"], "NAME": "file:elsewhere?mode=memory&cache=shared"}
    connections.settings[ELSEWHERE] = {**own, "ATOMIC_REQUESTS": False}
    with django_db_blocker.unblock():
        for app in ("contenttypes", "auth", "mcp_sessions"):
            call_command("migrate", app, database=ELSEWHERE, verbosity=0, skip_checks=True)
        yield
        connections[ELSEWHERE].connection.close()
    del connections[ELSEWHERE]
    del connections.settings[ELSEWHERE]


@pytest.fixture(autouse=True)
def routed(settings: LazySettings) -> Iterator[None]:
    """The router, and pages that know it."""
    settings.DATABASE_ROUTERS = [Router()]
    urls: Any = ModuleType("tests.urls_of_two_databases")
    urls.urlpatterns = [path("admin/", admin.site.urls)]
    sys.modules[urls.__name__] = urls
    settings.ROOT_URLCONF = urls.__name__
    yield
    del sys.modules[urls.__name__]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="first")


def written() -> tuple[int, int]:
    """How many entries there are in each database."""
    counts = [AuditEntry.objects.using(alias).count() for alias in ("default", ELSEWHERE)]
    return counts[0], counts[1]


@pytest.fixture
def end_on_deactivation(settings: LazySettings) -> None:
    entry = settings.MCP_SESSIONS["default"]
    settings.MCP_SESSIONS = {"default": {**entry, "END_ON": ["deactivation"]}}


@pytest.mark.usefixtures("end_on_deactivation")
def test_what_ends_by_itself_waits_for_the_commit_of_the_users_database(ada: User) -> None:
    session, *_ = owned(ada)
    with transaction.atomic(using="default"):
        deactivate(ada)
        assert alive(session) == [True]
    assert alive(session) == [False]
    assert written() == (0, 2)


@pytest.mark.usefixtures("end_on_deactivation")
def test_it_waits_for_a_transaction_around_the_jobs_too(ada: User) -> None:
    session, *_ = owned(ada)
    with transaction.atomic(using=ELSEWHERE):
        deactivate(ada)
        assert alive(session) == [True]
    assert alive(session) == [False]


@pytest.mark.usefixtures("end_on_deactivation")
def test_a_transaction_elsewhere_that_is_rolled_back_ends_nothing(ada: User) -> None:
    session, *_ = owned(ada)
    with transaction.atomic(using="default"):
        deactivate(ada)
        transaction.set_rollback(True, using="default")
    assert alive(session) == [True]


@pytest.mark.parametrize("is_atomic", [False, True])
def test_the_admin_ends_and_records_in_the_database_of_the_jobs(
    is_atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ATOMIC_REQUESTS there, too: then the page of the job does it, without a transaction around it."""
    monkeypatch.setitem(connections[ELSEWHERE].settings_dict, "ATOMIC_REQUESTS", is_atomic)
    operator = staff("view_mcpsession", "expire_session", name="operator")
    [session] = open_sessions([Opened()])
    around: list[bool] = []

    def ends(*args: Any, **more: Any) -> Any:
        around.append(connections[ELSEWHERE].in_atomic_block)
        return end_batch(*args, **more)

    with mock.patch.object(driving, "end_batch", ends):
        answer = operator.post(LIST, confirmed(session), follow=True)
        job = EndingJob.objects.using(ELSEWHERE).get()
        if is_atomic:
            assert "Under way:" in body(answer)
            page = f"/admin/mcp_sessions/endingjob/{job.pk}/change/"
            assert "Done:" in body(operator.post(page, {"act": "step"}, follow=True))
        else:
            assert "Force-expired 1 session." in body(answer)
    assert around == [False]
    assert (alive(session), written()) == ([False], (0, 1))


def test_a_token_that_is_revoked_ends_its_sessions(ada: User, settings: LazySettings) -> None:
    entry = settings.MCP_SESSIONS["default"]
    settings.MCP_SESSIONS = {"default": {**entry, "REVOKE_ENDS_SESSIONS": True}}
    token, _ = create_token(ada)
    [session] = open_sessions([Opened(principal=f"user:{ada.pk}", name=token.credential)])
    assert revoke_token(token) == 1
    assert alive(session) == [False]
    assert EndingJob.objects.using(ELSEWHERE).get().state == FINISHED
