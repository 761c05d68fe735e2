"""What commands take and print, to the letter: numbers, times, and text of clients that is cut."""

import json
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from mcp_sessions import blocks
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.inventory import display
from mcp_sessions.inventory.figures import DAY, Figures, ToolFigures
from mcp_sessions.inventory.findings import Finding
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.overview import Overview
from mcp_sessions.management.subcommands import listing, nodes, selection, token, watching
from mcp_sessions.management.subcommands.blocks import _key
from mcp_sessions.store.servers import ServerFacts
from mcp_sessions.tokens import PersonalToken, create_token
from tests.admin.pages import endpoint
from tests.admin.test_columns import NOW, call, node, row
from tests.inventory.stores import START, session
from tests.support.sessions import Opened, open_sessions


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def run(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, stderr=StringIO(), skip_checks=True)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("read", "right", "wrong"),
    [
        (
            selection._duration,
            {
                "90s": timedelta(seconds=90),
                "15m": timedelta(minutes=15),
                "2h": timedelta(hours=2),
                "1d": timedelta(days=1),
                "9999999s": timedelta(seconds=9_999_999),
            },
            ["", "1", "1w", "-1s", "1.5h", "10000000s", "1s\n", " 1s"],
        ),
        (
            watching._seconds,
            {"5": 5.0, "0.5": 0.5, ".5": 0.5, "86399.9": 86_399.9},
            ["", "0", "0.0", "-1", "86400", "1e3", "nan", "5.", "1234567890"],
        ),
        (listing._limit, {"1": 1, "50": 50, "9" * 18: int("9" * 18)}, ["0", "", "-1", "9" * 19, "1.0", "²"]),
        (_key, {"1": 1, "9" * 18: int("9" * 18)}, ["0", "", "-1", "9" * 19]),
    ],
)
def test_numbers_and_times_are_read_as_they_are_meant(
    read: Callable[[str], Any], right: dict[str, Any], wrong: list[str]
) -> None:
    assert {text: read(text) for text in right} == right
    for text in wrong:
        with pytest.raises(ArgumentTypeError, match="not"):
            read(text)


def test_a_lifetime_or_a_moment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "now_like", lambda _: NOW)
    with timezone.override(UTC):
        assert [token.moment(text) for text in ("never", "12h", "30d", "99999d")] == [
            *(None, timedelta(hours=12), timedelta(days=30), timedelta(days=99_999))
        ]
        assert token.moment("2027-02-01") == datetime(2027, 2, 1, tzinfo=UTC)
        assert token.moment("2027-01-15T08:00:01+00:00") == NOW + timedelta(seconds=1)
        for text in ("0h", "12", "100000d", "soon", "2027-02-30", "2027-01-15T08:00:00+00:00", "2027-01-15"):
            with pytest.raises(ArgumentTypeError, match="not"):
                token.moment(text)


def test_what_is_longer_ago_than_there_are_moments_is_the_first_one() -> None:
    assert selection._before(START, None) is None
    assert selection._before(START, timedelta(seconds=90)) == START - 90_000
    assert selection._before(START, timedelta(days=9_999_999)) == 1


def test_the_cells_of_a_list_are_as_wide_as_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "now_like", lambda _: NOW)
    long = row(session(2, client="c" * 30, protocol="p" * 11, principal="q" * 25), requests=1_234)
    assert list(listing._cells(long)) == [
        *(long.fingerprint[:12], "session", "c" * 23 + "…", "q" * 23 + "…", "p" * 9 + "…"),
        *("2 min ago", "58 min", 1_234, "default"),
    ]


