"""Which page a job reads next, which records of it end, where it goes on, and for how long nobody else does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import OperatorActed
from mcp_sessions.ending import BATCH, end_batch, end_session
from mcp_sessions.errors import JobCannotGoOn, StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import Selection, Snapshot, Source
from mcp_sessions.store.calls import queries, validity
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Page, Query
from mcp_sessions.store.calls.sessions import Ends
from mcp_sessions.store.calls.validity import Moment
from tests.inventory.stores import START, session
from tests.jobs.test_driving import EVERY, Died, alive, begun, recorded
from tests.support.sessions import Opened, open_sessions

#: The store's clock.
NOW = START + 1_000_000
LAST = Entry("ab" * 32, 7)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "BATCH", 4)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Query, int, Entry | None]]:
    """The pages that are asked for. The store answers what is there (`page`), at the moment NOW."""
    found: list[tuple[Query, int, Entry | None]] = []

    def page(query: Query, *, limits: Any, limit: int, after: Entry | None) -> str:
        found.append((query, limit, after))
        return "page"

    monkeypatch.setattr(queries, "page", page)
    monkeypatch.setattr(queries, "newest", lambda kind, *, limits: f"newest {kind}")
    monkeypatch.setattr(validity, "min_created", lambda _: "moment")
    return found


def found(
    monkeypatch: pytest.MonkeyPatch,
    query: Query,
    walk: dict[str, Any],
    *,
    page: Page | None = None,
    cut_off_ms: int = START + 1,
    newest_ms: int = 0,
) -> Any:
    """The next batch of a job that has come so far."""
    answers = {
        "page": page or Page(sessions=[], total=0),
        "moment": Moment(0, NOW),
        "newest handle": newest_ms,
    }
    monkeypatch.setattr(driving, "sync_store_for", lambda _: SimpleNamespace(run=answers.__getitem__))
    selection = Selection(sources=(Source(alias="default", query=query),), cut_off_ms={"default": cut_off_ms})
    position = {"walk": walk, "kept": 5} if walk else {}
    job = EndingJob(selection=selection.as_json(), position=position)
    return driving._Drive(job, "me", None)._found("default", query, {"source": 1})


@pytest.mark.parametrize(
    ("query", "walk", "window"),
    [
        ({}, {}, (0, None)),
        ({"active_since_ms": 5, "active_before_ms": 9}, {}, (5, 9)),
        ({}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, (3, 21)),
        ({"active_since_ms": 5}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, (5, 21)),
        ({"active_since_ms": 2}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, (3, 21)),
        ({"active_before_ms": 9}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, (3, 9)),
        ({"active_before_ms": 99}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, (3, 21)),
        ({"active_before_ms": 99}, {"since_ms": 3, "until_ms": 20}, (3, 99)),
        ({}, {"after": [*LAST]}, (0, NOW + 1)),
    ],
)
def test_a_page_reaches_from_where_the_pass_began_to_where_the_index_ended_then(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[Query, int, Entry | None]],
    query: dict[str, Any],
    walk: dict[str, Any],
    window: tuple[int, int | None],
) -> None:
    wanted = Query(kind="handle", client="x", ascending=True, **query)
    found(monkeypatch, wanted, walk)
    since, before = window
    after = Entry(*walk["after"]) if "after" in walk else None
    assert asked == [(replace(wanted, active_since_ms=since, active_before_ms=before), BATCH, after)]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("query", "walk", "last", "position"),
    [
        ({}, {}, None, {"source": 1}),
        ({}, {}, LAST, {"walk": {"since_ms": 0, "until_ms": NOW, "after": [*LAST], "quick": 0}}),
        (
            {},
            {"since_ms": 3, "until_ms": 20, "after": [1, "x"], "quick": 1},
            LAST,
            {"walk": {"since_ms": 3, "until_ms": 20, "after": [*LAST], "quick": 1}, "kept": 5},
        ),
        (
            {},
            {"since_ms": 3, "until_ms": 20, "after": [*LAST]},
            None,
            {"walk": {"since_ms": 20, "until_ms": NOW, "after": None, "quick": 0}, "kept": 5},
        ),
        ({"active_before_ms": 20}, {"since_ms": 3, "until_ms": 20, "after": [*LAST]}, None, {"source": 1}),
        (
            {"active_before_ms": 21},
            {"since_ms": 3, "until_ms": 20, "after": [*LAST]},
            None,
            {"walk": {"since_ms": 20, "until_ms": NOW, "after": None, "quick": 0}, "kept": 5},
        ),
        ({}, {"since_ms": NOW - 1, "until_ms": NOW, "after": [*LAST], "quick": 2}, None, {"source": 1}),
    ],
)
def test_a_job_goes_on_behind_the_page_with_another_pass_or_with_the_next_source(
    monkeypatch: pytest.MonkeyPatch,
    query: dict[str, Any],
    walk: dict[str, Any],
    last: Entry | None,
    position: dict[str, Any],
) -> None:
    page = Page(sessions=[], total=0, last=last)
    batch = found(monkeypatch, Query(kind="handle", ascending=True, **query), walk, page=page)
    assert (batch.position, batch.alias, batch.gone) == (position, "default", 0)


@pytest.mark.usefixtures("asked")
def test_of_a_page_those_end_that_were_created_before_the_cut_off_and_are_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index may be behind: a record that has been used since is on the page all the same."""
    one = session(0, kind="handle")
    page = Page(
        sessions=[
            one._replace(requests=number, created_ms=created, last_activity_ms=active)
            for number, (created, active) in enumerate([(99, 49), (100, 49), (101, 49), (99, 50), (99, 51)])
        ],
        total=5,
    )
    for idle_since, ending in ((None, [0, 3, 4]), (50, [0]), (51, [0, 3])):
        query = Query(kind="handle", ascending=True, active_before_ms=idle_since)
        batch = found(monkeypatch, query, {}, page=page, cut_off_ms=100)
        assert [each.requests for each in batch.records] == ending


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
def test_picked_records_are_read_in_parts_of_which_the_last_ends_the_source() -> None:
    opened = open_sessions([Opened() for _ in range(8)])
    picked = Picked(fingerprints=tuple(each.fingerprint for each in opened))
    job = begun(SessionQuery(aliases=("default",), matches=(picked,)))
    gone = (opened[0].fingerprint, *(each.fingerprint for each in opened[5:7]))
    for each in gone:
        end_session("default", each)
    first = sum(each in gone for each in job.selection["sources"][0]["picked"][:4])
    told: list[tuple[Any, ...]] = []
    job = driving.drive(job, progress=lambda job: told.append((job.position, job.ended, job.gone, job.state)))
    assert told == [
        ({"offset": 4}, 0, first, "running"),
        ({"source": 1}, 4 - first, 3, "running"),
        ({"source": 1}, 5, 3, "done"),
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of this machine: a test moves `now`."""
    found_ = SimpleNamespace(now=datetime(2027, 1, 15, 8, tzinfo=UTC), seconds=100.0)
    monkeypatch.setattr(driving, "timezone", SimpleNamespace(now=lambda: found_.now))
    monkeypatch.setattr(driving, "monotonic", lambda: found_.seconds)
    return found_


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
def test_whoever_drives_a_job_has_it_for_twenty_seconds_from_each_sign_of_life(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 99)
    open_sessions([Opened() for _ in range(2)])
    leases: list[tuple[str, timedelta]] = []

    def lease(*_: Any) -> None:
        job = EndingJob.objects.get()
        assert job.driven_until is not None
        leases.append((job.driver.partition(":")[0], job.driven_until - clock.now))
        clock.now += timedelta(seconds=5)

    def end(*arguments: Any, going_on: Any, **more: Any) -> Ends:
        going_on()
        lease()
        return end_batch(*arguments, **more)

    run = driving._Drive.run

    def taken(self: Any, until: float | None) -> None:
        lease()
        run(self, until)

    monkeypatch.setattr(driving, "end_batch", end)
    monkeypatch.setattr(driving._Drive, "run", taken)
    job = driving.drive(begun(), progress=lease)
    assert leases == [("h" * 30, timedelta(seconds=20))] * len(leases)
    assert len(leases) >= 4
    assert (job.driver, job.driven_until, job.state) == ("", None, "done")
    assert job.finished is not None


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("seconds", "ended"), [(0, 0), (1, 4), (2, 8), (None, 10)])
def test_a_job_is_driven_until_its_time_is_over(
    clock: SimpleNamespace, seconds: float | None, ended: int
) -> None:
    """Each batch takes a second here."""
    open_sessions([Opened() for _ in range(10)])

    def end(*arguments: Any, **more: Any) -> Ends:
        clock.seconds += 1
        return end_batch(*arguments, **more)

    with mock.patch.object(driving, "end_batch", end):
        job = driving.drive(begun(), seconds=seconds)
    assert (job.ended, job.finished is None) == (ended, seconds is not None)


def numbered(monkeypatch: pytest.MonkeyPatch, letters: str) -> None:
    """Tokens begin with these letters, in turn; then with x."""
    left = iter(letters)
    numbers = iter(range(10**6))
    monkeypatch.setattr("secrets.token_hex", lambda _=None: f"{next(left, 'x')}{next(numbers):015x}")


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("letters", ["0abcd", "0badc", "0zyxw"])
def test_whoever_goes_on_settles_the_last_batch_only(monkeypatch: pytest.MonkeyPatch, letters: str) -> None:
    """Whatever tokens there are: of the batch before, and of whoever has ended one of its records meanwhile."""
    opened = open_sessions([Opened() for _ in range(6)])
    job = begun()
    calls: list[Any] = []

    def die_at_the_second(*arguments: Any, **more: Any) -> Ends:
        calls.append(arguments)
        if len(calls) == 2:
            raise Died
        return end_batch(*arguments, **more)

    numbered(monkeypatch, letters)
    with mock.patch.object(driving, "end_batch", die_at_the_second), pytest.raises(Died):
        driving.drive(job)
    assert recorded() == {"ended": 4, "intended": 2}
    by_somebody_else = AuditEntry.objects.filter(outcome="intended").first()
    assert by_somebody_else is not None
    end_session("default", by_somebody_else.fingerprint)
    job = driving.drive(job)
    assert (job.ended, job.gone, job.unknown, job.state) == (5, 1, 0, "done")
    assert recorded() == {"ended": 5, "gone": 1}
    assert not any(alive(*opened))


@pytest.mark.django_db
@pytest.mark.parametrize(("minutes", "outcome"), [(9, "gone"), (11, "unknown")])
def test_as_long_as_there_are_tombstones_it_is_known_who_ended_a_record(minutes: float, outcome: str) -> None:
    open_sessions([Opened() for _ in range(3)])
    job = begun()
    with mock.patch.object(driving, "end_batch", side_effect=Died), pytest.raises(Died):
        driving.drive(job)
    AuditEntry.objects.update(when=timezone.now() - timedelta(minutes=minutes))
    nothing = Ends(ended=[], with_streams=[], gone=[], unknown=[], failure=None)
    with mock.patch.object(driving, "end_batch", return_value=nothing):
        job = driving.drive(job)
    assert recorded() == {outcome: 3}
    assert (job.gone, job.unknown) == ((3, 0) if outcome == "gone" else (0, 3))


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(outside, "notify_all", lambda *facts: told.append(facts))
    return told


@pytest.mark.django_db
def test_the_nodes_of_each_endpoint_are_told_once_of_a_job(announced: list[tuple[str, Any]]) -> None:
    sources = tuple(Source(alias=alias, query=Query()) for alias in ("b", "a", "b"))
    taken = Snapshot(
        selection=Selection(sources=sources, cut_off_ms={"a": 1, "b": 1}),
        expected=3,
        gone=2,
        described="d" * 501,
    )
    job = driving.begin(taken, by="ada", reason="a leak", action="end-all")
    assert (job.described, job.expected, job.gone, job.state, job.driver) == ("d" * 500, 3, 2, "running", "")
    words = f"Job {job.pk} begins (end-all): {'d' * 500}: 'a leak'"
    assert announced == [(alias, OperatorActed(by="ada", what=words)) for alias in ("b", "a")]
    announced.clear()
    driving.begin(taken, by="ada", is_announced=False)
    assert announced == []
    assert driving.begin(taken, by="ada").action == "force-expire"
    assert [each.what.endswith("d") for _, each in announced] == [True, True], "no reason, no colon"


@pytest.mark.django_db
def test_why_a_job_cannot_go_on_fits_its_column() -> None:
    alias = "e" * 600
    query = {"alias": alias, "query": {"kind": "session"}}
    facts: dict[str, Any] = {"selection": {"sources": [query], "cut_off_ms": {alias: 1}}, "by": "ada"}
    job = EndingJob.objects.create(**facts)
    with pytest.raises(JobCannotGoOn):
        driving.drive(job)
    job.refresh_from_db()
    assert (len(job.problem), job.state, job.driver, job.driven_until) == (500, "running", "", None)
    assert driving.stop(job).state == "stopped"


@pytest.mark.django_db
def test_a_job_without_anything_to_end_is_done_at_once() -> None:
    job = driving.drive(begun(replace(EVERY, kinds=("handle",))))
    assert (job.state, job.ended, job.batch, job.gone) == ("done", 0, "", 0)
    assert recorded() == {}


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
def test_what_ended_is_written_down_although_the_store_of_what_follows_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_sessions([Opened() for _ in range(6)])
    following, calls = driving._Drive._next, iter([False, True, False, False, False])

    def away(self: Any) -> Any:
        if next(calls):
            raise StoreUnavailable("away")
        return following(self)

    job = begun()
    monkeypatch.setattr(driving._Drive, "_next", away)
    with pytest.raises(StoreUnavailable):
        driving.drive(job)
    job.refresh_from_db()
    assert (job.ended, job.batch, job.state, job.driver) == (4, "", "running", "")
    assert recorded() == {"ended": 4}
    job = driving.drive(job)
    assert (job.ended, job.state, job.problem) == (6, "done", "")
    assert recorded() == {"ended": 6}
