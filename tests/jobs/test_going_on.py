"""Which jobs of END_ON a process goes on with, when and for how long; and which passwords are new."""

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.utils import timezone

from mcp_sessions import lifecycle
from mcp_sessions.audit.models import STOPPED, STOPPING, EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs import automatic, driving
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.jobs.table import LEASE
from mcp_sessions.repeats import Repeats
from tests.support.sessions import Opened, open_sessions

NOW = timezone.now()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clocks of automatic ends: a test moves `seconds`."""
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(automatic, "monotonic", lambda: clock.seconds)
    monkeypatch.setattr(automatic, "timezone", SimpleNamespace(now=lambda: NOW))
    monkeypatch.setattr(automatic, "_due", {})
    monkeypatch.setattr(automatic, "_failures", Repeats(automatic.logger, "Jobs that could not go on"))
    return clock


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What was gone on with, by its description, and for how many seconds."""
    found: list[tuple[str, float]] = []
    monkeypatch.setattr(driving, "drive", lambda job, *, seconds: found.append((job.described, seconds)))
    return found


def job(described: str, *, age: float = 60.0, action: str = "logout", **more: Any) -> EndingJob:
    alias = more.pop("alias", "default")
    selection = {"sources": [{"alias": alias, "query": {"kind": "session"}}], "cut_off_ms": {alias: 1}}
    created = NOW - timedelta(seconds=age)
    return EndingJob.objects.create(
        action=action, by="ada", described=described, created=created, selection=selection, **more
    )


@pytest.mark.django_db
def test_a_process_goes_on_with_what_nobody_drives_the_oldest_first(
    clock: SimpleNamespace, driven: list[tuple[str, float]], settings: LazySettings
) -> None:
    settings.MCP_SESSIONS = {**settings.MCP_SESSIONS, "other": {"SERVER": "unused", "PATH": "other"}}
    job("first", age=5.1)
    job("just begun by a request, which drives it", age=5.0)
    job("of an operator", action="force-expire")
    job("of another endpoint", alias="other")
    job("of an endpoint that is gone", alias="gone")
    job("driven", driver="somebody", driven_until=timezone.now() + LEASE)
    job("stopped", state=STOPPED)
    job("left by a process that died", driver="somebody", driven_until=timezone.now() - timedelta(minutes=1))
    job("was to stop", state=STOPPING, action="deletion")
    automatic._go_on("default")
    assert driven == [("first", 2.0), ("left by a process that died", 2.0), ("was to stop", 2.0)]


@pytest.mark.django_db
def test_a_job_of_a_clock_that_was_put_back_does_not_wait_until_it_has_caught_up(
    clock: SimpleNamespace, driven: list[tuple[str, float]]
) -> None:
    """Without USE_TZ that is so at the end of each summer, and else where the clock of a machine is wrong."""
    job("just begun by a clock that is ahead a little", age=-5.0)
    job("begun", age=-3_600)
    job("of a process that died", driver="somebody", driven_until=timezone.now() + timedelta(hours=1))
    automatic._go_on("default")
    assert [what for what, _ in driven] == ["begun", "of a process that died"]


@pytest.mark.django_db
def test_a_look_ends_after_ten_seconds_and_when_the_process_stops(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def drive(job: EndingJob, *, seconds: float) -> None:
        found.append(job.described)
        clock.seconds += 4.9

    monkeypatch.setattr(driving, "drive", drive)
    for number in range(5):
        job(f"job {number}")
    automatic._go_on("default")
    assert found == ["job 0", "job 1", "job 2"]
    monkeypatch.setattr(lifecycle, "is_stopping", lambda: True)
    automatic._go_on("default")
    assert len(found) == 3


@pytest.mark.django_db
@pytest.mark.parametrize("error", [StoreUnavailable("away"), DatabaseError("away")])
def test_a_failure_is_logged_and_the_next_look_tries_again(
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(job: EndingJob, *, seconds: float) -> None:
        raise error

    job("first")
    monkeypatch.setattr(driving, "drive", fail)
    automatic._go_on("default")
    assert "Jobs of END_ON at endpoint 'default' cannot go on: away" in caplog.text
    monkeypatch.setattr(driving, "drive", lambda job, *, seconds: None)
    automatic._go_on("default")
    assert "That is over." in caplog.text


async def test_a_process_looks_every_ten_seconds_and_once_at_a_time(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    looks: list[tuple[float, float]] = []

    def look(alias: str) -> None:
        looks.append((clock.seconds, automatic._due[alias]))
        clock.seconds += 1
        if len(looks) == 2:
            raise RuntimeError("on purpose")

    monkeypatch.setattr(automatic, "_go_on", look)
    await automatic.go_on("default")
    assert looks == [], "END_ON is empty"
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "END_ON": ["logout"]}}
    for clock.seconds in (0.0, 10.9):
        await automatic.go_on("default")
    clock.seconds = 11.0
    with pytest.raises(RuntimeError, match="on purpose"):
        await automatic.go_on("default")
    for clock.seconds in (21.9, 22.0):
        await automatic.go_on("default")
    assert looks == [(0.0, math.inf), (11.0, math.inf), (22.0, math.inf)]


OLD = "md5$salt$hash"
FAST = f"pbkdf2_sha256$1${'s' * 22}$hash"
CURRENT = f"pbkdf2_sha256${PBKDF2PasswordHasher.iterations}${'s' * 22}$hash"


@pytest.mark.parametrize(
    ("before", "fields", "typed", "after", "is_new"),
    [
        (OLD, ["password"], None, "pbkdf2$new", False),
        (FAST, ["password"], None, "pbkdf2$new", False),
        (CURRENT, ["password"], None, "pbkdf2$new", True),
        ("a hash of nobody", ["password"], None, "pbkdf2$new", True),
        (OLD, None, None, "pbkdf2$new", True),
        (OLD, ["password", "email"], None, "pbkdf2$new", True),
        (OLD, ["password"], "second", "pbkdf2$new", True),
        (OLD, ["password"], None, "!unusable", True),
        (OLD, ["password"], "second", OLD, False),
    ],
)
def test_a_password_that_is_only_hashed_anew_is_not_new(
    settings: LazySettings, before: str, fields: list[str] | None, typed: str | None, after: str, is_new: bool
) -> None:
    names = ("PBKDF2PasswordHasher", "MD5PasswordHasher")
    settings.PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}" for name in names]
    user = User(username="ada", password=after)
    vars(user)["_password"] = typed  # as set_password leaves it
    assert automatic._is_new_password(before, user, fields) is is_new


@pytest.mark.django_db
def test_what_keeps_a_job_from_going_on_is_said_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_sessions([Opened()])
    job = driving.begin(snapshot(SessionQuery(aliases=("default",))), by="b" * 151, reason="r" * 501)
    assert (job.by, job.reason) == ("b" * 150, "r" * 500)

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("x" * 600)

    monkeypatch.setattr(driving, "end_batch", fail)
    with pytest.raises(StoreUnavailable):
        driving.drive(job)
    job.refresh_from_db()
    assert len(job.problem) == 500
    assert job.problem.startswith("The store cannot be reached: xxx")
