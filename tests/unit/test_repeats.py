"""What is logged of what happens many times in a row, with a clock and timers of the test's own."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

import pytest

from mcp_sessions.repeats import Repeats

logger = logging.getLogger("mcp_sessions.tests.repeats")


class Timers:
    """In the place of the event loop."""

    def __init__(self) -> None:
        self.now = 1000.0
        #: Seconds from its start, what is called then, and its handle.
        self.started: list[tuple[float, Callable[[], None], mock.Mock]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> mock.Mock:
        handle = mock.Mock()
        self.started.append((seconds, callback, handle))
        return handle


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Timers:
    timers = Timers()
    monkeypatch.setattr("mcp_sessions.repeats.time", SimpleNamespace(monotonic=lambda: timers.now))
    monkeypatch.setattr("mcp_sessions.repeats.asyncio", SimpleNamespace(get_running_loop=lambda: timers))
    caplog.set_level(logging.DEBUG, logger=logger.name)
    return timers


def test_the_first_of_a_row_is_a_warning_and_at_its_end_their_number(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    row = Repeats(logger, "Requests refused")
    assert not row.lasts
    for _ in range(3):
        row.add("Refused %r", "ann")
        timers.now += 2.5
        assert row.lasts
    [(seconds, _, handle)] = timers.started
    assert seconds == 10
    row.end()
    assert not row.lasts
    handle.cancel.assert_called_once_with()
    row.end()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "Refused 'ann'"),
        ("DEBUG", "Refused 'ann'"),
        ("DEBUG", "Refused 'ann'"),
        ("WARNING", "Requests refused: 3 in 5.0 s. That is over."),
    ]
    assert not any(each.exc_info for each in caplog.records)


@pytest.mark.parametrize(("quiet", "rows"), [(9.9, 1), (10.0, 2)])
def test_a_row_is_over_after_ten_quiet_seconds(
    timers: Timers, caplog: pytest.LogCaptureFixture, quiet: float, rows: int
) -> None:
    row = Repeats(logger, "Requests refused")
    for pause in (5.0, quiet, 0.0):
        row.add("Refused")
        timers.now += pause
    assert len(timers.started) == rows
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert told == ["Refused", *["Requests refused: 2 in 5.0 s. That is over.", "Refused"][: 2 * (rows - 1)]]


def test_a_timer_looks_again_when_the_last_one_is_old_enough(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    row = Repeats(logger, "Requests refused")
    row.add("Refused")
    timers.now += 4
    row.add("Refused")
    timers.now += 6
    timers.started[0][1]()
    assert [seconds for seconds, *_ in timers.started] == [10, 4]
    assert caplog.messages == ["Refused", "Refused"]
    timers.now += 4
    timers.started[1][1]()
    assert not row.lasts
    assert len(timers.started) == 2
    assert caplog.messages[-1] == "Requests refused: 2 in 4.0 s. That is over."


def test_without_an_event_loop_the_next_row_says_how_many_there_were(
    timers: Timers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    none = mock.Mock(side_effect=RuntimeError)
    monkeypatch.setattr("mcp_sessions.repeats.asyncio", SimpleNamespace(get_running_loop=none))
    row = Repeats(logger, "Requests refused")
    row.add("Refused")
    timers.now += 60
    row.add("Refused again", exc_info=True)
    assert caplog.messages == ["Refused", "Requests refused: 1 in 0.0 s. That is over.", "Refused again"]
    assert caplog.records[-1].exc_info is not None
