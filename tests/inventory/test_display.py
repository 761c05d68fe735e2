"""Numbers and moments as people read them."""

import json
import re
from datetime import UTC, datetime, timedelta

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


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A moment at which the clock stands still."""
    moment = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    monkeypatch.setattr(display, "now_like", lambda _: moment)
    return moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
        (400 * 86_400, "400 d"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_that_fits(now: datetime, seconds: float, words: str) -> None:
    delta = timedelta(seconds=seconds)
    assert display.duration(delta) == words
    assert display.lasting(now - delta) == words
    assert display.ago(now - delta) == f"{words} ago"
    assert display.remaining(now + delta) == (words if seconds else "now")


def test_clocks_that_differ_make_no_negative_duration(now: datetime) -> None:
    later, earlier = now + timedelta(minutes=5), now - timedelta(minutes=5)
    assert (display.ago(later), display.lasting(later), display.remaining(earlier)) == (
        "0 s ago",
        "0 s",
        "now",
    )
    with translation.override("de"):
        assert display.ago(earlier) == "vor 5 min"


def test_now_has_a_time_zone_where_the_moment_has_one() -> None:
    assert display.now_like(datetime(2026, 3, 1, tzinfo=UTC)).tzinfo is UTC
    assert display.now_like(datetime(2026, 3, 1)).tzinfo is None  # noqa: DTZ001 - as databases may give


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("abcd", "abcd"),
        ("abcde", "abc…"),
        ("a\x1b\u202eb", "a\ufffd\ufffdb"),
        ("ab\x00de", "ab\ufffd…"),
    ],
)
def test_text_of_clients_is_cut_and_cannot_disguise_itself(text: str, shown: str) -> None:
    assert display.printable(text, 4) == shown


def test_a_client_is_named_with_its_version() -> None:
    assert display.client("coder", "1.0") == "coder 1.0"
    assert display.client("coder", "") == "coder"
    assert display.client("", "1.0") == "(no name) 1.0"
    assert display.client("n" * 51, "v" * 29) == f"{'n' * 49}… {'v' * 27}…"
    assert display.client("n" * 50, "v" * 28) == f"{'n' * 50} {'v' * 28}"


def test_what_utf_8_cannot_carry_fits_no_address() -> None:
    assert display.fits_address("ä/日本 ?")
    assert not display.fits_address("a\ud800")


def test_json_is_shown_sorted_indented_escaped_and_cut() -> None:
    assert display.pretty_json({"b": "<ä>", "a": [1]}) == (
        '<pre class="mcp-json">{\n  &quot;a&quot;: [\n    1\n  ],\n  &quot;b&quot;: &quot;&lt;ä&gt;&quot;\n}</pre>'
    )
    assert display.pretty_json("\u202e") == '<pre class="mcp-json">&quot;\ufffd&quot;</pre>'
    whole, one_more, many_more = ("x" * (display.JSON_CHARS - 2 + more) for more in (0, 1, 1_200))
    assert "…" not in display.pretty_json(whole)
    assert display.pretty_json(one_more).endswith("xx… (1 more character)</pre>")
    assert display.pretty_json(many_more).endswith("xx… (1,200 more characters)</pre>")


def cells(html: str) -> list[str]:
    return re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", html)


def test_state_is_listed_by_name_with_the_bytes_that_limits_count() -> None:
    state = {"ö": '"<ä>"', "a": r'"\u00e4"'}
    assert display.state_bytes(state) == 2 + 6 + 1 + 8
    shown = display.state_table(state)
    assert '<p class="mcp-size">17 bytes in 2 names</p>' in shown
    assert cells(shown) == [
        *("Name", "Bytes", "Value"),
        *("a", "8", "<code>&quot;ä&quot;</code>"),
        *("ö", "6", "<code>&quot;&lt;ä&gt;&quot;</code>"),
    ]
    assert cells(display.state_table(state, values=False)) == ["Name", "Bytes", "a", "8", "ö", "6"]
    assert "more" not in shown
    assert display.state_table({}) == '<span class="quiet">nothing</span>'
    assert '<p class="mcp-size">2 bytes in 1 name</p>' in display.state_table({"a": "1"})
    assert '<p class="mcp-size">1 byte in 1 name</p>' in display.state_table({"": "1"})


def test_of_much_state_the_first_names_and_the_beginnings_of_values_are_shown() -> None:
    names = [f"{number:03}" for number in range(display.STATE_NAMES + 2)]
    state = dict.fromkeys(reversed(names), "1") | {"000": json.dumps("x" * display.VALUE_CHARS)}
    shown = display.state_table(state)
    assert cells(shown)[3::3] == names[: display.STATE_NAMES]
    assert shown.endswith("</table><p>and 2 more</p>")
    assert f"<code>&quot;{'x' * (display.VALUE_CHARS - 1)}… (2 more characters)</code>" in shown
    del state["101"], state["100"]
    assert display.state_table(state).endswith("</tbody></table>")
    assert cells(display.state_table({"n" * 101: "1"}))[3] == "n" * 99 + "…"