@pytest.mark.parametrize(
    ("limit", "sizes"), [(3, [3]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1]), (99, [4, 4, 1])]
)
def test_a_list_is_read_in_parts_of_which_the_last_is_what_is_left(
    monkeypatch: pytest.MonkeyPatch, limit: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(listing, "BATCH", 4)
    open_sessions([Opened() for _ in range(9)])
    query = SessionQuery(aliases=("default",), kinds=("session",))
    assert [len(page.rows) for page in listing._pages(query, limit)] == sizes


def facts(**more: Any) -> ServerFacts:
    sound: dict[str, Any] = {
        "version": "7",
        "used_memory": 1_153_434,
        "maxmemory": 0,
        "policy": "",
        "evicted": 0,
    }
    sound |= {"appends": True, "saves": True, "snapshots": None, "is_replica": False, "missing_replicas": 0}
    return ServerFacts(**(sound | {"name": "", "seconds": 0.123} | more))


def overview(**more: Any) -> Overview:
    counted = {
        "sessions_opened": 1_001,
        "sessions_revived": 2,
        "sessions_ended:idle": 3,
        "requests:ok": 4,
        "requests:cancelled": 5,
        "requests:tool error": 6,
        "requests:error": 7,
        "requests:interrupted": 8,
        "refusals:404": 9,
        "limited:requests": 10,
    }
    tool = ToolFigures(name="add", calls=3, failed=2, cancelled=1, p50=0.01234567, p95=2.5)
    found = Finding(code="a", level="note", what="What.", cure="Cure.")
    servers = {"default": [facts(), facts(name="10.0.0.1:6379", refusal="NOPERM")]}
    shown = Overview(
        figures=Figures(span=DAY, now_ms=START, steps=[counted], tools=[tool]),
        counts={"session": 1_234, "handle": 2_345},
        nodes=[],
        servers=servers,
        findings=[found, replace(found, level="warning"), replace(found, level="error")],
    )
    return replace(shown, **more)


COUNTED = {"opened": 1_001, "revived": 2, "ended": 3, "requests": 30, "failed": 21, "refused": 9}


def test_stats_and_watch_print_the_same_numbers() -> None:
    assert list(watching._lines(overview())) == [
        ("sessions", "1,234"),
        ("handles", "2,345"),
        ("processes", "0"),
        ("Redis default", "1.1 MiB, answers in 123.0 ms"),
        ("Redis default 10.0.0.1:6379", "memory unknown, answers in 123.0 ms"),
        *((f"{name}, last day", f"{number:,}") for name, number in COUNTED.items()),
    ]
    now = {"at": START / 1000, "sessions": 1_234, "processes": 0, **COUNTED, "findings": 2}
    assert watching._now(overview()) == now
    assert watching._line(overview()) == (
        "sessions 1,234  processes 0  opened 1,001  revived 2  ended 3  requests 30  failed 21  refused 9  findings 2"
    )
    document = watching._document(overview())
    assert {name: document[name] for name in now if name != "findings"} | {"findings": 2} == now
    assert [each["level"] for each in document["findings"]] == ["note", "warning", "error"]
    assert (document["handles"], document["span"], document["ended_by_reason"]) == (2_345, "day", {"idle": 3})
    assert (document["refused_by_status"], document["refused_by_limit"]) == ({"404": 9}, {"requests": 10})
    tool = {
        "tool": "add",
        "calls": 3,
        "failed": 2,
        "cancelled": 1,
        "p50_seconds": 0.012346,
        "p95_seconds": 2.5,
    }
    assert document["tools"] == [tool]


def test_without_a_store_they_print_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    away = overview(figures=None, counts={}, servers={}, findings=[])
    monkeypatch.setattr(watching, "time", SimpleNamespace(time=lambda: 5.0))
    assert list(watching._lines(away)) == [("sessions", "0"), ("handles", "0"), ("processes", "0")]
    assert watching._now(away) == {"at": 5.0, "sessions": 0, "processes": 0, "findings": 0}
    assert "tools" not in watching._document(away)


def test_tools_are_printed_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = ToolFigures(name="t" * 41, calls=1_234, failed=2, cancelled=1, p50=0.0126, p95=1.234)
    figures = Figures(span=DAY, now_ms=START, steps=[{}], tools=[tool])
    monkeypatch.setattr(watching, "overview_of", lambda *_: overview(figures=figures))
    assert [line.split() for line in run("tools")] == [
        ["TOOL", "CALLS", "FAILED", "CANCELLED", "P50", "MS", "P95", "MS"],
        ["t" * 39 + "…", "1,234", "2", "1", "13", "1,234"],
    ]
    findings = run("stats")[-3:]
    assert findings == [f"{level}: What. Cure." for level in ("note", "warning", "error")]
    monkeypatch.setattr(watching, "overview_of", lambda *_: overview(figures=None))
    with pytest.raises(CommandError, match="store cannot be reached"):
        run("tools")


@pytest.mark.django_db
def test_tokens_are_listed_newest_first_of_all_users_or_of_one() -> None:
    ann, bob = (User.objects.create_user(name) for name in ("a" * 21, "bob"))
    until = datetime(2099, 1, 31, 12, 30, tzinfo=UTC)
    first, _ = create_token(ann, name="n" * 25, scopes="s" * 25, endpoint="e" * 13, expires=until)
    second, _ = create_token(bob)
    PersonalToken.objects.filter(pk=second.pk).update(
        last_used=timezone.now() - timedelta(hours=3, minutes=1)
    )
    head, *lines = run("token", "list")
    assert head.split() == ["TOKEN", "USER", "NAME", "SCOPES", "ENDPOINT", "STATE", "LAST", "USED", "EXPIRES"]
    assert " ".join(lines[0].split()) == f"{second.prefix} bob all active 3 h ago never expires"
    assert " ".join(lines[1].split()) == (
        f"{first.prefix} {'a' * 19}… {'n' * 23}… {'s' * 23}… {'e' * 11}… active never until 2099-01-31 12:30 UTC"
    )
    assert run("token", "list", "--user", "bob")[1:] == lines[:1]
    with pytest.raises(CommandError, match="There is no user eve"):
        run("token", "list", "--user", "eve")


@pytest.mark.django_db
def test_blocks_are_listed_newest_first(settings: LazySettings) -> None:
    alias = "e" * 13
    settings.MCP_SESSIONS = {alias: endpoint()}
    blocks.block("client", "c" * 41, duration=None, reason="r" * 61, by="b" * 17)
    blocks.block("address", "192.0.2.1", duration=timedelta(hours=1), endpoint=alias, by="ann")
    address, client = blocks.active()
    head, *lines = run("blocks")
    assert head.split() == ["BLOCK", "WHAT", "VALUE", "ENDPOINT", "UNTIL", "BY", "REASON"]
    assert " ".join(lines[0].split()) == (
        f"{address.pk} address 192.0.2.1 {'e' * 11}… until {address.expires:%Y-%m-%d %H:%M} UTC ann"
    )
    assert " ".join(lines[1].split()) == (
        f"{client.pk} client {'c' * 39}… all until it is lifted {'b' * 15}… {'r' * 59}…"
    )
    assert run("unblock", str(client.pk)) == [f"{client.pk}: {client} is no longer blocked"]
    assert run("unblock", str(client.pk)) == [f"{client.pk}: {client} is lifted"]
    with pytest.raises(CommandError, match="There is no block 999"):
        run("unblock", "999")


@pytest.mark.django_db
def test_jobs_that_are_not_done_are_listed_or_all_newest_first() -> None:
    facts: dict[str, Any] = {
        "action": "force-expire",
        "by": "ada",
        "selection": {"sources": [], "cut_off_ms": {}},
    }
    done = EndingJob.objects.create(**facts, state="done", ended=1_234, expected=2_345, described="some")
    left = EndingJob.objects.create(**facts, described="others", problem="It is stuck.")
    found = [" ".join(line.split()) for line in run("jobs", "list", "--all")]
    assert found == [
        f"{left.pk} running 0 of 0 ada others: It is stuck.",
        f"{done.pk} done 1,234 of 2,345 ada some",
    ]
    assert [" ".join(line.split()) for line in run("jobs", "list")] == found[:1]


def test_nodes_and_what_runs_are_printed_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    long = call(2, seconds=5, call="tools/call:" + "t" * 33)
    told: dict[str, Any] = {
        "version": "1.2",
        "calls": 3,
        "streams": 4,
        "listeners": 5,
        "lag_ms": 6,
        "ahead_ms": -7,
    }
    one = replace(node(call(1, seconds=61), long), **told)
    found = [one, replace(one, draining=True, version=""), replace(one, is_silent=True)]
    monkeypatch.setattr(display, "now_like", lambda _: NOW + timedelta(minutes=2))
    monkeypatch.setattr(nodes, "nodes_of", lambda _: found)
    head, *lines = run("nodes")
    assert " ".join(head.split()) == (
        "NODE HOST PROCESS STATE VERSION CALLS STREAMS LISTENERS LAG MS CLOCK MS ENDPOINT"
    )
    rest = "3 4 5 6 7 default"
    assert [" ".join(line.split()) for line in lines] == [
        f"0ff1ce5000 web 7 2 min ago 1.2 {rest}",
        f"0ff1ce5000 web 7 draining unknown {rest}",
        f"0ff1ce5000 web 7 silent 2 min 1.2 {rest}",
    ]
    monkeypatch.setattr(nodes, "nodes_of", lambda _: found[:1])
    lines = [" ".join(line.split()) for line in run("now")]
    short = session(0).fingerprint[:12]
    assert lines == [
        "FOR TOOL OR METHOD RECORD CLIENT USER NODE ENDPOINT",
        f"3 min tool 1 {short} coder 1 anonymous 0ff1ce5000 default",
        f"2 min {'t' * 31}… {short} coder 1 anonymous 0ff1ce5000 default",
    ]
    assert [" ".join(line.split()) for line in run("now", "--tool", "tool 1")] == lines[:2]
    [document] = json.loads("".join(run("now", "--tool", "tool 1", "--json")))
    assert (document["tool"], document["call"], document["number"]) == ("tool 1", "tools/call:tool 1", 1)
    [document] = json.loads("".join(run("nodes", "--json")))
    assert (document["pid"], document["ahead_ms"], "running" in document, "open" in document) == (
        7,
        -7,
        False,
        False,
    )
