"""Jobs that end records: what ends, what is recorded, and what a process leaves that dies in the middle."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.audit.models import FINISHED, RUNNING, STOPPED, AuditEntry, EndingJob
from mcp_sessions.ending import end_batch, end_session
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import cut_offs, snapshot
from mcp_sessions.jobs.table import LEASE
from mcp_sessions.signals import session_ended
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import endings, sessions, validity
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.sessions import Ends
from mcp_sessions.store.factory import sync_store_for
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

EVERY = SessionQuery(aliases=("default",), kinds=("session",))


class Died(BaseException):
    """In the place of SIGKILL."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "BATCH", 4)


@pytest.fixture
def signals() -> Iterator[list[str]]:
    received: list[str] = []

    def receive(*, fingerprint: str, **_: Any) -> None:
        received.append(fingerprint)

    session_ended.connect(receive)
    yield received
    session_ended.disconnect(receive)


def begun(selected: SessionQuery = EVERY, **more: Any) -> EndingJob:
    return driving.begin(snapshot(selected, **more), by="ada", reason="a leak")


def alive(*opened: Opened) -> list[bool]:
    found = sync_store_for("default").run_all([sessions.get(each.fingerprint) for each in opened])
    return [each is not None for each in found]


def recorded() -> Counter[str]:
    return Counter(AuditEntry.objects.values_list("outcome", flat=True))


def each_is_recorded_once(opened: list[Opened]) -> bool:
    entries = AuditEntry.objects.filter(outcome="ended").values_list("fingerprint", flat=True)
    return sorted(entries) == sorted(each.fingerprint for each in opened)


def test_everything_that_was_there_ends_and_is_recorded(signals: list[str]) -> None:
    opened = open_sessions([Opened(client=f"client {n % 3}") for n in range(10)])
    job = driving.drive(begun())
    assert (job.state, job.ended, job.gone, job.expected) == (FINISHED, 10, 0, 10)
    assert not any(alive(*opened))
    assert each_is_recorded_once(opened)
    assert sorted(signals) == sorted(each.fingerprint for each in opened)
    entry = AuditEntry.objects.filter(fingerprint=opened[0].fingerprint).get()
    assert (entry.by, entry.reason, entry.action, entry.job) == ("ada", "a leak", "force-expire", job)
    assert (entry.client, entry.principal_name) == ("client 0", "anonymous")
    assert entry.title == f"{opened[0].fingerprint[:12]} (client 0 1.0)"


@pytest.mark.parametrize(
    ("filters", "described"),
    [
        (Query(), "sessions of default"),
        (Query(client="goose"), "sessions of default, client 'goose'"),
        (
            Query(protocol="2025-06-18", active_since_ms=1),
            "sessions of default, protocol '2025-06-18', used lately",
        ),
        (Query(active_before_ms=1), "sessions of default, not used lately"),
    ],
)
def test_a_job_says_what_was_selected(filters: Query, described: str) -> None:
    assert begun(replace(EVERY, filters=filters)).described == described


def test_what_comes_back_after_the_cut_off_is_not_touched() -> None:
    """Clients return as fast as they are ended: every one of the first ends all the same."""
    first = open_sessions([Opened() for _ in range(10)])
    cut_off = cut_offs(["default"])
    returned = [*open_sessions([Opened() for _ in range(4)])]
    job = begun(cut_off_ms=cut_off)

    def come_back(job: EndingJob) -> None:
        returned.extend(open_sessions([Opened() for _ in range(4)]))

    job = driving.drive(job, progress=come_back)
    assert (job.state, job.ended) == (FINISHED, 10)
    assert not any(alive(*first))
    assert all(alive(*returned))


def test_a_cut_off_in_the_future_is_now() -> None:
    open_sessions([Opened()])
    job = begun(cut_off_ms={"default": 2**53})
    [later] = open_sessions([Opened()])
    assert driving.drive(job).ended == 1
    assert alive(later) == [True]


def test_sessions_that_are_used_meanwhile_are_not_missed() -> None:
    opened = open_sessions([Opened() for _ in range(12)])

    def use(job: EndingJob) -> None:
        store, limits = sync_store_for("default"), conf.endpoint("default").limits
        for each in opened:
            store.run(sessions.touch(each.fingerprint, principal=each.principal, limits=limits))

    assert driving.drive(begun(), progress=use).ended == 12


