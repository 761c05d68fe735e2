"""The fields of a record's page that say what it does now, and what it did lately."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.contrib import admin
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

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
_QUIET: Final = '<span class="quiet">{}</span>'


class LiveColumns:
    """A mixin for a ModelAdmin: each method is one field."""

    @admin.display(description="state")
    def state_now(self, obj: MCPSession) -> SafeString | str:
        """For the list."""
        doing = obj.doing
        if doing is not None and doing.calls:
            first, more = doing.calls[0], len(doing.calls) - 1
            what = f"{display.printable(first.tool, 60)} for {display.lasting(first.began)}"
            text = f"{what}, and {more} more" if more else what
            return format_html('<strong class="mcp-calling">{}</strong>', text)
        return format_html(_QUIET, "idle") if doing is None else "streaming"

    @admin.display(description="last call")
    def last_ended(self, obj: MCPSession) -> SafeString | str:
        """For the list: the last request that has ended, or else the last that came."""
        if obj.recent is None or not obj.recent.requests:
            return display.printable(obj.record.last_call.removeprefix("tools/call:"), 60)
        [last] = obj.recent.requests
        words = f"{display.printable(last.call.removeprefix('tools/call:'), 60)}, {last.took_ms:,} ms"
        shown = display.timed(words, last.ended, note=last.outcome)
        failed = last.outcome in recent.FAILURES
        return format_html('{} <strong class="mcp-bad">{}</strong>', shown, last.outcome) if failed else shown

    @admin.display(description="errors")
    def errors(self, obj: MCPSession) -> str:
        failed = 0 if obj.recent is None else obj.recent.failed
        return number_format(failed, use_l10n=True, force_grouping=True) if failed else ""

    @admin.display(description="running now")
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
        return _items("<li>{} for {}, on node <code>{}</code></li>", rows, "nothing")

    @admin.display(description="open streams")
    def open_streams(self, obj: MCPSession) -> SafeString:
        rows = [
            ("listening" if stream.name == "standalone" else "a call", node.id[:NODE_CHARS])
            for node in obj.details.nodes
            for stream in node.open
            if stream.fingerprint == obj.fingerprint and not node.is_silent
        ]
        return _items("<li>{}, on node <code>{}</code></li>", rows, "none")

    @admin.display(description="last requests")
    def recent_requests(self, obj: MCPSession) -> SafeString:
        if not conf.endpoint(obj.endpoint).recent_requests:
            return format_html(_QUIET, "not kept: RECENT_REQUESTS is 0")
        found = obj.details.recent
        if not found.requests:
            return format_html(_QUIET, "none has ended")
        failed = f", {number_format(found.failed, use_l10n=True)} of them failed" if found.failed else ""
        return format_html(
            '<p class="mcp-size">{} ended{}</p><table class="mcp-state mcp-recent"><thead><tr><th scope="col">When</th>'
            '<th scope="col">Tool or method</th><th scope="col">ms</th><th scope="col">Outcome</th>'
            '<th scope="col">Node</th></tr></thead><tbody>{}</tbody></table>',
            number_format(found.ended, use_l10n=True, force_grouping=True),
            failed,
            format_html_join(
                "",
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
                [_past(each) for each in found.requests],
            ),
        )

    @admin.display(description="subscribed resources")
    def resources(self, obj: MCPSession) -> SafeString:
        rows = [(display.printable(uri, subscriptions.URI_CHARS),) for uri in obj.details.resources]
        return _items("<li><code>{}</code></li>", rows, "none")

    @admin.display(description="what it can do")
    def abilities(self, obj: MCPSession) -> str:
        return in_words(obj.record.handshake.capabilities)

    @admin.display(description="other sessions of this user")
    def others(self, obj: MCPSession) -> SafeString:
        if obj.record.principal == ANONYMOUS:
            return format_html(_QUIET, "not known: it is anonymous")
        query = SessionQuery(
            aliases=(obj.endpoint,), kinds=("session",), filters=Query(principal=obj.record.principal)
        )
        page = query.page(offset=0, limit=MOST_OTHERS + 1)
        others = [row for row in page.rows if row.session.fingerprint != obj.fingerprint][:MOST_OTHERS]
        rows = [
            (
                common.address(self, "mcp_sessions_mcpsession_change", each.fingerprint),
                each,
                f"last active {each.last_active}",
            )
            for each in MCPSession.from_rows(others)
        ]
        return _items('<li><a href="{}">{}</a>, {}</li>', rows, "none")

    @admin.display(description="names and sizes")
    def state_sizes(self, obj: MCPSession) -> SafeString:
        """For who may not read what tools keep."""
        return display.state_table(obj.details.state, values=False)


def _past(past: recent.Past) -> tuple[Any, ...]:
    moment = past.ended
    word = format_html('<strong class="mcp-bad">{}</strong>', past.outcome)
    return (
        display.timed(display.ago(moment), moment),
        display.printable(past.call.removeprefix("tools/call:"), 100),
        number_format(past.took_ms, use_l10n=True, force_grouping=True),
        word if past.outcome in recent.FAILURES else past.outcome,
        past.node,
    )


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
        ways = [word for key, word in (("form", "forms"), ("url", "links")) if key in elicitation] or [
            "forms"
        ]
        said.append(f"asks its user ({' and '.join(ways)})")
    if isinstance(sampling, Mapping):
        said.append("lets the server use its model" + (" with tools" if "tools" in sampling else ""))
    if isinstance(roots := capabilities.get("roots"), Mapping):
        said.append("names its folders" + (" and tells of changes" if roots.get("listChanged") else ""))
    others = sorted(str(key) for key in capabilities.keys() - {"elicitation", "sampling", "roots"})
    said += [display.printable(each, 40) for each in others]
    return "; ".join(said) or "nothing besides calling"
