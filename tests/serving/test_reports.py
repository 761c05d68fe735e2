"""When a process reports what runs in it."""

import time
from unittest import mock

from mcp_sessions.serving.observing import Begun
from mcp_sessions.serving.reports import LONG_SECONDS, REPORT_SECONDS, Reports


def running_for(seconds: float) -> Begun:
    return mock.Mock(spec=Begun, began=time.monotonic() - seconds)


def test_a_call_is_reported_at_once_when_it_takes_long_and_when_it_does_no_more() -> None:
    running: list[Begun] = []
    reports = Reports(
        mock.MagicMock(),
        mock.MagicMock(),
        mock.MagicMock(),
        mock.MagicMock(),
        running=lambda: running,
        take_lag=lambda: 0.0,
        failing=list,
    )
    with mock.patch.object(reports, "_told", return_value={}):
        assert reports.writes()
        assert not reports.writes(), "nothing runs"
        running[:] = [running_for(LONG_SECONDS / 2)]
        assert not reports.writes(), "it is short so far"
        running[:] = [running_for(LONG_SECONDS * 1.1), running_for(0)]
        assert reports.writes()
        assert reports.writes(), "it still runs"
        running.pop(0)
        assert reports.writes(), "it is over"
        assert not reports.writes()
        with mock.patch.object(time, "monotonic", return_value=time.monotonic() + REPORT_SECONDS):
            assert reports.writes(), "it was silent for long enough"
    assert 0.5 <= LONG_SECONDS <= 3, "an operator looks at calls that take long, and not at all"