def test_conditions_hold_together() -> None:
    wanted = open_sessions(
        [Opened(client="leaky", principal="user:1"), Opened(client="leaky", principal="user:1")]
    )
    others = open_sessions([Opened(client="leaky"), Opened(principal="user:1"), Opened()])
    filters = Query(client="leaky", principal="user:1")
    job = driving.drive(begun(SessionQuery(aliases=("default",), kinds=("session",), filters=filters)))
    assert job.ended == 2
    assert (alive(*wanted), alive(*others)) == ([False] * 2, [True] * 3)


def test_picked_records_that_are_gone_are_counted() -> None:
    one, two, gone = open_sessions([Opened(), Opened(), Opened(kind="handle", label="basket")])
    end_session("default", gone.fingerprint)
    picked = Picked(fingerprints=(one.fingerprint, gone.fingerprint))
    job = begun(SessionQuery(aliases=("default",), matches=(picked,)))
    end_session("default", one.fingerprint)
    job = driving.drive(job)
    assert (job.ended, job.gone, job.state) == (0, 2, FINISHED)
    assert alive(two) == [True]


def test_a_job_goes_on_for_so_long_and_is_resumed() -> None:
    opened = open_sessions([Opened() for _ in range(10)])
    job = driving.drive(begun(), seconds=0)
    assert (job.state, job.ended) == (RUNNING, 0)
    assert driving.drive(job).ended == 10
    assert each_is_recorded_once(opened)


def test_a_stopped_job_ends_nothing_until_it_is_resumed() -> None:
    open_sessions([Opened() for _ in range(10)])

    def stop(job: EndingJob) -> None:
        if not job.ended:
            driving.stop(job)

    job = driving.drive(begun(), progress=stop)
    assert job.state == STOPPED
    assert 0 < job.ended < 10
    assert driving.drive(job).ended == job.ended
    assert recorded() == {"ended": job.ended}
    driving.resume(job)
    assert driving.drive(job).ended == 10
    assert recorded() == {"ended": 10}


@pytest.mark.parametrize("moment", ["before", "in the store", "before it is forgotten", "after"])
def test_a_process_that_dies_leaves_a_batch_that_is_recorded_once(moment: str, signals: list[str]) -> None:
    opened = open_sessions([Opened() for _ in range(10)])
    job = begun()
    died = mock.Mock(side_effect=Died)

    def die_after(alias: str, fingerprints: list[str], **more: Any) -> Any:
        end_batch(alias, fingerprints, **more)
        raise Died

    patches: dict[str, Any] = {
        "before": mock.patch.object(driving, "end_batch", died),
        "in the store": mock.patch("mcp_sessions.cluster.outside.notify_all", died),
        "before it is forgotten": mock.patch("mcp_sessions.store.calls.endings.finish", died),
        "after": mock.patch.object(driving, "end_batch", die_after),
    }
    with patches[moment], pytest.raises(Died):
        driving.drive(job)
    # The lease of a process that was killed stays until it is over.
    EndingJob.objects.update(driver="a dead one", driven_until=timezone.now() + LEASE)
    assert driving.drive(job).ended == 0, "somebody else has it"
    assert recorded() == {"intended": 4}

    EndingJob.objects.update(driven_until=timezone.now())
    job = driving.drive(job)
    assert (job.state, job.ended, job.gone) == (FINISHED, 10, 0)
    assert each_is_recorded_once(opened)
    assert recorded() == {"ended": 10}
    assert {*signals} == {each.fingerprint for each in opened}
    assert len(signals) == (14 if moment == "before it is forgotten" else 10)


def test_the_end_of_a_batch_long_ago_is_known_by_its_tombstones() -> None:
    opened = open_sessions([Opened() for _ in range(4)])
    job = begun()

    def die_after(alias: str, fingerprints: list[str], **more: Any) -> Any:
        end_batch(alias, fingerprints, **more)
        raise Died

    with mock.patch.object(driving, "end_batch", die_after), pytest.raises(Died):
        driving.drive(job)
    with mock.patch.object(driving, "end_batch", mock.Mock(side_effect=AssertionError)):
        assert driving.drive(job).ended == 4
    assert each_is_recorded_once(opened)


