"""What the columns of the list and the fields of a record's page say, without a page around them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.utils import timezone

from mcp_sessions.inventory import display
from mcp_sessions.inventory.clients import stranded
from mcp_sessions.inventory.details import Details
from mcp_sessions.inventory.documents import FIELDS, summary
from mcp_sessions.inventory.doing import Doing
from mcp_sessions.inventory.listing import Located
from mcp_sessions.inventory.nodes import OpenStream, RunningCall, ServingNode
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Session
from mcp_sessions.store.calls.recent import Past, Recent
from tests.inventory.stores import START, session

NOW = datetime.fromtimestamp(START / 1000, UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    """An endpoint, and a clock that stands still."""
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    monkeypatch.setattr(display, "now_like", lambda _: NOW)


def shown(name: str, row: MCPSession) -> str:
    """A column, without its tags."""
    return re.sub("<[^>]+>", "", html(name, row))


def html(name: str, row: MCPSession) -> str:
    return str(getattr(admin.site._registry[MCPSession], name)(row))


def row(record: Session | None = None, *, recent: Recent | None = None, **changes: Any) -> MCPSession:
    record = (record or session(0))._replace(**changes)
    return MCPSession.from_rows([Located(alias="default", session=record, recent=recent)])[0]


def call(number: int, *, seconds: int, fingerprint: str = "", **more: Any) -> RunningCall:
    facts: dict[str, Any] = {"call": f"tools/call:tool {number}", "is_silent": False, "node": "0ff1ce5000"}
    return RunningCall(
        endpoint="default",
        number=number,
        kind="session",
        fingerprint=fingerprint or session(0).fingerprint,
        principal="anonymous",
        principal_name="anonymous",
        client="coder",
        client_version="1",
        began=NOW - timedelta(seconds=seconds),
        **(facts | more),
    )


def node(*calls: RunningCall, streams: Sequence[OpenStream] = (), is_silent: bool = False) -> ServingNode:
    return ServingNode(
        endpoint="default",
        id="0ff1ce5000",
        host="web",
        pid=7,
        seen=NOW,
        key="",
        is_stranger=False,
        is_silent=is_silent,
        running=calls,
        open=streams,
    )


def detailed(*nodes: ServingNode, last: Recent | None = None, resources: Sequence[str] = ()) -> MCPSession:
    one = row()
    recent = last or Recent(0, 0, [])
    one.__dict__["details"] = Details(nodes=nodes, recent=recent, state={}, resources=resources)
    return one


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([], "streaming"),
        ([call(1, seconds=61)], "tool 1 for 1 min"),
        ([call(1, seconds=61), call(2, seconds=5)], "tool 1 for 1 min, and 1 more"),
        ([call(0, seconds=9, call="tools/call:" + "x" * 61)], f"{'x' * 59}… for 9 s"),
    ],
)
def test_the_state_of_a_record_is_what_it_does(calls: list[RunningCall], words: str) -> None:
    one = row()
    assert shown("state_now", one) == "idle"
    one.doing = Doing(calls=calls, streams=1)
    assert shown("state_now", one) == words


def past(outcome: str = "ok", *, took: int = 1_234, called: str = "tools/call:sum") -> Past:
    return Past(START - 61_000, took, outcome, "ab12cd34", called)


@pytest.mark.parametrize(
    ("recent", "words"),
    [
        (None, "ping"),
        (Recent(0, 0, []), "ping"),
        (Recent(3, 0, [past()]), "sum, 1,234 ms"),
        (Recent(3, 1, [past("tool error")]), "sum, 1,234 ms tool error"),
        (Recent(3, 0, [past("cancelled", called="ping")]), "ping, 1,234 ms"),
        (Recent(3, 1, [past("of another release", called="x" * 61)]), f"{'x' * 59}…, 1,234 ms"),
    ],
)
def test_the_last_call_is_the_last_that_has_ended_or_else_that_came(
    recent: Recent | None, words: str
) -> None:
    assert shown("last_ended", row(recent=recent)) == words
    assert shown("errors", row(recent=recent)) == (str(recent.failed) if recent and recent.failed else "")
    if recent is not None and recent.requests:
        assert recent.requests[0].outcome in html("last_ended", row(recent=recent))


def test_what_runs_is_that_of_the_record_in_nodes_that_live_the_oldest_first() -> None:
    calls = [call(1, seconds=5), call(2, seconds=61), call(3, seconds=9, fingerprint="ab" * 32)]
    one = detailed(node(*calls), node(call(4, seconds=9, is_silent=True), call(5, seconds=7)))
    assert shown("in_flight", one) == (
        "tool 2 for 1 min, on node 0ff1ce50tool 5 for 7 s, on node 0ff1ce50tool 1 for 5 s, on node 0ff1ce50"
    )
    assert shown("in_flight", detailed()) == "nothing"
    mine = one.fingerprint
    streams = [OpenStream(mine, "standalone"), OpenStream(mine, "x"), OpenStream("ab" * 32, "standalone")]
    one = detailed(node(streams=streams), node(streams=streams, is_silent=True))
    assert shown("open_streams", one) == "listening, on node 0ff1ce50a call, on node 0ff1ce50"
    assert shown("open_streams", detailed()) == "none"
    assert html("resources", detailed(resources=["book://<1>"])) == (
        '<ul class="mcp-items"><li><code>book://&lt;1&gt;</code></li></ul>'
    )


def test_the_last_requests_are_a_table(settings: LazySettings) -> None:
    requests = [past("error", called="x" * 101), past()]
    found = html("recent_requests", detailed(last=Recent(1_234, 2, requests)))
    assert "1,234 ended, 2 of them failed" in found
    assert re.findall("<td>(?:<[^>]+>)*([^<]*)", found) == [
        *("1 min ago", "x" * 99 + "…", "1,234", "error", "ab12cd34"),
        *("1 min ago", "sum", "1,234", "ok", "ab12cd34"),
    ]
    assert (found.count("mcp-bad"), found.count("<th ")) == (1, 5)
    assert '<p class="mcp-size">1 ended</p>' in html("recent_requests", detailed(last=Recent(1, 0, [past()])))
    assert shown("recent_requests", detailed()) == "none has ended"
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused", "RECENT_REQUESTS": 0}}
    assert shown("recent_requests", detailed(last=Recent(1, 0, [past()]))) == "not kept: RECENT_REQUESTS is 0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"initialized": False, "active": False}, "no message since initialize"),
        ({"initialized": False}, "active, not initialized"),
        ({}, "in operation"),
        ({"revived": True}, "in operation, revived: its record was gone, and its state is new"),
    ],
)
def test_the_phase_of_a_session_is_said(changes: dict[str, Any], words: str) -> None:
    one = row(**changes)
    assert shown("phase", one) == words
    assert shown("record", one) == one.fingerprint[:12] + (" revived" if "revived" in changes else "")


def test_fields_are_cut_and_say_what_is_not_there() -> None:
    bare = row(last_call="", tools=frozenset())
    fields = ("last_call", "tools", "log_level", "opened_with", "name", "key")
    assert [shown(field, bare) for field in fields] == [
        *("none", "none", "not set", "credentials without a name, or none"),
        *("not shown: whoever knows it may use it", ""),
    ]
    tools = frozenset({"b", "a"})
    full = row(
        session(0, label="thread", name="n" * 300), last_call="c" * 201, tools=tools, log_level="l" * 31
    )
    assert [shown(field, full) for field in fields] == [
        *("c" * 199 + "…", "a, b", "l" * 29 + "…", "n" * 99 + "…"),
        *("n" * 199 + "…", f"thread {'n' * 192}…"),
    ]
    assert shown("tools", row(tools=frozenset({"t" * 2_001}))) == "t" * 1_999 + "…"
    assert shown("protocol", row(session(0, protocol="p" * 31))) == "p" * 29 + "…"
    assert html("client_shown", row()) == '<span title="protocol 2025-11-25">client 1</span>'
    assert html("client_info", row()).count("&quot;name&quot;: &quot;client&quot;") == 1
    assert shown("requests", row(requests=1_234)) == "1,234"


@pytest.mark.parametrize(("length", "css"), [(12, "mcp-short"), (24, "mcp-short"), (25, "")])
def test_a_short_name_stays_on_one_line_and_a_label_is_beside_its_kind(length: int, css: str) -> None:
    handle = row(session(0, kind="handle", label="a (b)", name="n" * length))
    assert html("record", handle) == f'<code class="{css}">{"n" * length}</code>'
    assert html("kind", handle) == "handle <span>(a (b))</span>"
    assert html("kind", row()) == "session"
    assert shown("record", row(session(0, kind="handle", name="n" * 61))) == "n" * 59 + "…"


def test_times_are_said_with_what_is_left_of_them() -> None:
    with timezone.override(UTC):
        one = row(session(2))
        assert shown("created_at", one) == shown("active_at", one) == "2027-01-15 07:58:00 UTC (2 min ago)"
        assert shown("expires_at", one) == "2027-01-15 08:58:00 UTC (in 58 min, if idle)"
        assert shown("deadline_at", one) == "2027-01-16 07:58:00 UTC (in 23 h)"
        assert (shown("activity", one), shown("expires_in", one)) == ("2 min ago", "58 min")
        assert "; created 2 min ago" in html("activity", one)
        over = row(expires_ms=START, deadline_ms=START)
        assert shown("expires_at", over) == shown("deadline_at", over) == "2027-01-15 08:00:00 UTC"


@pytest.mark.parametrize(
    ("kind", "label", "client", "words"),
    [
        ("session", "", "coder", "{id} (coder 1)"),
        ("session", "", "", "{id}"),
        ("handle", "basket", "coder", "basket {id}"),
        ("handle", "", "coder", "handle {id} (coder 1)"),
        ("user", "", "coder", "user state {id} (anonymous)"),
        ("conversation", "thread", "coder", "conversation thread {id}"),
        ("conversation", "l" * 41, "coder", "conversation " + "l" * 39 + "… {id}"),
        ("conversation", "", "coder", "conversation {id} (coder 1)"),
        ("caller", "", "coder", "caller {id} (coder 1)"),
        ("listener", "", "", "listener {id} ((no name) 1)"),
    ],
)
def test_a_record_is_called_by_what_it_is(kind: Any, label: str, client: str, words: str) -> None:
    one = row(session(0, kind=kind, label=label, client=client))
    assert str(one) == words.format(id=one.fingerprint[:12])
    assert str(MCPSession.gone("ab" * 32, "a title")) == "a title"


def test_a_document_has_all_fields_in_order_and_no_errors_where_none_are_counted() -> None:
    document = summary(row(session(0, client="c" * 101), recent=Recent(5, 0, [])))
    assert tuple(document) == FIELDS
    assert (document["errors"], document["client"]) == (0, "c" * 99 + "…")
    assert document["created"] == document["last_activity"] == "2027-01-15T08:00:00.000+00:00"
    assert document["expires"] == "2027-01-15T09:00:00.000+00:00"
    assert summary(row())["errors"] is None


def test_clients_that_may_not_come_back_are_named_once() -> None:
    names = ["codex-mcp-client", "claude-code", "", "x" * 51, "claude-code", "Visual Studio Code", "mcp"]
    assert stranded(names) == [
        "Claude Code",
        "(no name) (not known)",
        "x" * 49 + "… (not known)",
        "Python SDK",
    ]
