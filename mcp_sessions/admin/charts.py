"""Charts as SVG that the server draws: no script, and no style of their own, so that any Content-Security-Policy lets
them be. Colours are those of `overview.css`, for light and dark.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from math import ceil, log10
from typing import Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

_WIDTH: Final = 560
_HEIGHT: Final = 170
#: Where the lines are, within that.
_LEFT: Final = 72
_RIGHT: Final = 552
_TOP: Final = 10
_BOTTOM: Final = 142
#: Lines across, and times below.
_ROWS: Final = 3
_TIMES: Final = 4
_ids: Final = count(1)

#: A value of each step; None where there is none.
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    label: str
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over the same steps of time."""

    title: str
    lines: Sequence[Line]
    #: When each step begins.
    starts: Sequence[datetime]
    #: How times below it are written, as the filter `date` has it.
    time_format: str
    #: How a value is written.
    shown: Callable[[float], str]

    def svg(self) -> SafeString:
        """The picture, with its title and what it shows in words."""
        name, most = f"mcp-chart-{next(_ids)}", self._uppermost()
        return format_html(
            '<svg class="mcp-chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">'
            '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}{}{}</svg>',
            *(_WIDTH, _HEIGHT, name, name, name, self.title, name, self.in_words()),
            format_html_join("", "{}", ((part,) for part in self._grid(most))),
            format_html_join("", "{}", ((part,) for part in self._times())),
            format_html_join("", "{}", ((part,) for part in self._drawn(most))),
        )

    def in_words(self) -> str:
        """What each line shows: its last and its highest value."""
        return " ".join(self._line_in_words(line) for line in self.lines)

    def _line_in_words(self, line: Line) -> str:
        known = [(value, number) for number, value in enumerate(line.values) if value is not None]
        if not known:
            return _("%(line)s: nothing was measured.") % {"line": line.label}
        highest, number = max(known)
        return _("%(line)s: %(last)s at last, %(most)s at most, at %(time)s.") % {
            "line": line.label,
            "last": self.shown(known[-1][0]),
            "most": self.shown(highest),
            "time": self._time(self.starts[number]),
        }

    def _uppermost(self) -> float:
        """What the uppermost line across stands for: a round number, at least the highest value."""
        highest = max(
            (value for line in self.lines for value in line.values if value is not None), default=0.0
        )
        step = max(highest, 1e-9) / _ROWS
        size = 10.0 ** ceil(log10(step)) / 10
        rounded: float = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)
        return _ROWS * rounded if highest else _ROWS

    def _grid(self, most: float) -> Iterator[SafeString]:
        for row in range(_ROWS + 1):
            y = _BOTTOM - (_BOTTOM - _TOP) * row / _ROWS
            yield format_html(
                '<line class="mcp-grid" x1="{}" y1="{}" x2="{}" y2="{}"/>'
                '<text class="mcp-axis" x="{}" y="{}" text-anchor="end">{}</text>',
                *(_LEFT, f"{y:.1f}", _RIGHT, f"{y:.1f}"),
                *(_LEFT - 6, f"{y + 4:.1f}", self.shown(most * row / _ROWS)),
            )

    def _times(self) -> Iterator[SafeString]:
        last = len(self.starts) - 1
        for mark in range(_TIMES):
            number = round(last * mark / (_TIMES - 1))
            anchor = "start" if mark == 0 else "end" if mark == _TIMES - 1 else "middle"
            yield format_html(
                '<text class="mcp-axis" x="{}" y="{}" text-anchor="{}">{}</text>',
                *(f"{self._x(number):.1f}", _BOTTOM + 18, anchor, self._time(self.starts[number])),
            )

    def _drawn(self, most: float) -> Iterator[SafeString]:
        """Each line in as many pieces as nothing was measured in between."""
        for number, line in enumerate(self.lines, start=1):
            path, is_drawing = [], False
            for step, value in enumerate(line.values):
                if value is not None:
                    y = _BOTTOM - (_BOTTOM - _TOP) * value / most
                    path.append(f"{'L' if is_drawing else 'M'}{self._x(step):.1f} {y:.1f}")
                is_drawing = value is not None
            # A single step would be no line.
            path = [piece + "h0.1" if piece[0] == "M" else piece for piece in path]
            yield format_html('<path class="mcp-line mcp-line-{}" d="{}"/>', number, " ".join(path))

    def _x(self, step: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * step / max(1, len(self.starts) - 1)

    def _time(self, moment: datetime) -> str:
        return date_format(timezone.localtime(moment), self.time_format)
