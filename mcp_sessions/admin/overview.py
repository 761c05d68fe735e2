"""The overview: what is wrong, and what happened in the last hour, day or week."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.admin.charts import Chart, Line, Values
from mcp_sessions.inventory.display import printable
from mcp_sessions.inventory.figures import HOUR, SPANS_BY_NAME, WEEK, Figures, ToolFigures
from mcp_sessions.inventory.overview import Overview, overview_of

if TYPE_CHECKING:
    from django.contrib import admin

#: Tools that the page lists, most calls first.
MOST_TOOLS: Final = 50
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
    context = common.context(modeladmin, request, "Overview")
    context |= {
        "media": context["media"] + Media(css={"all": ["mcp_sessions/overview.css"]}),
        "spans": list(SPANS_BY_NAME),
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
            "tools_since": figures.tools_since,
            "ended": figures.by_label("sessions_ended"),
            "refusals": figures.by_label("refusals"),
            "limited": [
                (name, number, figures.most_per_minute("limited", name))
                for name, number in figures.by_label("limited").items()
            ],
        }
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/overview.html", context)


def charts_of(figures: Figures) -> list[dict[str, Any]]:
    """The charts with their legends."""
    starts, form = figures.starts(), "%a %H:%M" if figures.span is WEEK else "%H:%M"
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
    yield "Open sessions", {"open": figures.measured("sessions")}, _number
    opened = {
        "opened": _whole(figures.counted("sessions_opened", "sessions_revived")),
        "ended": _whole(figures.counted("sessions_ended")),
    }
    yield "Sessions opened and ended", opened, _number
    requests = {
        "succeeded": _whole(figures.per_minute(*_SUCCEEDED)),
        "failed": _whole(figures.per_minute(*_FAILED)),
    }
    yield "Requests a minute", requests, _number
    yield "Open streams", {"open": figures.measured("streams")}, _number
    yield "Memory of Redis", {"used": figures.measured("memory")}, lambda value: filesizeformat(value)
    milliseconds = [each and each / 1000 for each in figures.measured("latency_us")]
    yield "Time Redis takes to answer", {"once a minute": milliseconds}, lambda value: f"{value:.3g} ms"


def _whole(values: Sequence[float]) -> Values:
    """Without the step that has not ended: a part of it would look like a fall."""
    return [*values[:-1], None]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _tiles(shown: Overview) -> Sequence[tuple[str, str, str]]:
    """What there is now, and what the span sums up to: a word, a figure and a note."""
    tiles = [("Open sessions", f"{shown.counts.get('session', 0):,}", "")]
    if (figures := shown.figures) is not None:
        requests = figures.by_label("requests")
        failed = figures.total(*_FAILED)
        streams = [number for number in figures.measured("streams") if number is not None]
        tiles += [
            (
                "Opened",
                f"{figures.total('sessions_opened', 'sessions_revived'):,}",
                f"in the {figures.span.name}",
            ),
            ("Ended", f"{figures.total('sessions_ended'):,}", f"in the {figures.span.name}"),
            ("Requests", f"{sum(requests.values()):,}", f"{failed:,} failed"),
            ("Open streams", _number(streams[-1]) if streams else "0", "a minute ago at most"),
        ]
    memory = sum(server.used_memory for some in shown.servers.values() for server in some)
    tiles += [("Processes", f"{shown.processes:,}", "")]
    if memory:
        slowest = max(server.seconds for some in shown.servers.values() for server in some)
        tiles += [("Redis", filesizeformat(memory), f"answers in {1000 * slowest:.1f} ms")]
    return tiles


def _row(tool: ToolFigures) -> dict[str, Any]:
    return {
        "name": printable(tool.name, 60),
        "calls": tool.calls,
        "failed": tool.failed,
        "percent": tool.failed_percent,
        "cancelled": tool.cancelled,
        "p50": _duration(tool.p50),
        "p95": _duration(tool.p95),
    }


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
