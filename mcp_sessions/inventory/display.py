"""How times, JSON and text from clients are shown to an operator.

Clients choose their own names and versions. Everything here truncates and cleans such text. Escaping is left to the
templates, and to `format_html` where there is none.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: Characters of one value of session state on the detail page.
VALUE_CHARS: Final = 400
#: Names of session state on the detail page.
STATE_NAMES: Final = 100
#: Characters of a pretty-printed JSON document.
JSON_CHARS: Final = 10_000
_SIZE_ROW: Final = '<tr><th scope="row">{}</th><td>{}</td></tr>'
_STATE_ROW: Final = '<tr><th scope="row">{}</th><td>{}</td><td><code>{}</code></td></tr>'
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60))


def printable(text: str, limit: int) -> str:
    """At most `limit` characters, without control and direction characters, which could disguise the text."""
    shown = text[: limit + 1]
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
    return clean if len(shown) <= limit else clean[: limit - 1] + "…"


def client(name: str, version: str) -> str:
    """A client's name and version in at most 80 characters."""
    return f"{printable(name, 50) or '(no name)'} {printable(version, 28)}".rstrip()


def ago(moment: datetime) -> str:
    """How long ago that was: "12 s ago", "4 min ago", "3 h ago", "2 d ago"."""
    return f"{_duration(timezone.now() - moment)} ago"


def lasting(since: datetime) -> str:
    """How long something has lasted: "12 s", "4 min"."""
    return _duration(timezone.now() - since)


def remaining(moment: datetime) -> str:
    """How long until then: "48 s", "59 min", or "now" if the time has come."""
    left = moment - timezone.now()
    return _duration(left) if left > timedelta() else "now"


def _duration(delta: timedelta) -> str:
    """In the largest unit that fits, rounded down."""
    seconds = max(0, int(delta.total_seconds()))
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def timed(words: str, moment: datetime, *, note: str = "") -> SafeString:
    """Words about a moment, with the moment itself, and a note, as a tooltip."""
    local = timezone.localtime(moment)
    shown = date_format(local, "DATETIME_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        f"{shown}; {note}" if note else shown,
        words,
    )


def full_time(moment: datetime) -> str:
    """A moment in the current time zone, to the second."""
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")


def pretty_json(value: Any) -> SafeString:
    """A JSON value, indented, for a page; truncated to 10,000 characters."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="mcp-json">{}</pre>', _cut(text, JSON_CHARS))


def state_table(state: Mapping[str, str], *, values: bool = True) -> SafeString:
    """The size of a record's state, and its names with the size of each value, and its beginning unless `values` is
    False. Values are JSON texts.

    Sizes are those that the limits apply to: bytes of names and values.
    """
    if not state:
        return format_html('<span class="quiet">{}</span>', "nothing")
    names = sorted(state)[:STATE_NAMES]
    rows = [_state_row(name, state[name])[: 3 if values else 2] for name in names]
    more = len(state) - len(rows)
    return format_html(
        '<p class="mcp-size">{}</p><table class="mcp-state"><thead><tr><th scope="col">Name</th><th scope="col">Bytes'
        "</th>{}</tr></thead><tbody>{}</tbody></table>{}",
        f"{_counted(state_bytes(state), 'byte')} in {_counted(len(state), 'name')}",
        format_html('<th scope="col">{}</th>', "Value") if values else "",
        format_html_join("", _STATE_ROW if values else _SIZE_ROW, rows),
        format_html("<p>and {} more</p>", more) if more else "",
    )


def state_bytes(state: Mapping[str, str]) -> int:
    """The size of a record's state, as the limits count it: the names and the JSON texts of the values, in bytes."""
    return sum(len(name.encode()) + len(text.encode()) for name, text in state.items())


def _state_row(name: str, text: str) -> tuple[str, str, str]:
    readable = json.dumps(json.loads(text), ensure_ascii=False)
    return printable(name, 100), f"{len(text.encode()):,}", _cut(readable, VALUE_CHARS)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters; all but printable ones and line breaks are replaced."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text) - limit} more characters)"
