"""The last requests of each record: what is kept until it is written, and which records fail."""

import time
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.records import ANONYMOUS
from mcp_sessions.serving import past
from mcp_sessions.serving.observing import REQUEST_CANCELLED, Begun, Ended
from mcp_sessions.serving.past import FAILING_SECONDS, WRITE_SECONDS, PastRequests
from mcp_sessions.store.calls import recent
from tests.serving.contexts import Process


class Clock:
    """`time.monotonic()`, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Any:
    moving = Clock()
    with mock.patch.object(time, "monotonic", moving):
        yield moving


def ended(
    fingerprint: str, at: float, *, code: int | None = None, failed: bool = False, took: float = 0.25
) -> Ended:
    begun = Begun(1, "session", fingerprint, "tools/call:add", ANONYMOUS, "c", "1", at - took)
    return Ended(begun, at, code, failed)


def caller(principal: str) -> Ended:
    return Ended(Begun(1, "caller", "", "ping", principal, "c", "1", 1.0), 2.0, None, failed=False)


async def test_they_are_written_after_a_while_with_when_they_ended_and_how(clock: Clock) -> None:
    process = Process()
    keeper, session = PastRequests(process.context), await process.harness.open()
    keeper.hear([ended(session, clock.now - 2)])
    clock.now += WRITE_SECONDS - 0.001
    assert keeper.writes() == ()
    clock.now += 0.001
    keeper.hear([ended(session, clock.now, failed=True), ended(session, clock.now, code=-32603)])
    [note] = keeper.writes()
    now_ms = process.node.validity.now_ms()
    assert await process.store.run(note)
    found = await process.store.run(recent.read(session, wanted=9, most=9))
    assert (found.ended, found.failed) == (3, 2)
    last, second, first = found.requests
    assert (first.outcome, first.took_ms, first.call) == ("ok", 250, "tools/call:add")
    assert first.node == process.node.id[:8]
    assert abs(now_ms - first.ended_ms - (2 + WRITE_SECONDS) * 1000) < 10_000
    assert round((second.ended_ms - first.ended_ms) / 100) == round((2 + WRITE_SECONDS) * 10)
    assert {second.outcome, last.outcome} == {"tool error", "error"}
    keeper.hear([ended(session, clock.now)])
    assert keeper.writes() == (), "a moment ago"
    clock.now += WRITE_SECONDS
    assert len(keeper.writes()) == 1
    clock.now += WRITE_SECONDS
    assert keeper.writes() == [], "nothing twice"


async def test_when_a_request_ended_is_written_by_the_clock_of_the_store(clock: Clock) -> None:
    process = Process()
    process.node.validity = mock.Mock(now_ms=lambda: 50_000_000)
    [written] = PastRequests(process.context)._past([ended("f" * 64, clock.now - 600)])
    assert (written.ended_ms, written.took_ms) == (49_400_000, 250)


async def test_a_process_that_stops_does_not_wait(clock: Clock) -> None:
    keeper = PastRequests(Process().context)
    keeper.hear([ended("f" * 64, clock.now)])
    keeper.hurry()
    assert len(keeper.writes()) == 1


@pytest.mark.parametrize("most", [0, 2])
async def test_of_each_record_as_many_are_kept_as_the_setting_says(clock: Clock, most: int) -> None:
    process = Process(recent_requests=most)
    keeper, session = PastRequests(process.context), await process.harness.open()
    keeper.hear([ended(session, clock.now + n, failed=n == 0) for n in range(3)])
    assert keeper.failing() == ([session] if most else [])
    keeper.hurry()
    for note in keeper.writes():
        await process.store.run(note)
    found = await process.store.run(recent.read(session, wanted=9, most=9))
    assert (found.ended, found.failed, len(found.requests)) == ((3, 1, 2) if most else (0, 0, 0))


async def test_nothing_more_is_written_when_the_setting_says_so(clock: Clock) -> None:
    process = Process()
    keeper = PastRequests(process.context)
    keeper.hear([ended("f" * 64, clock.now)])
    process.conf = replace(process.conf, recent_requests=0)
    keeper.hurry()
    assert keeper.writes() == ()


async def test_what_has_no_record_is_not_kept(clock: Clock) -> None:
    keeper = PastRequests(Process().context)
    keeper.hear([caller(ANONYMOUS), caller("user:1"), caller("user:1")])
    keeper.hurry()
    assert len(keeper.writes()) == 1


async def test_records_beyond_a_bound_are_dropped_and_the_others_go_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MOST_RECORDS", 2)
    process = Process()
    keeper = PastRequests(process.context)
    one, other, third = [await process.harness.open() for _ in range(3)]
    keeper.hear([ended(each, clock.now) for each in (one, other, third, one)])
    keeper.hurry()
    for note in keeper.writes():
        await process.store.run(note)
    kept = [
        (await process.store.run(recent.read(each, wanted=9, most=9))).ended for each in (one, other, third)
    ]
    assert kept == [2, 1, 0]


async def test_a_record_fails_for_a_while_after_a_failure_and_the_last_ones_are_known(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MOST_FAILING", 2)
    keeper, at = PastRequests(Process().context), clock.now
    keeper.hear([ended("a", at), ended("b", at, code=REQUEST_CANCELLED)])
    assert keeper.failing() == [], "a cancelled request has not failed"
    keeper.hear(
        [ended("a", at, failed=True), ended("b", at + 1, code=-32603), ended("c", at + 2, failed=True)]
    )
    assert keeper.failing() == ["b", "c"]
    keeper.hear([ended("b", at + 3, failed=True), ended("d", at + 3)])
    assert keeper.failing() == ["c", "b"]
    clock.now = at + 2 + FAILING_SECONDS
    assert keeper.failing() == ["c", "b"]
    clock.now += 0.001
    assert keeper.failing() == ["b"]
