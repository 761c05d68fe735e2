"""The primary for threads: whoever takes a connection asks the Sentinels, unless somebody just did."""

import time
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError, SentinelManagedConnection

from mcp_sessions.connections import sync_sentinel
from mcp_sessions.connections.sync_sentinel import SyncPrimaryPool

OLD, NEW = ("old", 1), ("new", 2)


class Sentinel:
    """One that says what a test put here, or fails."""

    def __init__(self, epoch: int = 1, address: tuple[str, int] = OLD) -> None:
        self.error: Exception | None = None
        self.failing_over = 0
        self.asked = 0
        self.says(epoch, address)

    def says(self, epoch: int, address: tuple[str, int]) -> None:
        self.epoch, self.address = epoch, address

    def execute_command(self, command: str, service: str) -> dict[str, Any]:
        assert (command, service) == ("SENTINEL MASTER", "sessions")
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.failing_over -= 1
        flags = "master,failover_in_progress" if self.failing_over >= 0 else "master"
        host, port = self.address
        return {
            "config-epoch": str(self.epoch),
            "ip": host,
            "port": str(port),
            "flags": flags,
            "is_sdown": False,
            "is_odown": False,
        }


class Clock:
    """The monotonic clock, moved by hand."""

    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[0.125, 1_000.0], ids=["as the machine starts", "later"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.now = request.param
    monkeypatch.setattr(time, "monotonic", made)
    monkeypatch.setattr(sync_sentinel, "LOOK", 0.0)
    return made


def pool(*sentinels: Sentinel) -> tuple[SyncPrimaryPool, mock.Mock]:
    """A pool without connections; what closes them is noted."""
    made = SyncPrimaryPool(
        "sessions", mock.Mock(sentinels=sentinels), connection_class=SentinelManagedConnection
    )
    made.disconnect = mock.Mock()  # type: ignore[method-assign]
    return made, made.disconnect


def test_an_answer_counts_for_a_moment(clock: Clock) -> None:
    sentinel = Sentinel()
    primaries, _ = pool(sentinel)
    for ahead, asked in ((0.0, 1), (0.0, 1), (0.25, 1), (0.125, 2)):
        clock.now += ahead
        assert primaries.primary() == OLD
        assert sentinel.asked == asked


def test_a_new_primary_closes_the_connections_to_the_one_before(clock: Clock) -> None:
    sentinel = Sentinel()
    primaries, closed = pool(sentinel)
    for epoch, address, primary, times in (
        (1, OLD, OLD, 0),
        (2, OLD, OLD, 0),
        (3, NEW, NEW, 1),
        (2, OLD, NEW, 1),
    ):
        clock.now += 1
        sentinel.says(epoch, address)
        assert primaries.primary() == primary
        assert closed.call_count == times
    closed.assert_called_with(inuse_connections=True)


def test_while_no_sentinel_answers_what_was_known_counts(clock: Clock) -> None:
    sentinel = Sentinel()
    primaries, _ = pool(sentinel)
    sentinel.error = RedisConnectionError("refused")
    with pytest.raises(MasterNotFoundError, match="No Sentinel knows 'sessions'"):
        primaries.primary()
    sentinel.error = None
    clock.now += 10
    assert primaries.primary() == OLD
    sentinel.error = RedisConnectionError("refused")
    clock.now += 10
    assert primaries.primary() == OLD


def test_a_sentinel_that_failed_rests_while_others_answer(clock: Clock) -> None:
    failing, other = Sentinel(), Sentinel()
    failing.error = OSError("away")
    primaries, _ = pool(failing, other)
    for ahead, asked in ((0.0, 1), (1.0, 1), (3.6, 1), (0.5, 2)):
        clock.now += ahead
        assert primaries.primary() == OLD
        assert failing.asked == asked
    assert other.asked == 4
    other.error = OSError("away")
    for asked in (2, 3):
        clock.now += 1
        assert primaries.primary() == OLD
        assert failing.asked == asked, "if all have failed, none rests"


def test_a_failover_is_waited_for_and_not_for_ever(clock: Clock) -> None:
    sentinel = Sentinel()
    sentinel.failing_over = 2
    primaries, _ = pool(sentinel)
    assert primaries.primary() == OLD
    assert sentinel.asked == 3
    sentinel.failing_over = 1_000
    ask = sentinel.execute_command

    def slowly(*words: str) -> dict[str, Any]:
        clock.now += 0.5
        return ask(*words)

    clock.now += 1
    with mock.patch.object(sentinel, "execute_command", slowly):
        assert primaries.primary() == OLD
    assert sentinel.asked - 3 == 4, "for LONGEST_FAILOVER"


def test_what_most_sentinels_say_counts_long_after_the_last_failover(clock: Clock) -> None:
    """They were set up anew. That they said the same meanwhile makes the failover no younger."""
    sentinel = Sentinel(3, NEW)
    primaries, _ = pool(sentinel)
    for passed, epoch, address, primary in (
        (0, 2, NEW, NEW),
        (20, 3, NEW, NEW),
        (5, 2, OLD, NEW),
        (4, 3, NEW, NEW),
        (2, 2, OLD, OLD),
        (5, 1, NEW, OLD),
    ):
        clock.now += passed
        sentinel.says(epoch, address)
        assert primaries.primary() == primary
