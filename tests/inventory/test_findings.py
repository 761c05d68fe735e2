"""What is said to be wrong, and from which number on."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from mcp_sessions.inventory import findings
from mcp_sessions.inventory.counted import of_figures
from mcp_sessions.inventory.figures import DAY, HOUR, Figures, ToolFigures
from mcp_sessions.inventory.findings import Finding, of_caps, of_clocks, of_nodes, of_servers
from mcp_sessions.inventory.nodes import ServingNode
from mcp_sessions.store.servers import ServerFacts
from tests.inventory.stores import START

#: A server with which nothing is wrong.
SOUND = ServerFacts(
    name="",
    version="6.2.0",
    used_memory=90,
    maxmemory=100,
    policy="noeviction",
    evicted=0,
    appends=True,
    saves=True,
    snapshots="",
    is_replica=False,
    missing_replicas=0,
    seconds=findings.SLOW_SECONDS,
)
NODE = ServingNode(
    endpoint="default",
    id="0ff1ce",
    host="web",
    pid=7,
    seen=datetime.fromtimestamp(START / 1000, UTC),
    key="key",
    is_stranger=False,
    is_silent=False,
    version="1.0",
)


def said(found: Any) -> list[tuple[str, str, str]]:
    return [(each.code, each.level, each.what) for each in found]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"version": ""},
        {"version": "7"},
        {"version": "10.0.1"},
        {"version": "8.0-rc1"},
        {"maxmemory": 0, "used_memory": 10**12},
        {"policy": ""},
        {"appends": False, "snapshots": None},
    ],
    ids=str,
)
def test_nothing_is_said_of_a_sound_redis_or_one_of_which_little_is_known(facts: dict[str, Any]) -> None:
    assert said(of_servers("default", [replace(SOUND, **facts)])) == []


@pytest.mark.parametrize(
    ("facts", "code", "level", "what"),
    [
        ({"version": "6.0.16"}, "redis-too-old", "error", "has version 6.0.16."),
        ({"version": "5.10"}, "redis-too-old", "error", "has version 5.10."),
        ({"seconds": 0.1234}, "redis-slow", "warning", "took 123 ms to answer."),
        ({"used_memory": 91}, "redis-full", "warning", "uses 91 % of its memory."),
        (
            {"policy": "volatile-ttl"},
            "redis-policy",
            "error",
            "has maxmemory-policy volatile-ttl: when its memory is full, it drops sessions in use.",
        ),
        (
            {"saves": False},
            "redis-cannot-save",
            "error",
            "could not write its data the last time that it tried.",
        ),
        (
            {"appends": False, "snapshots": "60 1"},
            "redis-snapshots-only",
            "warning",
            "makes snapshots only: a crash loses what happened since the last one.",
        ),
        (
            {"appends": False},
            "redis-not-persistent",
            "error",
            "keeps nothing on disk: when it restarts, every session is over.",
        ),
        (
            {"is_replica": True},
            "redis-is-replica",
            "error",
            "is a replica: it refuses writes, and clients get 503.",
        ),
        (
            {"missing_replicas": 1},
            "redis-lacks-replicas",
            "error",
            "refuses writes, because 1 replica is missing of those that min-replicas-to-write asks for.",
        ),
        (
            {"missing_replicas": 2},
            "redis-lacks-replicas",
            "error",
            "refuses writes, because 2 replicas are missing of those that min-replicas-to-write asks for.",
        ),
        (
            {"refusal": "NOPERM", "policy": "allkeys-lru", "saves": False},
            "redis-untold",
            "note",
            "does not tell about its memory and its disk: NOPERM",
        ),
    ],
)
def test_what_is_wrong_with_a_redis_is_said_with_its_name(
    facts: dict[str, Any], code: str, level: str, what: str
) -> None:
    found = [*of_servers("default", [replace(SOUND, **facts)])]
    assert said(found) == [(code, level, f"The Redis of the cache 'default' {what}")]
    assert all(each.cure for each in found)
    in_cluster = of_servers("default", [SOUND, replace(SOUND, name="10.0.0.1:6379", **facts)])
    assert said(in_cluster) == [(code, level, f"The Redis of the cache 'default' at 10.0.0.1:6379 {what}")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.0, []),
        (-2.0, []),
        (2.6, ["The clock of this machine is 3 s behind that of Redis."]),
        (-2.6, ["The clock of this machine is 3 s ahead of that of Redis."]),
    ],
)
def test_a_clock_that_differs_is_behind_or_ahead(seconds: float, words: list[str]) -> None:
    assert said(of_clocks(seconds)) == [("clock-skew", "warning", each) for each in words]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([NODE, replace(NODE, id="other", host="web2", ahead_ms=2_000)], []),
        ([], [("no-node", "note", "No process serves the endpoint 'default'.")]),
        (
            [NODE, replace(NODE, key="other", is_stranger=True), NODE],
            [
                (
                    "mixed-keys",
                    "error",
                    "The processes that serve the endpoint 'default' have 2 different SECRET_KEYs: sessions that one "
                    "of them opened are unknown to others.",
                )
            ],
        ),
        (
            [replace(NODE, version="1.1"), NODE, NODE, replace(NODE, version="")],
            [
                (
                    "mixed-versions",
                    "note",
                    "The processes that serve the endpoint 'default' have different versions: 1.0, 1.1.",
                )
            ],
        ),
        (
            [replace(NODE, ahead_ms=2_600), replace(NODE, host="db", ahead_ms=-2_600)],
            [
                ("clock-skew", "warning", "The clock of the machine web is 3 s behind that of Redis."),
                ("clock-skew", "warning", "The clock of the machine db is 3 s ahead of that of Redis."),
            ],
        ),
        (
            [NODE, replace(NODE, is_silent=True, version="0.9", ahead_ms=90_000)],
            [("node-silent", "error", "The process 7 on web has been silent for 90 s.")],
        ),
    ],
    ids=["sound", "none", "keys", "versions", "clocks", "silent"],
)
def test_what_is_wrong_with_processes_is_said_of_those_it_concerns(
    nodes: list[ServingNode], expected: list[tuple[str, str, str]]
) -> None:
    assert said(of_nodes("default", nodes, now_ms=START + 90_000)) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"session": 899, "handle": 17}, []),
        ({}, []),
        (
            {"session": 900, "handle": 18},
            [
                ("warning", "The endpoint 'default' has 900 of at most 1,000 sessions."),
                ("warning", "The endpoint 'default' has 18 of at most 20 handles."),
            ],
        ),
        ({"session": 999}, [("warning", "The endpoint 'default' has 999 of at most 1,000 sessions.")]),
        ({"session": 1000}, [("error", "The endpoint 'default' has 1,000 of at most 1,000 sessions.")]),
    ],
    ids=str,
)
def test_a_cap_is_nearly_reached_at_nine_tenths_of_it(
    settings: LazySettings, counts: Any, expected: list[tuple[str, str]]
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused", "MAX_SESSIONS": 1000, "MAX_HANDLES": 20}}
    found = list(of_caps("default", counts))
    assert [(each.level, each.what) for each in found] == expected
    assert [each.cure.split()[1] for each in found] == ["MAX_SESSIONS,", "MAX_HANDLES,"][: len(expected)]


def test_no_cap_is_never_reached(settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused", "MAX_SESSIONS": None, "MAX_HANDLES": None}}
    assert list(of_caps("default", {"session": 10**9, "handle": 10**9})) == []


def test_the_worst_is_said_first_and_otherwise_in_the_order_in_which_it_was_found() -> None:
    def finding(code: str, level: findings.Level) -> Finding:
        return Finding(code=code, level=level, what="", cure="")

    some = [finding("a", "note"), finding("b", "warning"), finding("c", "error"), finding("d", "warning")]
    sorted_ = findings.most_important_first(some)
    assert [(each.code, each.level_word) for each in sorted_] == [
        ("c", "Error"),
        ("b", "Warning"),
        ("d", "Warning"),
        ("a", "Note"),
    ]


def figures(*tools: ToolFigures, numbers: dict[str, int] | None = None, **more: Any) -> Figures:
    span = more.pop("span", HOUR)
    return Figures(span=span, now_ms=START, steps=[numbers or {}, {}], tools=tools, **more)


def tool(name: str, calls: int, failed: int) -> ToolFigures:
    return ToolFigures(name=name, calls=calls, failed=failed, cancelled=0, p50=0, p95=0)


@pytest.mark.parametrize(
    ("name", "calls", "failed", "expected"),
    [
        ("add", 25, 5, [("tool-failing", "warning", "The tool add fails: 5 of 25 calls in the last day.")]),
        ("add", 26, 5, []),
        ("add", 4, 4, []),
        ("(unknown)", 4, 4, []),
        (
            "(unknown)",
            2_000,
            5,
            [
                (
                    "unknown-tools",
                    "note",
                    "5 calls in the last day named tools that the server is not known to have.",
                )
            ],
        ),
    ],
)
def test_a_tool_fails_if_a_fifth_of_its_calls_have_and_five_at_least(
    name: str, calls: int, failed: int, expected: list[tuple[str, str, str]]
) -> None:
    assert said(of_figures(figures(tool(name, calls, failed), span=DAY))) == expected


@pytest.mark.parametrize(
    ("numbers", "evicted", "expected"),
    [
        ({}, 0, []),
        (
            {},
            1,
            [
                (
                    "redis-evicts",
                    "error",
                    "Redis has evicted 1 key in the last hour: of sessions or their state.",
                )
            ],
        ),
        (
            {},
            1_200,
            [
                (
                    "redis-evicts",
                    "error",
                    "Redis has evicted 1,200 keys in the last hour: sessions or their state.",
                )
            ],
        ),
        (
            {"sessions_refused": 1, "limited:MAX_SESSIONS": 1},
            0,
            [("sessions-refused", "error", "1 new session was refused in the last hour, at a cap.")],
        ),
        (
            {"sessions_refused": 1_200, "limited:MAX_SESSIONS_PER_PRINCIPAL": 1_200},
            0,
            [("sessions-refused", "error", "1,200 new sessions were refused in the last hour, at a cap.")],
        ),
    ],
)
def test_what_was_evicted_or_refused_is_said_in_words(
    numbers: dict[str, int], evicted: int, expected: list[tuple[str, str, str]]
) -> None:
    assert said(of_figures(figures(numbers=numbers, evicted=evicted))) == expected


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        (5, "limit 5 10 (up to 1 a minute)."),
        (6, "limit 5 10 (up to 1 a minute), and 1 more limit."),
        (7, "limit 5 10 (up to 1 a minute), and 2 more limits."),
    ],
)
def test_the_limits_that_refused_most_are_named(limits: int, end: str) -> None:
    counted = {f"limited:limit {number}": 15 - number for number in range(1, limits + 1)}
    [found] = of_figures(figures(span=DAY, numbers=counted))
    assert (found.code, found.level) == ("limits-refuse", "note")
    assert found.what.startswith(
        "Refused by limits in the last day: limit 1 14 (up to 1 a minute), limit 2 13"
    )
    assert found.what.endswith(end)
