"""The fields of a record's page that say what it does now, and what it did lately."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.inventory import display
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.models import MCPSession
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import recent, subscriptions
from mcp_sessions.store.calls.queries import Query

#: Other sessions of its user that a record's page names.
MOST_OTHERS: Final = 10
#: Characters of a node's id that people see.
NODE_CHARS: Final = 8
#: How a request ended, in words.
OUTCOMES: Final = {
    "ok": gettext_lazy("ok"),
    "tool error": gettext_lazy("tool error"),
    "error": gettext_lazy("error"),
    "cancelled": gettext_lazy("cancelled"),
    "interrupted": gettext_lazy("interrupted"),
}
_QUIET: Final = '<span class="quiet">{}</span>'


class LiveColumns:
    """A mixin for a ModelAdmin: each method is one field."""

    @admin.display(description=gettext_lazy("state"))
    def state_now(self, obj: MCPSession) -> SafeString | str:
        """For the list."""
        doing = obj.doing
        if doing is not None and doing.calls:
            first, more = doing.calls[0], len(doing.calls) - 1
            text = _("%(tool)s for %(duration)s")
            if more:
                text = ngettext(
                    "%(tool)s for %(duration)s, and %(more)s more",
                    "%(tool)s for %(duration)s, and %(more)s more",
                    more,
                )
            text %= {
                "tool": display.printable(first.tool, 60),
                "duration": display.lasting(first.began),
                "more": display.number(more),
            }
            return format_html('<strong class="mcp-calling">{}</strong>', text)
        return format_html(_QUIET, _("idle")) if doing is None else _("streaming")

    @admin.display(description=gettext_lazy("last call"))
    def last_ended(self, obj: MCPSession) -> SafeString | str:
        """For the list: the last request that has ended, or else the last that came."""
        if obj.recent is None or not obj.recent.requests:
            return display.printable(obj.record.last_call.removeprefix("tools/call:"), 60)
        [last] = obj.recent.requests
        tool = display.printable(last.call.removeprefix("tools/call:"), 60)
        words, outcome = f"{tool}, {display.milliseconds(last.took_ms)}", _outcome(last)
        shown = display.timed(words, last.ended, note=outcome)
        failed = last.outcome in recent.FAILURES
        return format_html('{} <strong class="mcp-bad">{}</strong>', shown, outcome) if failed else shown

    @admin.display(description=gettext_lazy("errors"), empty_value="")
    def errors(self, obj: MCPSession) -> str:
        failed = 0 if obj.recent is None else obj.recent.failed
        return display.number(failed) if failed else ""

    @admin.display(description=gettext_lazy("running now"))
    def in_flight(self, obj: MCPSession) -> SafeString:
        calls = [
            call
            for node in obj.details.nodes
            for call in node.running
            if call.fingerprint == obj.fingerprint and not call.is_silent
        ]
        rows = [
            (display.printable(call.tool, 100), display.lasting(call.began), call.node[:NODE_CHARS])
            for call in sorted(calls, key=lambda call: call.began)
        ]
        form = _("%(tool)s for %(duration)s, on node %(node)s") % {
            "tool": "{}",
            "duration": "{}",
            "node": "<code>{}</code>",
        }
        return _items(f"<li>{form}</li>", rows, _("nothing"))

    @admin.display(description=gettext_lazy("open streams"))
    def open_streams(self, obj: MCPSession) -> SafeString:
        rows = [
            (_("listening") if stream.name == "standalone" else _("a call"), node.id[:NODE_CHARS])
            for node in obj.details.nodes
            for stream in node.open
            if stream.fingerprint == obj.fingerprint and not node.is_silent
        ]
        form = _("%(stream)s, on node %(node)s") % {"stream": "{}", "node": "<code>{}</code>"}
        return _items(f"<li>{form}</li>", rows, _("none"))

    @admin.display(description=gettext_lazy("last requests"))
    def recent_requests(self, obj: MCPSession) -> SafeString:
        if not conf.endpoint(obj.endpoint).recent_requests:
            return format_html(_QUIET, _("not kept: RECENT_REQUESTS is 0"))
        found = obj.details.recent
        if not found.requests:
            return format_html(_QUIET, _("none has ended"))
        return format_html(
            '<p class="mcp-size">{}</p><table class="mcp-state mcp-recent"><thead><tr>{}</tr></thead>'
            "<tbody>{}</tbody></table>",
            _counted(found),
            format_html_join(
                "",
                '<th scope="col">{}</th>',
                [(each,) for each in (_("When"), _("Tool or method"), _("ms"), _("Outcome"), _("Node"))],
            ),
            format_html_join(
                "",
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
                [_past(each) for each in found.requests],
            ),
        )

    @admin.display(description=gettext_lazy("subscribed resources"))
    def resources(self, obj: MCPSession) -> SafeString:
        rows = [(display.printable(uri, subscriptions.URI_CHARS),) for uri in obj.details.resources]
        return _items("<li><code>{}</code></li>", rows, _("none"))

    @admin.display(description=gettext_lazy("what it can do"))
    def abilities(self, obj: MCPSession) -> str:
        return in_words(obj.record.handshake.capabilities)

    @admin.display(description=gettext_lazy("other sessions of this user"))
    def others(self, obj: MCPSession) -> SafeString:
        if obj.record.principal == ANONYMOUS:
            return format_html(_QUIET, _("not known: it is anonymous"))
        query = SessionQuery(
            aliases=(obj.endpoint,), kinds=("session",), filters=Query(principal=obj.record.principal)
        )
        page = query.page(offset=0, limit=MOST_OTHERS + 1)
        others = [row for row in page.rows if row.session.fingerprint != obj.fingerprint][:MOST_OTHERS]
        rows = [
            (
                common.page_of(self, MCPSession, each.fingerprint),
                each,
                _("last active %(ago)s") % {"ago": each.last_active},
            )
            for each in MCPSession.from_rows(others)
        ]
        return _items('<li><a href="{}">{}</a>, {}</li>', rows, _("none"))

    @admin.display(description=gettext_lazy("names and sizes"))
    def state_sizes(self, obj: MCPSession) -> SafeString:
        """For who may not read what tools keep."""
        return display.state_table(obj.details.state, values=False)


def _past(past: recent.Past) -> tuple[Any, ...]:
    moment = past.ended
    outcome = _outcome(past)
    word = format_html('<strong class="mcp-bad">{}</strong>', outcome)
    return (
        display.timed(display.ago(moment), moment),
        display.printable(past.call.removeprefix("tools/call:"), 100),
        display.number(past.took_ms),
        word if past.outcome in recent.FAILURES else outcome,
        past.node,
    )


def _outcome(past: recent.Past) -> str:
    return str(OUTCOMES.get(past.outcome, past.outcome))


def _counted(found: recent.Recent) -> str:
    """How many requests have ended, and failed."""
    text = ngettext("%(number)s ended", "%(number)s ended", found.ended)
    if found.failed:
        text = ngettext(
            "%(number)s ended, %(failed)s of them failed",
            "%(number)s ended, %(failed)s of them failed",
            found.ended,
        )
    return text % {"number": display.number(found.ended), "failed": display.number(found.failed)}


def _items(form: str, rows: Sequence[tuple[Any, ...]], nothing: str) -> SafeString:
    """A list, or a quiet word where there is nothing."""
    if not rows:
        return format_html(_QUIET, nothing)
    return format_html('<ul class="mcp-items">{}</ul>', format_html_join("", form, rows))


def in_words(capabilities: Mapping[str, Any]) -> str:
    """What a client said in its capabilities that it can do, in words."""
    said = []
    elicitation, sampling = capabilities.get("elicitation"), capabilities.get("sampling")
    if isinstance(elicitation, Mapping):
        ways = [word for key, word in (("form", _("forms")), ("url", _("links"))) if key in elicitation]
        said.append(_("asks its user (%(ways)s)") % {"ways": get_text_list(ways or [_("forms")], _("and"))})
    if isinstance(sampling, Mapping):
        said.append(
            _("lets the server use its model with tools")
            if "tools" in sampling
            else _("lets the server use its model")
        )
    if isinstance(roots := capabilities.get("roots"), Mapping):
        said.append(
            _("names its folders and tells of changes")
            if roots.get("listChanged")
            else _("names its folders")
        )
    others = sorted(str(key) for key in capabilities.keys() - {"elicitation", "sampling", "roots"})
    said += [display.printable(each, 40) for each in others]
    return "; ".join(said) or _("nothing besides calling")
