"""What was counted in steps of time, as figures."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_sessions.counting import BUCKETS, Counts
from mcp_sessions.inventory.figures import DAY, HOUR, WEEK, Figures, Span, ToolFigures, figures_of, quantile
from mcp_sessions.store.calls.counts import Read
from tests.inventory.stores import START

#: 90 s after a moment at which a step of each length begins but that of a week.
NOW = START + 90_000
EIGHT = datetime.fromtimestamp(START / 1000, UTC)


def figures(span: Span, *steps: Mapping[str, int], now_ms: int = NOW) -> Figures:
    return figures_of({"default": [Read(span, now_ms, steps, [])]})


def numbers(*calls: tuple[float, Any]) -> list[int]:
    """Those of a tool with these calls: their milliseconds and outcomes."""
    counted = Counts()
    for milliseconds, outcome in calls:
        counted.add_call("tool", milliseconds, outcome)
    return counted.tools["tool"]


@pytest.mark.parametrize(
    ("span", "step", "tools_since"),
    [
        (HOUR, timedelta(minutes=1), EIGHT - timedelta(hours=1)),
        (DAY, timedelta(minutes=10), EIGHT - timedelta(days=1)),
        (WEEK, timedelta(hours=1), EIGHT - timedelta(days=7, hours=2)),
    ],
)
def test_steps_begin_when_the_clock_says(span: Span, step: timedelta, tools_since: datetime) -> None:
    last = EIGHT + timedelta(minutes=1) if span is HOUR else EIGHT
    found = figures(span, {}, {}, {})
    assert found.starts() == [last - 2 * step, last - step, last]
    assert found.since == last - 2 * step
    assert found.tools_since == tools_since


def test_a_rate_is_that_of_the_minutes_that_have_begun() -> None:
    found = figures(DAY, {"requests:ok": 20, "requests:error": 10, "requests_other": 5}, {"requests:ok": 8})
    assert found.counted("requests") == [30, 8]
    assert found.counted("requests:ok", "requests_other") == [25, 8]
    assert found.total("requests", "requests_other") == 43
    assert found.per_minute("requests") == [3.0, 4.0]
    assert figures(HOUR, {"a": 6}, {"a": 8}).per_minute("a") == [6.0, 8.0], "one step is one minute"
    ends = START + DAY.step_ms - 1
    assert figures(DAY, {}, {"a": 30}, now_ms=ends).per_minute("a") == [0.0, 3.0]
    assert figures(DAY, {"a": 30}, now_ms=START).per_minute("a") == [30.0]


def test_what_is_measured_is_a_rate_only_if_each_minute_adds_to_it() -> None:
    found = figures(DAY, {"streams": 40, "nodes": 20, "lag_ms": 40}, {}, {"streams": 4, "lag_ms": 0})
    assert found.measured("streams") == [4.0, None, 2.0]
    assert found.measured("nodes") == [2.0, None, None]
    assert found.measured("lag_ms") == [40, None, 0]


def test_labels_are_counted_over_all_steps_most_first() -> None:
    found = figures(
        DAY,
        {"limited:a": 3, "limited:b": 20, "limited": 9, "limited:": 9, "other:a": 9},
        {"limited:a": 30, "limited:c:d": 1},
    )
    assert list(found.by_label("limited").items()) == [("a", 33), ("b", 20), ("c:d", 1)]
    assert found.most_per_minute("limited", "a") == 15.0
    assert found.most_per_minute("limited", "b") == 2.0


@pytest.mark.parametrize(
    ("calls", "part", "seconds"),
    [
        ({}, 0.5, 0.0),
        ({2: 10}, 0.5, 0.0175),
        ({2: 10}, 0.95, 0.02425),
        ({0: 5, 1: 5}, 0.5, 0.005),
        ({0: 5, 1: 5}, 0.95, 0.0095),
        ({0: 1, 6: 1}, 0.5, 0.005),
        ({0: 1, 6: 1}, 0.75, 0.375),
        ({len(BUCKETS): 3}, 0.5, 300.0),
    ],
)
def test_durations_are_taken_to_be_spread_evenly_within_a_bucket(
    calls: Mapping[int, int], part: float, seconds: float
) -> None:
    buckets = [calls.get(number, 0) for number in range(len(BUCKETS) + 1)]
    assert quantile(buckets, part) == pytest.approx(seconds)


def test_the_calls_of_a_tool_are_added_up_over_steps_and_endpoints_most_called_first() -> None:
    def read(*tools: Mapping[str, Sequence[int]]) -> Read:
        return Read(HOUR, NOW, [{}], tools)

    add = numbers((20, "ok"), (20, "tool error"), (20, "error"), (20, "interrupted"), (20, "cancelled"))
    found = figures_of(
        {
            "default": [read({"add": add, "b": numbers((1, "ok"))}, {"add": add}), read({"add": add})],
            "other": [read({"a": numbers((1, "cancelled")), "add": add})],
        }
    ).tools
    assert [(each.name, each.calls, each.failed, each.cancelled) for each in found] == [
        ("add", 20, 12, 4),
        ("a", 1, 0, 1),
        ("b", 1, 0, 0),
    ]
    assert [found[0].p50, found[0].p95] == pytest.approx([0.0175, 0.02425])
    assert [each.failed_percent for each in found] == [60.0, 0.0, 0.0]
    assert ToolFigures(name="never", calls=0, failed=0, cancelled=0, p50=0, p95=0).failed_percent == 0.0


def test_what_endpoints_share_is_counted_once_and_what_they_do_is_added_up() -> None:
    def read(now_ms: int, *steps: Mapping[str, int]) -> Read:
        return Read(HOUR, now_ms, steps, [])

    found = figures_of(
        {
            "default": [
                read(NOW, {"requests:ok": 100}, {"requests:ok": 1, "memory": 10, "latency_us": 3}),
                read(NOW + 5, {"requests:ok": 2, "memory": 11, "latency_us": 2}),
            ],
            "other": [read(NOW + 3, {"requests:ok": 4, "memory": 5, "latency_us": 9, "lag_ms": 1})],
        }
    )
    assert found.steps == [{"requests:ok": 7, "memory": 16, "latency_us": 9, "lag_ms": 1}], "the latest"
    assert (found.now_ms, found.span) == (NOW + 5, HOUR)
