"""The overview: what is wrong, and what happened in the last hour, day or week."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.admin.charts import Chart, Line, Values
from mcp_sessions.inventory.display import milliseconds, number, printable
from mcp_sessions.inventory.figures import HOUR, SPANS_BY_NAME, WEEK, Figures, ToolFigures
from mcp_sessions.inventory.overview import Overview, overview_of

if TYPE_CHECKING:
    from django.contrib import admin

#: Tools that the page lists, most calls first.
MOST_TOOLS: Final = 50
#: The spans: what the links to them are called, and how long they are as a part of a sentence.
_SPANS: Final[dict[str, Promise]] = {
    "hour": gettext_lazy("Last hour"),
    "day": gettext_lazy("Last day"),
    "week": gettext_lazy("Last week"),
}
_IN_THE: Final[dict[str, Promise]] = {
    "hour": gettext_lazy("in the hour"),
    "day": gettext_lazy("in the day"),
    "week": gettext_lazy("in the week"),
}
#: Why sessions end: `store.calls.sessions.EndReason` in words.
_REASONS: Final[dict[str, Promise]] = {
    "deleted": gettext_lazy("deleted by the client"),
    "expired_by_operator": gettext_lazy("force-expired"),
    "max_age": gettext_lazy("maximum age"),
    "idle": gettext_lazy("idle"),
}
_SUCCEEDED: Final = ("requests:ok", "requests:cancelled")
_FAILED: Final = ("requests:tool error", "requests:error", "requests:interrupted")


def view(modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest) -> TemplateResponse:
    """For who may view records. `span` and `endpoint` in the address say what is shown."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    aliases = conf.aliases()
    chosen = request.GET.get("endpoint", "")
    span = SPANS_BY_NAME.get(request.GET.get("span", ""), HOUR)
    shown = overview_of((chosen,) if chosen in aliases else aliases, span)
    figures = shown.figures
    context = common.context(modeladmin, request, _("Overview"))
    context |= {
        "media": context["media"] + Media(css={"all": ["mcp_sessions/overview.css"]}),
        "spans": _SPANS,
        "span": span.name,
        "endpoints": aliases if len(aliases) > 1 else (),
        "endpoint": chosen if chosen in aliases else "",
        "unknown": chosen if chosen and chosen not in aliases else "",
        "overview": shown,
        "tiles": _tiles(shown),
    }
    if figures is not None:
        context |= {
            "charts": charts_of(figures),
            "tools": [_row(tool) for tool in figures.tools[:MOST_TOOLS]],
            "more_tools": len(figures.tools) - MOST_TOOLS,
            # Templates do not convert it where USE_TZ is False.
            "tools_since": timezone.localtime(figures.tools_since),
            "ended": [
                (_REASONS.get(reason, reason), number(ended))
                for reason, ended in figures.by_label("sessions_ended").items()
            ],
            "refusals": [
                (status, number(refused)) for status, refused in figures.by_label("refusals").items()
            ],
            "limited": [
                (name, number(refused), _number(figures.most_per_minute("limited", name)))
                for name, refused in figures.by_label("limited").items()
            ],
        }
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/overview.html", context)


def charts_of(figures: Figures) -> list[dict[str, Any]]:
    """The charts with their legends."""
    starts, form = figures.starts(), "D H:i" if figures.span is WEEK else "H:i"
    drawn = []
    for title, lines, shown in _drawn(figures):
        chart = Chart(
            title=title,
            lines=[Line(label=label, values=values) for label, values in lines.items()],
            starts=starts,
            time_format=form,
            shown=shown,
        )
        drawn.append({"title": title, "svg": chart.svg(), "labels": list(lines) if len(lines) > 1 else []})
    return drawn


def _drawn(figures: Figures) -> Iterator[tuple[str, Mapping[str, Values], Callable[[float], str]]]:
    """The title of each chart, its lines by their labels, and how a value is written."""
    yield _("Open sessions"), {_("open"): figures.measured("sessions")}, _number
    opened = {
        _("opened"): _whole(figures.counted("sessions_opened", "sessions_revived")),
        _("ended"): _whole(figures.counted("sessions_ended")),
    }
    yield _("Sessions opened and ended"), opened, _number
    requests = {
        _("succeeded"): _whole(figures.per_minute(*_SUCCEEDED)),
        _("failed"): _whole(figures.per_minute(*_FAILED)),
    }
    yield _("Requests a minute"), requests, _number
    yield _("Open streams"), {_("open"): figures.measured("streams")}, _number
    yield _("Memory of Redis"), {_("used"): figures.measured("memory")}, lambda value: filesizeformat(value)
    latency = [each and each / 1000 for each in figures.measured("latency_us")]
    yield _("Time Redis takes to answer"), {_("once a minute"): latency}, _milliseconds


def _whole(values: Sequence[float]) -> Values:
    """Without the step that has not ended: a part of it would look like a fall."""
    return [*values[:-1], None]


def _number(value: float) -> str:
    return number(value) if value >= 10 or value == int(value) else _significant(value, 2)


def _milliseconds(value: float) -> str:
    return _("%(number)s ms") % {"number": _significant(value, 3)}


def _significant(value: float, digits: int) -> str:
    """With so many significant digits, and no zeros at the end."""
    rounded = f"{float(f'{value:.{digits}g}'):f}".rstrip("0").rstrip(".")
    return number(float(rounded), len(rounded.partition(".")[2]))


def _tiles(shown: Overview) -> Sequence[tuple[str, str, str]]:
    """What there is now, and what the span sums up to: a word, a figure and a note."""
    tiles = [(_("Open sessions"), number(shown.counts.get("session", 0)), "")]
    if (figures := shown.figures) is not None:
        requests = figures.by_label("requests")
        failed = figures.total(*_FAILED)
        streams = [each for each in figures.measured("streams") if each is not None]
        span = str(_IN_THE[figures.span.name])
        opened = figures.total("sessions_opened", "sessions_revived")
        of_these = ngettext("%(number)s failed", "%(number)s failed", failed) % {"number": number(failed)}
        tiles += [
            (_("Opened"), number(opened), span),
            (_("Ended"), number(figures.total("sessions_ended")), span),
            (_("Requests"), number(sum(requests.values())), of_these),
            (_("Open streams"), _number(streams[-1]) if streams else "0", _("a minute ago at most")),
        ]
    memory = sum(server.used_memory for some in shown.servers.values() for server in some)
    tiles += [(_("Processes"), number(shown.processes), "")]
    if memory:
        slowest = max(server.seconds for some in shown.servers.values() for server in some)
        answers = _("answers in %(duration)s") % {"duration": milliseconds(1000 * slowest, 1)}
        tiles += [("Redis", filesizeformat(memory), answers)]
    return tiles


def _row(tool: ToolFigures) -> dict[str, Any]:
    return {
        "name": printable(tool.name, 60),
        "calls": number(tool.calls),
        "failed": number(tool.failed),
        "percent": tool.failed_percent,
        "cancelled": number(tool.cancelled),
        "p50": _duration(tool.p50),
        "p95": _duration(tool.p95),
    }


def _duration(seconds: float) -> str:
    if seconds < 1:
        return milliseconds(1000 * seconds)
    return _("%(number)s s") % {"number": number(seconds, 1)}