def test_without_tombstones_it_is_said_that_nobody_knows() -> None:
    open_sessions([Opened() for _ in range(3)])
    job = begun()
    lost = sessions.end_token("f" * 64)

    def die_after(alias: str, fingerprints: list[str], **more: Any) -> Any:
        end_batch(alias, fingerprints, **more)
        raise Died

    with mock.patch.object(driving, "end_batch", die_after), pytest.raises(Died):
        driving.drive(job)
    AuditEntry.objects.update(when=timezone.now() - timedelta(minutes=11))
    nothing = Ends(ended=[], with_streams=[], gone=[], unknown=[], failure=None)
    with (
        mock.patch.object(sessions, "end_token", return_value=lost),
        mock.patch.object(driving, "end_batch", return_value=nothing),
    ):
        job = driving.drive(job)
    assert (job.state, job.ended, job.unknown) == (FINISHED, 0, 3)
    assert recorded() == {"unknown": 3}


def test_a_store_that_goes_away_leaves_a_job_that_stands() -> None:
    opened = open_sessions([Opened() for _ in range(10)])
    calls = []

    def fail_once(alias: str, fingerprints: list[str], **more: Any) -> Any:
        calls.append(fingerprints)
        ends = end_batch(alias, fingerprints, **more)
        if len(calls) == 2:
            raise StoreUnavailable("the reply was lost")
        return ends

    job = begun()
    with mock.patch.object(driving, "end_batch", fail_once):
        with pytest.raises(StoreUnavailable):
            driving.drive(job)
        job.refresh_from_db()
        assert (job.state, job.ended, job.driver) == (RUNNING, 4, "")
        assert "the reply was lost" in job.problem
        job = driving.drive(job)
    assert (job.state, job.ended, job.problem) == (FINISHED, 10, "")
    assert each_is_recorded_once(opened)


def test_two_operators_at_once_end_each_record_once(signals: list[str]) -> None:
    opened = open_sessions([Opened() for _ in range(12)])
    one, two = begun(), begun()
    for _ in range(20):  # in turn, a batch of each
        for job in (one, two):
            with mock.patch.object(driving, "monotonic", side_effect=[0.0, 0.0, 1.0, 1.0]):
                driving.drive(job, seconds=1)
    one.refresh_from_db()
    two.refresh_from_db()
    assert (one.state, two.state) == (FINISHED, FINISHED)
    assert one.ended + two.ended == 12
    assert each_is_recorded_once(opened)
    assert sorted(signals) == sorted(each.fingerprint for each in opened)


def test_whoever_has_lost_the_lease_writes_nothing() -> None:
    open_sessions([Opened() for _ in range(10)])
    job = begun()

    def take(job: EndingJob) -> None:
        EndingJob.objects.filter(pk=job.pk).update(driver="another")

    job = driving.drive(job, progress=take)
    assert (job.driver, job.ended) == ("another", 0)
    assert recorded() == {"intended": 4}


def test_nobody_takes_a_job_over_while_receivers_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "SAID_SECONDS", 0)
    leases: list[Any] = []

    def receive(**_: Any) -> None:
        leases.append(EndingJob.objects.get().driven_until)

    open_sessions([Opened() for _ in range(3)])
    session_ended.connect(receive)
    try:
        driving.drive(begun())
    finally:
        session_ended.disconnect(receive)
    assert len(set(leases)) == 3
    assert leases == sorted(leases)


def test_a_session_that_is_used_while_the_first_page_is_read_is_not_missed() -> None:
    """The page is bounded by no moment: a record that has just moved is in it."""
    [session] = open_sessions([Opened()])
    job = begun()
    now = validity.min_created(0)

    def use_afterwards(known_ms: int) -> Any:
        store, limits = sync_store_for("default"), conf.endpoint("default").limits
        past = store.run(now)._replace(now_ms=store.run(now).now_ms - 10_000)
        touch = sessions.touch(session.fingerprint, principal=session.principal, limits=limits)
        store.run(touch)
        return Call(now.script, now.home, now.parts, now.arguments, lambda _, __: past)

    with mock.patch.object(validity, "min_created", use_afterwards):
        assert driving.drive(job).ended == 1


def test_entries_that_somebody_deleted_hold_up_no_job() -> None:
    open_sessions([Opened() for _ in range(6)])
    job = begun()
    with mock.patch.object(driving, "end_batch", side_effect=Died), pytest.raises(Died):
        driving.drive(job)
    AuditEntry.objects.all().delete()
    job = driving.drive(job)
    assert (job.state, job.ended) == (FINISHED, 2)
