"""Numbers and moments as people read them."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone, translation

from mcp_sessions.inventory import display


@pytest.mark.parametrize(
    ("value", "decimals", "english", "german"),
    [
        (59.97, 0, "60", "60"),
        (1234567, 0, "1,234,567", "1.234.567"),
        (0.1 + 0.2, 1, "0.3", "0,3"),
        (1999.96, 1, "2,000.0", "2.000,0"),
        (-2.6, 0, "-3", "-3"),
    ],
)
def test_a_number_is_rounded_and_written_as_the_language_does(
    value: float, decimals: int, english: str, german: str
) -> None:
    for language, expected in (("en", english), ("de", german)):
        with translation.override(language):
            assert display.number(value, decimals) == expected


def test_a_moment_is_shown_as_its_reader_writes_it() -> None:
    moment = datetime(2026, 3, 1, 12, 30, 15, 400_000, tzinfo=UTC)
    shown = []
    for zone, language in (("UTC", "en"), ("Europe/Berlin", "en"), ("Europe/Berlin", "de"), ("UTC", "en")):
        with timezone.override(zone), translation.override(language):
            shown.append(display.timed("now", moment, note="soon"))
    assert [title(each) for each in shown] == [
        "March 1, 2026, 12:30 p.m.; soon",
        "March 1, 2026, 1:30 p.m.; soon",
        "1. März 2026 13:30; soon",
        "March 1, 2026, 12:30 p.m.; soon",
    ]


def title(html: str) -> str:
    return html.partition('title="')[2].partition('"')[0]
