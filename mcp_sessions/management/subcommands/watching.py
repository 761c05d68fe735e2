"""`stats`, `watch` and `tools`: what the overview page shows, in a shell."""

import json
import re
import time
from argparse import ArgumentParser, ArgumentTypeError, _SubParsersAction
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import BaseCommand

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.display import printable
from mcp_sessions.inventory.figures import SPANS_BY_NAME, Figures, ToolFigures
from mcp_sessions.inventory.overview import Overview, overview_of
from mcp_sessions.management.subcommands.selection import add_endpoint, aliases_of, reached

#: Seconds between two reports of `watch`.
WATCH_SECONDS: Final = 5.0
_TOOL: Final = "{:<40}  {:>10}  {:>10}  {:>10}  {:>10}  {:>10}"
_TOOL_HEAD: Final = ("TOOL", "CALLS", "FAILED", "CANCELLED", "P50 MS", "P95 MS")


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    stats = commands.add_parser(
        "stats", help="what there is, and what happened in the last hour, day or week"
    )
    _add_options(stats)
    stats.set_defaults(run=_stats)
    watch = commands.add_parser("watch", help="the same, again and again, one line each time")
    _add_options(watch)
    watch.add_argument(
        "--interval", type=_seconds, default=WATCH_SECONDS, help="seconds between two lines; default 5"
    )
    watch.add_argument("--count", type=int, help="lines to print; default: until interrupted")
    watch.set_defaults(run=_watch)
    tools = commands.add_parser("tools", help="the calls of each tool, most first")
    _add_options(tools)
    tools.set_defaults(run=_tools)


def _add_options(parser: ArgumentParser) -> None:
    add_endpoint(parser)
    parser.add_argument("--span", choices=SPANS_BY_NAME, default="hour", help="default: hour")
    parser.add_argument("--json", action="store_true", dest="as_json", help="JSON, for programs")


def _stats(command: BaseCommand, *, endpoint: str | None, span: str, as_json: bool, **_: Any) -> None:
    overview = overview_of(aliases_of(endpoint), SPANS_BY_NAME[span])
    if as_json:
        command.stdout.write(json.dumps(_document(overview), indent=2, default=str))
        return
    for name, value in _lines(overview):
        command.stdout.write(f"{name:<28}  {value}")
    for finding in overview.findings:
        command.stdout.write(f"{finding.level}: {finding.what} {finding.cure}")


def _watch(
    command: BaseCommand,
    *,
    endpoint: str | None,
    span: str,
    as_json: bool,
    interval: float,
    count: int | None,
    **_: Any,
) -> None:
    printed = 0
    try:
        while count is None or printed < count:
            if printed:
                time.sleep(interval)
            overview = overview_of(aliases_of(endpoint), SPANS_BY_NAME[span])
            command.stdout.write(json.dumps(_now(overview)) if as_json else _line(overview))
            command.stdout.flush()
            printed += 1
    except KeyboardInterrupt:
        """How one ends it."""


def _tools(command: BaseCommand, *, endpoint: str | None, span: str, as_json: bool, **_: Any) -> None:
    aliases = reached(command, endpoint)
    figures = overview_of(aliases, SPANS_BY_NAME[span]).figures
    if figures is None:
        raise StoreUnavailable(", ".join(aliases))
    tools = figures.tools
    if as_json:
        command.stdout.write(json.dumps([_tool(tool) for tool in tools], indent=2))
        return
    command.stdout.write(_TOOL.format(*_TOOL_HEAD))
    for tool in tools:
        milliseconds = (f"{1000 * each:,.0f}" for each in (tool.p50, tool.p95))
        numbers = (f"{each:,}" for each in (tool.calls, tool.failed, tool.cancelled))
        command.stdout.write(_TOOL.format(printable(tool.name, 40), *numbers, *milliseconds))


def _lines(overview: Overview) -> Iterator[tuple[str, str]]:
    yield "sessions", f"{overview.counts.get('session', 0):,}"
    yield "handles", f"{overview.counts.get('handle', 0):,}"
    yield "processes", f"{overview.processes:,}"
    for cache, some in overview.servers.items():
        for server in some:
            memory = "memory unknown" if server.refusal else f"{server.used_memory / 2**20:,.1f} MiB"
            yield (
                f"Redis {cache} {server.name}".rstrip(),
                f"{memory}, answers in {1000 * server.seconds:.1f} ms",
            )
    if (figures := overview.figures) is not None:
        for name, number in _counted(figures).items():
            yield f"{name}, last {figures.span.name}", f"{number:,}"


def _line(overview: Overview) -> str:
    now = _now(overview)
    return "  ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in now.items() if name != "at")


def _now(overview: Overview) -> dict[str, Any]:
    """What one line of `watch` tells: what there is, and what the span sums up to."""
    return {
        "at": _at(overview.figures),
        "sessions": overview.counts.get("session", 0),
        "processes": overview.processes,
        **({} if overview.figures is None else _counted(overview.figures)),
        "findings": len([finding for finding in overview.findings if finding.level != "note"]),
    }


def _at(figures: Figures | None) -> float:
    """Seconds since the epoch, by the store's clock if it could be asked."""
    return time.time() if figures is None else figures.now_ms / 1000


def _counted(figures: Figures) -> dict[str, int]:
    requests = figures.by_label("requests")
    failed = sum(requests.get(outcome, 0) for outcome in ("tool error", "error", "interrupted"))
    return {
        "opened": figures.total("sessions_opened"),
        "revived": figures.total("sessions_revived"),
        "ended": figures.total("sessions_ended"),
        "requests": sum(requests.values()),
        "failed": failed,
        "refused": figures.total("refusals"),
    }


def _document(overview: Overview) -> dict[str, Any]:
    figures = overview.figures
    counted: dict[str, Any] = {}
    if figures is not None:
        counted = {
            "span": figures.span.name,
            "since": figures.since,
            **_counted(figures),
            "ended_by_reason": figures.by_label("sessions_ended"),
            "refused_by_status": figures.by_label("refusals"),
            "refused_by_limit": figures.by_label("limited"),
            "tools": [_tool(tool) for tool in figures.tools],
        }
    return {
        **_now(overview),
        "handles": overview.counts.get("handle", 0),
        **counted,
        "redis": {cache: [asdict(each) for each in some] for cache, some in overview.servers.items()},
        "nodes": [asdict(node) for node in overview.nodes],
        "findings": [asdict(finding) for finding in overview.findings],
    }


def _tool(tool: ToolFigures) -> dict[str, Any]:
    return {
        "tool": tool.name,
        "calls": tool.calls,
        "failed": tool.failed,
        "cancelled": tool.cancelled,
        "p50_seconds": round(tool.p50, 6),
        "p95_seconds": round(tool.p95, 6),
    }


def _seconds(text: str) -> float:
    """Raises: ArgumentTypeError."""
    if (
        not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text)
        or not 0 < (seconds := float(text)) < 86_400
    ):
        raise ArgumentTypeError(f"seconds, such as 5 or 0.5, and less than a day, not {text!r}")
    return seconds
