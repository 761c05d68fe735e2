"""Charts, drawn from known values."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from mcp_sessions.admin.charts import Chart, Line

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
        (3000, ["0", "1000", "2000", "3000"]),
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
