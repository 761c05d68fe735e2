"""What is wrong according to what was counted, in words, and how to mend it."""

from collections.abc import Iterator, Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions.counting import UNKNOWN
from mcp_sessions.inventory.display import number
from mcp_sessions.inventory.figures import Figures, ToolFigures
from mcp_sessions.inventory.findings import Finding

#: A span of figures, by its name, as a part of a sentence.
IN_THE_LAST: Final[Mapping[str, Promise]] = {
    "hour": gettext_lazy("in the last hour"),
    "day": gettext_lazy("in the last day"),
    "week": gettext_lazy("in the last week"),
}
#: A tool is failing if so many of its calls have failed, and this part of them.
FAILED_CALLS: Final = 5
FAILED_PART: Final = 0.2
#: Limits that a finding names, those first that refused most.
MOST_LIMITS: Final = 5


def of_figures(figures: Figures) -> Iterator[Finding]:
    """What was counted says what is wrong, too."""
    span = {"in_the_last": IN_THE_LAST[figures.span.name]}
    if evicted := figures.evicted:
        yield Finding(
            code="redis-evicts",
            level="error",
            what=ngettext(
                "Redis has evicted %(number)s key %(in_the_last)s: of sessions or their state.",
                "Redis has evicted %(number)s keys %(in_the_last)s: sessions or their state.",
                evicted,
            )
            % {**span, "number": number(evicted)},
            cure=_("Give it more memory, and set maxmemory-policy to noeviction."),
        )
    if refused := figures.total("sessions_refused"):
        yield Finding(
            code="sessions-refused",
            level="error",
            what=ngettext(
                "%(number)s new session was refused %(in_the_last)s, at a cap.",
                "%(number)s new sessions were refused %(in_the_last)s, at a cap.",
                refused,
            )
            % {**span, "number": number(refused)},
            cure=_("Raise MAX_SESSIONS or MAX_SESSIONS_PER_PRINCIPAL, or look whose sessions they are."),
        )
    yield from _of_limits(figures)
    for tool in figures.tools:
        if tool.name == UNKNOWN:
            yield from _of_unknown_tools(tool, span)
        elif tool.failed >= FAILED_CALLS and tool.failed >= FAILED_PART * tool.calls:
            yield Finding(
                code="tool-failing",
                level="warning",
                what=_("The tool %(tool)s fails: %(failed)s of %(calls)s calls %(in_the_last)s.")
                % {**span, "tool": tool.name, "failed": number(tool.failed), "calls": number(tool.calls)},
                cure=_("The log of the processes has the tracebacks."),
            )


def _of_unknown_tools(tool: ToolFigures, span: Mapping[str, Promise]) -> Iterator[Finding]:
    """Names that no tool has: clients make them up, so that they are no failure of the server."""
    if tool.failed >= FAILED_CALLS:
        text = ngettext(
            "%(number)s call %(in_the_last)s named a tool that the server is not known to have.",
            "%(number)s calls %(in_the_last)s named tools that the server is not known to have.",
            tool.failed,
        )
        yield Finding(
            code="unknown-tools",
            level="note",
            what=text % {**span, "number": number(tool.failed)},
            cure=_(
                "Nothing, if clients make names up. A low-level Server and a FastMCP do not say which tools they have: "
                "there, one that has never succeeded is counted here, and the log has its tracebacks."
            ),
        )


def _of_limits(figures: Figures) -> Iterator[Finding]:
    """What limits refused, except for the caps on sessions, which have a finding of their own."""
    limited = {name: n for name, n in figures.by_label("limited").items() if "MAX_SESSIONS" not in name}
    if not limited:
        return
    said = [
        _("%(limit)s %(number)s (up to %(most)s a minute)")
        % {
            "limit": name,
            "number": number(refusals),
            "most": number(max(1, round(figures.most_per_minute("limited", name)))),
        }
        for name, refusals in limited.items()
    ]
    text = _("Refused by limits %(in_the_last)s: %(limits)s.")
    if (more := len(said) - MOST_LIMITS) > 0:
        text = ngettext(
            "Refused by limits %(in_the_last)s: %(limits)s, and %(more)s more limit.",
            "Refused by limits %(in_the_last)s: %(limits)s, and %(more)s more limits.",
            more,
        )
    yield Finding(
        code="limits-refuse",
        level="note",
        what=text
        % {
            "in_the_last": IN_THE_LAST[figures.span.name],
            "limits": ", ".join(said[:MOST_LIMITS]),
            "more": number(more),
        },
        cure=_(
            "Nothing, if that is what the limits are for. Otherwise look who asks that often, or raise them."
        ),
    )
