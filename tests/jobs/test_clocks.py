"""What jobs end after the clock of Redis was set back: also what was opened by the clock as it was."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from mcp_sessions import conf
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import driving, everything
from mcp_sessions.jobs.selection import Selection, snapshot
from mcp_sessions.store.calls import indexes, queries, sessions, validity
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import sync_store_for
from tests.jobs.test_automatic import HAPPENS
from tests.jobs.test_driving import EVERY, alive, begun
from tests.support.caches import default_cache, standalone_cache
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db(transaction=True)

#: As if the clock had been set back by an hour since.
AHEAD = -60


@pytest.fixture(autouse=True, params=[1, 4])
def shards(redis_server: RedisServer, settings: LazySettings, request: Any) -> Iterator[int]:
    entry = {**settings.MCP_SESSIONS["default"], "INDEX_SHARDS": request.param}
    settings.MCP_SESSIONS = {"default": entry}
    with default_cache(settings, standalone_cache(redis_server)):  # type: ignore[arg-type]
        yield request.param


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "BATCH", 4)


def opened_before(number: int = 3, **more: Any) -> list[Opened]:
    return open_sessions([Opened(minutes_ago=AHEAD, **more) for _ in range(number)])


def test_what_is_selected_by_conditions_ends_and_what_is_opened_afterwards_stays() -> None:
    early, before = opened_before(6), open_sessions([Opened()])
    others = opened_before(2, client="another")
    job = begun(SessionQuery(aliases=("default",), kinds=("session",), filters=Query(client="inspector")))
    later = open_sessions([Opened() for _ in range(5)])

    job = driving.drive(job)

    assert (job.ended, job.expected, job.gone) == (7, 7, 0)
    assert not any(alive(*early, *before))
    assert all(alive(*later, *others))


def test_what_is_picked_ends() -> None:
    [picked, other] = opened_before(2)
    job = begun(SessionQuery(aliases=("default",), matches=(Picked(fingerprints=(picked.fingerprint,)),)))
    job = driving.drive(job)
    assert (job.ended, job.gone) == (1, 0)
    assert alive(picked, other) == [False, True]


def test_what_a_page_named_ends() -> None:
    early = opened_before(6)
    taken = snapshot(SessionQuery(aliases=("default",), filters=Query(active_since_ms=1)), closed=True)
    again = Selection.from_json(json.loads(json.dumps(taken.selection.as_json())))
    assert again == taken.selection
    assert {row.session.fingerprint for row in again.records(most=10)[0]} == {
        each.fingerprint for each in early
    }
    assert driving.drive(driving.begin(taken, by="ada")).ended == 6


def test_what_a_user_has_ends_when_they_log_out(settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "END_ON": ["logout"]}}
    ada = User.objects.create_user("ada", password="first")
    early = opened_before(2, principal=f"user:{ada.pk}")
    HAPPENS["logout"](ada)
    assert alive(*early) == [False, False]


def test_every_session_ends_that_was_opened_before_now() -> None:
    early = opened_before(6)
    driving.drive(everything.begin("default", by="ada"))
    assert not any(alive(*early))
    store, limits = sync_store_for("default"), conf.endpoint("default").limits
    moment = store.run(validity.min_created(0)).min_created_ms
    assert moment > store.run(queries.newest("session", limits=limits))


def test_sessions_that_are_in_use_are_met_by_later_pages() -> None:
    """Their places in the index are ahead of the clock, and stay there."""
    used, store = open_sessions([Opened() for _ in range(12)]), sync_store_for("default")
    limits = conf.endpoint("default").limits
    for each in used:
        session = store.run(sessions.touch(each.fingerprint, principal=each.principal, limits=limits))
        assert session is not None
        ahead = session._replace(last_activity_ms=session.last_activity_ms + 3_600_000)
        store.run_all(indexes.update(ahead, limits=limits))
    others = open_sessions([Opened() for _ in range(6)])
    job = driving.drive(begun(EVERY))
    assert job.ended == 18
    assert not any(alive(*used, *others))
