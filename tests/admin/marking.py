"""A language that marks each text that comes from a catalog, so that a page shows which of its texts do not."""

import re
from html.parser import HTMLParser
from typing import Any, Final

from django.utils import translation

OPEN: Final = "⟦"
CLOSE: Final = "⟧"
#: Attributes that people read.
READ: Final = ("alt", "aria-label", "placeholder", "title", "data-label", "data-on", "data-off", "data-again")
#: Elements whose content is no text of ours: data, scripts, and what nobody sees.
_SKIPPED: Final = ("code", "script", "style", "template")
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")


def mark_translations() -> None:
    """Mark whatever is translated in this process from now on, in any language."""
    found: Any = vars(translation)["_trans"]
    found.gettext = _marked
    found.pgettext = lambda _context, message: _marked(message)
    found.ngettext = lambda singular, plural, number: _marked(singular if number == 1 else plural)
    found.npgettext = lambda _context, singular, plural, number: _marked(singular if number == 1 else plural)


def _marked(message: str) -> str:
    return f"{OPEN}{message}{CLOSE}"


class _Unmarked(HTMLParser):
    """Collects the texts that are outside of all marks."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._depth = 0
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        read = [given.get(name) for name in READ]
        if tag == "input" and given.get("type") == "submit":
            read.append(given.get("value"))
        self.texts += [text for each in read if each and (text := _outside(each, 0)[0].strip())]
        self._skipped += tag in _SKIPPED

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in _SKIPPED

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            text, self._depth = _outside(data, self._depth)
            if text.strip():
                self.texts.append(text.strip())


def _outside(text: str, depth: int) -> tuple[str, int]:
    """What of a text is outside of all marks, and in how many marks its end is."""
    found = []
    for char in text:
        depth += (char == OPEN) - (char == CLOSE)
        found.append(char if depth == 0 and char != CLOSE else " ")
    return "".join(found), depth


def unmarked(html: str, data: frozenset[str]) -> list[str]:
    """Texts of a page that were not translated, and are not these words of its data."""
    parser = _Unmarked()
    parser.feed(html)
    return [text for text in parser.texts if set(_LETTERS.findall(text)) - data]
