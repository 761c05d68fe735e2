"""What ends by itself when something happens to its user (END_ON), and what does not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.test.utils import isolate_apps

from mcp_sessions.audit.models import RUNNING, AuditEntry, EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.jobs import automatic, driving
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import sync_store_for
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

Committed = Callable[..., Any]
EVENTS = ["logout", "password-change", "deactivation", "deletion"]


def alive(*opened: Opened) -> list[bool]:
    found = sync_store_for("default").run_all([sessions.get(each.fingerprint) for each in opened])
    return [each is not None for each in found]


def owned(user: User) -> tuple[Opened, Opened, Opened, Opened]:
    """A session, a listener and a handle of the user, and a session of somebody else."""
    principal = f"user:{user.pk}"
    session, listener, handle, other = open_sessions(
        [
            Opened(principal=principal),
            Opened(kind="listener", principal=principal),
            Opened(kind="handle", label="basket", principal=principal),
            Opened(principal="user:999"),
        ]
    )
    return session, listener, handle, other


def log_out(user: User) -> None:
    client = Client()
    client.force_login(user)
    client.logout()


def change_password(user: User) -> None:
    user.set_password("second")
    user.save()


def change_password_by_hash(user: User) -> None:
    user.password = make_password("second")
    user.save()


def change_password_field(user: User) -> None:
    user.password = make_password("second")
    user.save(update_fields=["password"])


def take_password(user: User) -> None:
    user.set_unusable_password()
    user.save(update_fields=["password"])


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


HAPPENS: dict[str, Callable[[User], Any]] = {
    "logout": log_out,
    "password-change": change_password,
    "deactivation": deactivate,
    "deletion": User.delete,
}


@pytest.mark.parametrize("event", EVENTS)
def test_what_a_user_has_open_ends(
    event: str, ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on(event)
    session, listener, handle, other = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        HAPPENS[event](ada)
    # What tools keep of a user goes with the user.
    assert alive(session, listener, handle, other) == [False, False, event != "deletion", True]
    entries = AuditEntry.objects.filter(action=event, outcome="ended", by=f"{event} of ada")
    assert {each.fingerprint for each in entries} >= {session.fingerprint, listener.fingerprint}


@pytest.mark.parametrize("event", EVENTS)
def test_without_the_setting_nothing_ends(
    event: str, ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on(*(each for each in EVENTS if each != event))
    opened = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        HAPPENS[event](ada)
    assert all(alive(*opened))


@pytest.mark.parametrize("change", [change_password_by_hash, change_password_field, take_password])
def test_other_ways_to_change_a_password_count(
    change: Any, ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("password-change")
    session, *_ = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        change(ada)
    assert alive(session) == [False]


def test_a_login_that_hashes_the_password_anew_ends_nothing(
    ada: User, end_on: Any, settings: LazySettings, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("password-change")
    session, *_ = owned(ada)
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    before = ada.password
    with django_capture_on_commit_callbacks(execute=True):
        assert Client().login(username="ada", password="first")
    ada.refresh_from_db()
    assert ada.password != before
    assert alive(session) == [True]


def test_saving_a_user_otherwise_ends_nothing(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on(*EVENTS)
    opened = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        ada.first_name = "Ada"
        ada.save()
        ada.save(update_fields=["last_login"])
    assert all(alive(*opened))


def test_what_is_rolled_back_ends_nothing(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on(*EVENTS)
    opened = owned(ada)
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        deactivate(ada)
        transaction.set_rollback(True)
    assert all(alive(*opened))


def test_deleting_many_users_ends_what_each_has(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("deletion")
    session, *_ = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        User.objects.all().delete()
    assert alive(session) == [False]


def test_sessions_of_tokens_whose_subject_is_the_user_end(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    issuer = "https://issuer.example.com"
    end_on("deactivation", SUBJECT_TO_USER="username", ISSUER_URL=issuer)
    of_ada, of_other = open_sessions(
        [Opened(principal=f'oauth:["{issuer}","ada"]'), Opened(principal=f'oauth:["{issuer}","bob"]')]
    )
    with django_capture_on_commit_callbacks(execute=True):
        deactivate(ada)
    assert alive(of_ada, of_other) == [False, True]


def test_a_user_who_is_made_anonymous_with_the_same_save_loses_what_tokens_have_opened(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("deactivation", SUBJECT_TO_USER="username", ISSUER_URL="https://issuer.example.com")
    of_ada, of_bob = open_sessions(
        [Opened(principal=f'oauth:["https://issuer.example.com","{name}"]') for name in ("ada", "bob")]
    )
    ada.username, ada.is_active = "former-1", False
    with django_capture_on_commit_callbacks(execute=True):
        ada.save()
    assert alive(of_ada, of_bob) == [False, True]


@isolate_apps("django.contrib.auth")
def test_a_user_model_without_the_field_is_saved(ada: User, end_on: Any) -> None:
    """AbstractBaseUser says `is_active = True`, which is no column."""

    class Person(AbstractBaseUser):
        class Meta:
            app_label = "auth"
            db_table = "auth_user"

    end_on("deactivation", "password-change")
    person = Person._default_manager.get(pk=ada.pk)
    automatic._before_save(instance=person, using="default")
    assert person.__dict__[automatic._EVENTS] == []


def test_a_store_that_is_away_stops_no_logout_and_leaves_a_job(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("logout")
    session, *_ = owned(ada)
    away = mock.patch.object(driving, "end_batch", side_effect=StoreUnavailable("away"))
    with away, django_capture_on_commit_callbacks(execute=True):
        log_out(ada)
    job = EndingJob.objects.get()
    assert job.state == RUNNING
    assert driving.drive(job).ended == 2
    assert alive(session) == [False]


def test_what_is_opened_while_it_is_found_out_that_a_store_is_away_stays(
    ada: User,
    end_on: Callable[..., None],
    django_capture_on_commit_callbacks: Committed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two seconds after the event count, by the clock of this machine, and not those that the store was waited for."""
    clock = SimpleNamespace(seconds=1_000.0)

    def wait(_: object) -> None:
        clock.seconds += 2
        raise StoreUnavailable("away")

    monkeypatch.setattr(automatic, "snapshot", wait)
    monkeypatch.setattr(automatic, "time", SimpleNamespace(time=lambda: clock.seconds))
    end_on("logout")
    with django_capture_on_commit_callbacks(execute=True):
        log_out(ada)
    assert EndingJob.objects.get().selection["cut_off_ms"] == {"default": 1_002_000}
