"""From which moment on a record is none of a selection, to the millisecond, and what END_ON leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import router

from mcp_sessions.audit.models import EndingJob
from mcp_sessions.cluster import outside
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import automatic, driving, selection
from mcp_sessions.jobs.selection import Selection, Source, cut_offs, snapshot
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.validity import Moment
from tests.inventory.stores import START
from tests.inventory.stores import session as a_session
from tests.jobs.test_automatic import alive, log_out, owned
from tests.support.sessions import Opened, open_sessions

EVERY = SessionQuery(aliases=("default",))
Committed = Callable[..., Any]


@pytest.mark.parametrize(
    ("moment", "cut_off_ms"),
    [(Moment(0, 10), 10), (Moment(9, 10), 10), (Moment(10, 10), 10), (Moment(11, 10), 12)],
)
def test_what_is_created_from_now_on_is_not_meant(
    monkeypatch: pytest.MonkeyPatch, moment: Moment, cut_off_ms: int
) -> None:
    monkeypatch.setattr(selection, "sync_store_for", lambda _: SimpleNamespace(run=lambda _: moment))
    assert cut_offs(["default"]) == {"default": cut_off_ms}


def test_records_are_those_that_were_created_before_the_moment() -> None:
    [one] = open_sessions([Opened()])
    [row] = EVERY.page(limit=9).rows
    created, active = row.session.created_ms, row.session.last_activity_ms
    queried = Source(alias="default", query=Query())
    picked = Source(alias="default", picked=(one.fingerprint,))
    for source, cut_off, before, is_meant in (
        (queried, created, 0, False),
        (queried, created + 1, 0, True),
        (replace(queried, query=Query(active_before_ms=active + 1)), created + 1, 0, True),
        (replace(queried, query=Query(active_before_ms=active)), created + 1, 0, False),
        (picked, 0, created, False),
        (picked, 0, created + 1, True),
        (picked, created, 0, False),
        (picked, created + 1, 0, True),
    ):
        sources = (replace(source, before_ms=before),)
        rows, more = Selection(sources=sources, cut_off_ms={"default": cut_off}).records(most=9)
        assert ([each.session.fingerprint for each in rows], more) == (
            [one.fingerprint] if is_meant else [],
            False,
        )


def test_a_record_that_has_been_used_since_is_not_idle_whatever_the_index_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        SimpleNamespace(alias="default", session=a_session(0)._replace(created_ms=1, last_activity_ms=active))
        for active in (49, 50, 51)
    ]
    monkeypatch.setattr(SessionQuery, "page", lambda *_, **__: SimpleNamespace(rows=rows, after="more"))
    sources = tuple(Source(alias="default", query=Query(active_before_ms=each)) for each in (70, 50, None))
    found, more = Selection(sources=sources, cut_off_ms={"default": 9}).records(most=3)
    assert ([each.session.last_activity_ms for each in found], more) == ([49], True)
    everything = Selection(sources=sources[2:], cut_off_ms={"default": 9}).records(most=3)
    assert len(everything[0]) == 3


def test_what_is_ahead_of_the_clock_is_picked_from_the_same_millisecond_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[SessionQuery, int]] = []
    rows = [SimpleNamespace(session=a_session(0)._replace(created_ms=START + each)) for each in (-1, 0, 1)]

    def page(self: SessionQuery, *, limit: int) -> Any:
        asked.append((self, limit))
        return SimpleNamespace(total=total, rows=rows)

    monkeypatch.setattr(SessionQuery, "page", page)
    for total, since, limits in (
        (0, None, [1]),
        (3, START - 5, [1, 3]),
        (selection.MOST_NAMED + 1, START + 5, [1, selection.MOST_NAMED]),
    ):
        asked.clear()
        matches = (Query(client="x"), Picked(fingerprints=("ab" * 32,)))
        query = replace(
            EVERY, aliases=("a", "default"), matches=matches, filters=Query(active_since_ms=since)
        )
        found = selection._ahead(query, "default", START)
        assert [each.session.created_ms - START for each in found] == ([0, 1] if total else [])
        assert [limit for _, limit in asked] == limits
        assert {(each.aliases, each.matches, each.filters.active_since_ms) for each, _ in asked} == {
            (("default",), matches[:1], max(START, since or 0))
        }


def test_an_earlier_cut_off_holds_and_a_later_one_does_not() -> None:
    open_sessions([Opened()])
    assert snapshot(EVERY, cut_off_ms={"default": 5}).selection.cut_off_ms == {"default": 5}
    assert snapshot(EVERY, cut_off_ms={"other": 5}).selection.cut_off_ms["default"] > 5


@pytest.mark.django_db
def test_what_is_saved_without_its_change_ends_nothing(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    """Not what only the instance has, not what was so before, and not what comes from a dump."""
    end_on("password-change", "deactivation")
    opened = owned(ada)
    with django_capture_on_commit_callbacks(execute=True):
        ada.set_password("second")
        ada.is_active = False
        ada.save(update_fields=["email"])
        automatic._before_save(instance=ada, using="default", raw=True)
        assert ada.__dict__.pop(automatic._EVENTS) == []
        User(pk=ada.pk + 1, username="new", password="x", is_active=False).save()
        User.objects.filter(pk=ada.pk).update(is_active=False, password=ada.password)
        ada.save()
        ada.is_active = True
        ada.save()
    assert alive(*opened) == [True] * 4
    assert EndingJob.objects.count() == 0


@pytest.mark.django_db
def test_a_function_that_maps_subjects_is_no_field_of_users(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("deactivation", SUBJECT_TO_USER="tests.served.tokens.user_of", ISSUER_URL="https://issuer")
    assert automatic._subject_fields() == set()
    session, *_ = owned(ada)
    ada.is_active = False
    with django_capture_on_commit_callbacks(execute=True):
        ada.save()
    assert alive(session) == [False]
    end_on("deactivation", SUBJECT_TO_USER="username")
    assert automatic._subject_fields() == {"username"}


@pytest.mark.django_db
def test_a_logout_of_nobody_or_of_somebody_without_sessions_makes_no_job(
    ada: User, end_on: Any, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("logout")
    with django_capture_on_commit_callbacks(execute=True):
        user_logged_out.send(sender=None, request=None, user=None)
        log_out(ada)
    assert EndingJob.objects.count() == 0


@pytest.mark.django_db
def test_whoever_logs_out_waits_for_five_seconds_at_most(
    ada: User, end_on: Any, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Committed
) -> None:
    end_on("logout")
    owned(ada)
    found: list[float] = []
    monkeypatch.setattr(driving, "drive", lambda job, *, seconds: found.append(seconds))
    with django_capture_on_commit_callbacks(execute=True):
        log_out(ada)
    assert found == [5.0]


@pytest.mark.django_db
def test_a_cache_that_is_away_is_asked_once_and_no_node_is_told(
    ada: User,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Committed,
) -> None:
    entry = settings.MCP_SESSIONS["default"] | {"END_ON": ["logout"]}
    settings.MCP_SESSIONS = {name: {**entry, "PATH": name, "NAMESPACE": name} for name in ("a", "b")}
    asked: list[tuple[str, ...]] = []

    def away(selected: SessionQuery) -> None:
        asked.append(selected.aliases)
        raise StoreUnavailable("away")

    told: list[Any] = []
    monkeypatch.setattr(automatic, "snapshot", away)
    monkeypatch.setattr(outside, "notify_all", lambda *facts: told.append(facts))
    with django_capture_on_commit_callbacks(execute=True):
        log_out(ada)
    assert (asked, told) == ([("a",)], [])
    jobs = EndingJob.objects.order_by("pk")
    assert [[each["alias"] for each in job.selection["sources"]] for job in jobs] == [["a", "a"], ["b", "b"]]
    kinds = [each["query"]["kind"] for each in jobs[0].selection["sources"]]
    assert kinds == ["session", "listener"]


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["of the jobs", "of the user"])
def test_a_database_that_fails_stops_no_logout(
    ada: User,
    end_on: Any,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Committed,
) -> None:
    end_on("logout")
    owned(ada)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("on purpose")

    if where == "of the jobs":
        monkeypatch.setattr(driving, "begin", fail)
    else:
        known = router.db_for_write

        def route(model: Any, **hints: Any) -> Any:
            return fail() if model is EndingJob else known(model, **hints)

        monkeypatch.setattr(automatic, "router", SimpleNamespace(db_for_write=route))
    with django_capture_on_commit_callbacks(execute=True):
        log_out(ada)
    assert EndingJob.objects.count() == 0


@pytest.mark.django_db
def test_without_a_database_there_is_no_job_to_go_on_with(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def left() -> Any:
        raise ImproperlyConfigured("settings.DATABASES is improperly configured.")

    monkeypatch.setattr(automatic, "left", left)
    automatic._go_on("default")
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
