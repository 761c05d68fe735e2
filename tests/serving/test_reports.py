"""When a process reports what runs in it, and what it says."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.serving import reports as serving_reports
from mcp_sessions.serving.observing import Begun
from mcp_sessions.serving.reports import LONG_SECONDS, REPORT_SECONDS, Reports, memory
from tests.serving.contexts import Process


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


def streaming(fingerprint: str, name: str, *, is_open: bool = True) -> Any:
    """A request whose answer is a stream; without a name, one object."""
    stream = SimpleNamespace(name=name, event_stream=SimpleNamespace(open=is_open)) if name else None
    return SimpleNamespace(session=SimpleNamespace(fingerprint=fingerprint), stream=stream)


def test_a_report_has_the_calls_that_have_run_for_longest_and_the_streams_that_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_reports, "MOST_CALLS", 2)
    monkeypatch.setattr(serving_reports, "MOST_STREAMS", 2)
    process = Process()
    process.node.validity.ahead_ms = 60_000.4
    now, now_ms = time.monotonic(), process.node.validity.now_ms()
    running = [
        Begun(number, "session", "f" * 64, f"call {number}", "user:1", "c" * 200, "1" * 200, now - seconds)
        for number, seconds in ((1, 1.0), (2, 30.0), (3, 5.0))
    ]
    admission: Any = [
        streaming("a", ""),
        streaming("b", "one"),
        streaming("c", "closed", is_open=False),
        streaming("d", "two"),
    ]
    listening: Any = [SimpleNamespace(fingerprint="e", stream="standalone")]
    listeners: Any = range(7)
    reports = Reports(
        process.context,
        admission,
        listening,
        listeners,
        running=lambda: running,
        take_lag=lambda: 0.0126,
        failing=lambda: ["failing"],
    )
    reports._started = now - 100
    [report] = reports.writes()
    node, text, _ = report.arguments
    told = json.loads(text)
    assert node == process.node.id
    assert (told["calls"], told["streams"], told["listeners"], told["pid"]) == (3, 3, 7, os.getpid())
    assert (told["lag_ms"], told["ahead_ms"], told["failing"]) == (13, 60_000, ["failing"])
    assert told["open"] == [["b", "one"], ["d", "two"]]
    assert [each[0] for each in told["running"]] == [2, 3]
    [_, kind, fingerprint, call, principal, client, version, began_ms] = told["running"][0]
    assert (kind, fingerprint, call, principal) == ("session", "f" * 64, "call 2", "user:1")
    assert (client, version) == ("c" * 100, "1" * 100)
    assert abs(now_ms - began_ms - 30_000) < 5_000
    assert abs(now_ms - told["started"] - 100_000) < 5_000


def test_the_times_of_a_report_are_those_of_the_store() -> None:
    process, now = Process(), 1_000.0
    process.node.validity = mock.Mock(now_ms=lambda: 50_000_000, ahead_ms=0)
    nothing: Any = ()
    reports = Reports(
        process.context, nothing, nothing, nothing, running=list, take_lag=lambda: 2.0, failing=list
    )
    reports._started = now - 600
    begun = Begun(1, "session", "f" * 64, "ping", "user:1", "c", "1", now - 700)
    told = reports._told([begun], now)
    assert (told["started"], told["lag_ms"]) == (49_400_000, 2_000)
    assert told["running"][0][-1] == 49_300_000


def test_the_memory_of_the_process_is_known_where_the_system_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "statm"
    monkeypatch.setattr(serving_reports, "_MEMORY", found)
    assert memory() is None
    for text, pages in (("", None), ("7", None), ("7 x", None), ("700 3 9", 3)):
        found.write_text(text)
        assert memory() == (None if pages is None else pages * os.sysconf("SC_PAGE_SIZE"))
