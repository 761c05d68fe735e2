"""How times, JSON and text from clients are shown to an operator.

Clients choose their own names and versions. Everything here truncates and cleans such text. Escaping is left to the
templates, and to `format_html` where there is none.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from django.utils import timezone
from django.utils.formats import date_format, get_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext, pgettext
from django.utils.translation import gettext as _

from mcp_sessions.texts import readable

#: The language of what is stored, logged, or read by programs, whatever that of the reader is.
ENGLISH: Final = "en"
#: Characters of one value of session state on the detail page.
VALUE_CHARS: Final = 400
#: Names of session state on the detail page.
STATE_NAMES: Final = 100
#: Characters of a pretty-printed JSON document.
JSON_CHARS: Final = 10_000
_SIZE_ROW: Final = '<tr><th scope="row">{}</th><td>{}</td></tr>'
_STATE_ROW: Final = '<tr><th scope="row">{}</th><td>{}</td><td><code>{}</code></td></tr>'
#: The units of durations by their seconds, the largest first.
_UNITS: Final = {
    86400: gettext_lazy("%(number)s d"),
    3600: gettext_lazy("%(number)s h"),
    60: gettext_lazy("%(number)s min"),
    1: gettext_lazy("%(number)s s"),
}


def printable(text: str, limit: int) -> str:
    """At most `limit` characters, without control and direction characters, which could disguise the text."""
    shown = text[: limit + 1]
    clean = readable(shown)
    return clean if len(shown) <= limit else clean[: limit - 1] + "…"


def fits_address(name: str) -> bool:
    """Whether a name can be part of a URL: JSON can carry lone surrogates, UTF-8 cannot."""
    return name == name.encode("utf-8", "replace").decode("utf-8")


def number(value: float, decimals: int = 0) -> str:
    """A number rounded to so many decimals, as the language writes it: "1,234"."""
    return number_format(round(value, decimals), decimals, use_l10n=True, force_grouping=True)


def milliseconds(value: float, decimals: int = 0) -> str:
    """A short time: "12 ms"."""
    return _("%(number)s ms") % {"number": number(value, decimals)}


def client(name: str, version: str) -> str:
    """A client's name and version in about 80 characters."""
    return f"{printable(name, 50) or _('(no name)')} {printable(version, 28)}".rstrip()


def now_like(moment: datetime) -> datetime:
    """Now, to compare a moment with: that of a database has no time zone where USE_TZ is False, that of a store has.

    In UTC: between two moments of one time zone, Python counts the hours that its clocks show, also where they are put
    forward or back in between.
    """
    return datetime.now(None if moment.tzinfo is None else UTC)


def zoned(moment: datetime) -> datetime:
    """A moment with its time zone, which that of a database lacks where USE_TZ is False."""
    return moment if timezone.is_aware(moment) else moment.astimezone()


def ago(moment: datetime) -> str:
    """How long ago that was: "12 s ago", "4 min ago", "3 h ago", "2 d ago"."""
    return _words(*_rounded(now_like(moment) - moment), get_language(), is_past=True)


def lasting(since: datetime) -> str:
    """How long something has lasted: "12 s", "4 min"."""
    return duration(now_like(since) - since)


def remaining(moment: datetime) -> str:
    """How long until then: "48 s", "59 min", or "now" if the time has come."""
    left = moment - now_like(moment)
    return duration(left) if left > timedelta() else _("now")


def duration(delta: timedelta) -> str:
    """How long, in the largest unit that fits, rounded down."""
    return _words(*_rounded(delta), get_language(), is_past=False)


def _rounded(delta: timedelta) -> tuple[int, int]:
    """How many of which unit, by its seconds."""
    seconds = max(0, int(delta.total_seconds()))
    size = next((size for size in _UNITS if seconds >= size), 1)
    return seconds // size, size


@lru_cache(maxsize=1024)
def _words(number: int, size: int, language: str | None, *, is_past: bool) -> str:
    """In the language, which is the current one. Of the rows of a list, many have the same."""
    words = str(_UNITS[size]) % {"number": number}
    return _("%(duration)s ago") % {"duration": words} if is_past else words


def timed(words: str, moment: datetime, *, note: str = "") -> SafeString:
    """Words about a moment, with the moment itself, and a note, as a tooltip."""
    local = timezone.localtime(moment)
    shown = _shown(
        local.replace(microsecond=0), str(local.tzinfo), get_format("DATETIME_FORMAT"), get_language()
    )
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        f"{shown}; {note}" if note else shown,
        words,
    )


@lru_cache(maxsize=1024)
def _shown(moment: datetime, zone: str, form: str, language: str | None) -> str:
    """A moment in the format and the language. Of the rows of a list, many have the same second.

    Moments that are equal may be of different zones.
    """
    return date_format(moment, form)


def full_time(moment: datetime) -> str:
    """A moment in the current time zone, to the second."""
    # Translators: a format as that of Django's filter `date`, with seconds and the time zone.
    return date_format(timezone.localtime(moment), pgettext("format of a moment", "Y-m-d H:i:s T"))


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
        return format_html('<span class="quiet">{}</span>', _("nothing"))
    names = sorted(state)[:STATE_NAMES]
    rows = [_state_row(name, state[name])[: 3 if values else 2] for name in names]
    more = len(state) - len(rows)
    return format_html(
        '<p class="mcp-size">{}</p><table class="mcp-state"><thead><tr><th scope="col">{}</th><th scope="col">{}'
        "</th>{}</tr></thead><tbody>{}</tbody></table>{}",
        _("%(bytes)s in %(names)s")
        % {"bytes": _counted_bytes(state_bytes(state)), "names": _counted_names(len(state))},
        _("Name"),
        _("Bytes"),
        format_html('<th scope="col">{}</th>', _("Value")) if values else "",
        format_html_join("", _STATE_ROW if values else _SIZE_ROW, rows),
        format_html("<p>{}</p>", and_more(more)) if more else "",
    )


def and_more(more: int) -> str:
    """How many a page leaves out of what it lists."""
    return ngettext("and %(number)s more", "and %(number)s more", more) % {"number": number(more)}


def state_bytes(state: Mapping[str, str]) -> int:
    """The size of a record's state, as the limits count it: the names and the JSON texts of the values, in bytes."""
    return sum(len(name.encode()) + len(text.encode()) for name, text in state.items())


def _state_row(name: str, text: str) -> tuple[str, str, str]:
    readable = json.dumps(json.loads(text), ensure_ascii=False)
    return printable(name, 100), number(len(text.encode())), _cut(readable, VALUE_CHARS)


def _counted_bytes(size: int) -> str:
    """A size to the byte: "1,234 bytes"."""
    return ngettext("%(number)s byte", "%(number)s bytes", size) % {"number": number(size)}


def _counted_names(names: int) -> str:
    return ngettext("%(number)s name", "%(number)s names", names) % {"number": number(names)}


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters; all but printable ones and line breaks are replaced."""
    shown = "\n".join(map(readable, text[:limit].split("\n")))
    more = len(text) - limit
    if more <= 0:
        return shown
    left_out = ngettext("(%(number)s more character)", "(%(number)s more characters)", more)
    return f"{shown}… {left_out % {'number': number(more)}}"
