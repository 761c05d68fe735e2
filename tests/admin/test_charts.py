"""Charts, and the other figures of the overview, from known values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from mcp_sessions.admin import overview
from mcp_sessions.admin.charts import Chart, Line
from mcp_sessions.inventory.figures import DAY, HOUR, WEEK, Figures, Span, ToolFigures
from mcp_sessions.inventory.overview import Overview
from mcp_sessions.store.servers import ServerFacts

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with timezone.override(UTC):
        yield


def a_chart(*lines: Sequence[float | None]) -> Chart:
    starts = [BEGIN + timedelta(minutes=number) for number in range(len(lines[0]))]
    named = [Line(label=f"line {number}", values=values) for number, values in enumerate(lines)]
    return Chart(
        title="Calls", lines=named, starts=starts, time_format="H:i", shown=lambda value: f"{value:g}"
    )


def axes(svg: str) -> list[str]:
    """What stands beside the lines across, from below, and then at the times."""
    return re.findall(r'class="mcp-axis"[^>]*>([^<]*)<', svg)


def paths(svg: str) -> list[str]:
    return re.findall(r'<path class="mcp-line mcp-line-\d" d="([^"]*)"', svg)


@pytest.mark.parametrize(
    ("highest", "marks"),
    [
        (0, ["0", "1", "2", "3"]),
        (3, ["0", "1", "2", "3"]),
        (3.1, ["0", "2", "4", "6"]),
        (7, ["0", "2.5", "5", "7.5"]),
        (10, ["0", "5", "10", "15"]),
        (16, ["0", "10", "20", "30"]),
        (3000, ["0", "1000", "2000", "3000"]),
        (0.3, ["0", "0.1", "0.2", "0.3"]),
        (3.0015, ["0", "1", "2", "3"]),
    ],
)
def test_the_lines_across_stand_for_round_numbers_of_which_the_last_is_not_exceeded(
    highest: float, marks: list[str]
) -> None:
    svg = a_chart([0, highest, 0, 0])
    assert axes(svg.svg()) == [*marks, "00:00", "00:01", "00:02", "00:03"]
    assert re.findall(r'class="mcp-grid" x1="72" y1="([\d.]+)" x2="552"', svg.svg()) == [
        "142.0",
        "98.0",
        "54.0",
        "10.0",
    ]


def test_each_line_has_a_piece_for_what_was_measured_without_a_gap() -> None:
    svg = a_chart([3, 0, None, 3, None], [0, 1, 2, 3, None]).svg()
    assert paths(svg) == [
        "M72.0 10.0h0.1 L192.0 142.0 M432.0 10.0h0.1",
        "M72.0 142.0h0.1 L192.0 98.0 L312.0 54.0 L432.0 10.0",
    ]


def test_a_chart_says_in_words_what_it_shows_and_when() -> None:
    chart = a_chart([1, 5, None, 5, 2, None], [None] * 6)
    assert chart.in_words() == "line 0: 2 at last, 5 at most, at 00:03. line 1: nothing was measured."
    svg = chart.svg()
    name = re.search(r'aria-labelledby="(mcp-chart-\d+)-title \1-desc"', svg)
    assert name is not None
    assert f'<title id="{name[1]}-title">Calls</title><desc id="{name[1]}-desc">line 0: ' in svg
    assert 'viewBox="0 0 560 170"' in svg
    assert name[1] not in a_chart([1]).svg(), "two on one page"


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        (1, [("72.0", "00:00")] * 4),
        (61, [("72.0", "00:00"), ("232.0", "00:20"), ("392.0", "00:40"), ("552.0", "01:00")]),
    ],
)
def test_times_are_at_the_ends_and_in_between(steps: int, marks: list[tuple[str, str]]) -> None:
    found = re.findall(
        r'class="mcp-axis" x="([^"]*)" y="160" text-anchor="(\w+)">([^<]*)<', a_chart([0.0] * steps).svg()
    )
    assert [(x, time) for x, _, time in found] == marks
    assert [anchor for _, anchor, _ in found] == ["start", "middle", "middle", "end"]


def test_numbers_stand_beside_their_lines() -> None:
    found = re.findall(r'x="66" y="([\d.]+)" text-anchor="end">(\d+)<', a_chart([3]).svg())
    assert found == [("146.0", "0"), ("102.0", "1"), ("58.0", "2"), ("14.0", "3")]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (3, "3"),
        (0.1234, "0.12"),
        (9.96, "10"),
        (10.6, "11"),
        (1_234.5, "1,234"),
        (0.5, "0.5"),
    ],
)
def test_small_values_have_two_digits_and_no_zeros_at_the_end(value: float, words: str) -> None:
    assert overview._number(value) == words


@pytest.mark.parametrize(
    ("milliseconds", "words"), [(0, "0 ms"), (0.12345, "0.123 ms"), (12.345, "12.3 ms"), (1_234, "1,230 ms")]
)
def test_the_time_that_redis_takes_has_three_digits(milliseconds: float, words: str) -> None:
    assert overview._milliseconds(milliseconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9994, "999 ms"), (1, "1.0 s"), (0, "0 ms"), (61.26, "61.3 s")]
)
def test_the_time_that_a_call_takes_is_in_seconds_from_one_on(seconds: float, words: str) -> None:
    assert overview._duration(seconds) == words


def figures(span: Span, *steps: Mapping[str, int]) -> Figures:
    return Figures(span=span, now_ms=1_800_000_000_000, steps=steps, tools=[])


def test_the_charts_show_what_was_counted_and_not_the_step_that_has_not_ended() -> None:
    first = {
        "sessions": 4,
        "sessions_opened": 2,
        "sessions_revived": 1,
        "sessions_ended:idle": 5,
        "requests:ok": 70,
        "requests:cancelled": 10,
        "requests:tool error": 20,
        "requests:error": 10,
        "requests:interrupted": 10,
        "streams": 30,
        "memory": 2_048,
        "latency_us": 1_500,
    }
    drawn = list(
        overview._drawn(figures(DAY, first, {"sessions": 5, "sessions_opened": 9, "requests:ok": 9}))
    )
    assert [(title, dict(lines)) for title, lines, _ in drawn] == [
        ("Open sessions", {"open": [4, 5]}),
        ("Sessions opened and ended", {"opened": [3, None], "ended": [5, None]}),
        ("Requests a minute", {"succeeded": [8.0, None], "failed": [4.0, None]}),
        ("Open streams", {"open": [3.0, None]}),
        ("Memory of Redis", {"used": [2_048, None]}),
        ("Time Redis takes to answer", {"once a minute": [1.5, None]}),
    ]
    assert drawn[4][2](2_048) == "2.0\N{NO-BREAK SPACE}KB"
    labels = [chart["labels"] for chart in overview.charts_of(figures(DAY, first))]
    assert labels == [[], ["opened", "ended"], ["succeeded", "failed"], [], [], []]


@pytest.mark.parametrize(("span", "time"), [(HOUR, "08:00"), (DAY, "08:00"), (WEEK, "Fri 08:00")])
def test_the_day_is_beside_the_time_where_there_are_several(span: Span, time: str) -> None:
    [first, *_] = overview.charts_of(figures(span, {"sessions": 1}))
    assert f">{time}<" in first["svg"]


def test_what_there_is_now_is_on_tiles() -> None:
    facts = ServerFacts(
        name="",
        version="7",
        used_memory=1_048_576,
        maxmemory=0,
        policy="",
        evicted=0,
        appends=True,
        saves=True,
        snapshots=None,
        is_replica=False,
        missing_replicas=0,
        seconds=0.00126,
    )
    counted = {
        "requests:ok": 7,
        "requests:error": 2,
        "requests:interrupted": 1,
        "sessions_opened": 1,
        "sessions_revived": 3,
        "sessions_ended:idle": 5,
        "streams": 4,
    }
    shown = Overview(
        figures=figures(HOUR, {"streams": 9}, counted, {}),
        counts={"session": 1_234},
        nodes=[],
        servers={"default": [facts, replace(facts, seconds=0.001)]},
        findings=[],
    )
    assert overview._tiles(shown) == [
        ("Open sessions", "1,234", ""),
        ("Opened", "4", "in the hour"),
        ("Ended", "5", "in the hour"),
        ("Requests", "10", "3 failed"),
        ("Open streams", "4", "a minute ago at most"),
        ("Processes", "0", ""),
        ("Redis", "2.0\N{NO-BREAK SPACE}MB", "answers in 1.3 ms"),
    ]
    nothing = replace(shown, figures=figures(HOUR, {}), counts={}, servers={})
    assert [value for _, value, _ in overview._tiles(nothing)] == ["0", "0", "0", "0", "0", "0"]
    away = replace(shown, figures=None, counts={}, servers={})
    assert overview._tiles(away) == [("Open sessions", "0", ""), ("Processes", "0", "")]


def test_a_tool_is_a_row() -> None:
    tool = ToolFigures(name="t" * 61, calls=1_234, failed=2_345, cancelled=3_456, p50=0.25, p95=1.25)
    assert overview._row(tool) == {
        "name": "t" * 59 + "…",
        "calls": "1,234",
        "failed": "2,345",
        "percent": tool.failed_percent,
        "cancelled": "3,456",
        "p50": "250 ms",
        "p95": "1.2 s",
    }
