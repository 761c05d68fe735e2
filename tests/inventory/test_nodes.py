"""What nodes say of themselves, as it is understood."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_sessions.inventory import doing
from mcp_sessions.inventory.nodes import OpenStream, RunningCall, ServingNode, reading, running_in
from mcp_sessions.records import Kind
from mcp_sessions.store.calls.nodes import NodeEntry
from mcp_sessions.store.calls.validity import Moment
from tests.inventory.stores import START

NOW = datetime.fromtimestamp(START / 1000, UTC)


def entry(id_: str, *, silent_ms: int = 0, **told: Any) -> NodeEntry:
    return NodeEntry(id=id_, about=json.dumps(told), seen_ms=START - silent_ms)


def read(beating: Sequence[NodeEntry], reporting: Sequence[NodeEntry] = ()) -> list[ServingNode]:
    """The nodes of an endpoint of which the store answers this."""
    operation = reading("shop")
    next(operation)
    with pytest.raises(StopIteration) as ended:
        operation.send([list(beating), list(reporting), Moment(0, START)])
    found: list[ServingNode] = ended.value.value
    return found


def running(number: int, *, began: int = START, kind: str = "session", call: str = "ping") -> list[Any]:
    return [number, kind, f"{number:064x}", call, "anonymous", "coder", "1.0", began]


def test_everything_that_a_node_reports_is_known() -> None:
    told: dict[str, Any] = {
        "host": "web-1",
        "pid": 7,
        "process": "p",
        "version": "1.2.3",
        "started": START - 5_000,
        "lag_ms": 12,
        "ahead_ms": -2_001,
        "memory": 0,
        "draining": True,
        "calls": 1,
        "streams": 2,
        "listeners": 3,
        "running": [running(9, began=START - 1_500, call="tools/call:sum")],
        "failing": ["ab"],
        "open": [["cd", "standalone"]],
    }
    beats = entry("0ff1ce", host="web-1", pid=7, keys=["k1", "k0"])
    [node] = read([beats], [entry("0ff1ce", **told)])
    call = RunningCall(
        endpoint="shop",
        node="0ff1ce",
        number=9,
        kind="session",
        fingerprint=f"{9:064x}",
        call="tools/call:sum",
        principal="anonymous",
        principal_name="anonymous",
        client="coder",
        client_version="1.0",
        began=NOW - timedelta(milliseconds=1_500),
        is_silent=False,
    )
    assert node == ServingNode(
        endpoint="shop",
        id="0ff1ce",
        host="web-1",
        pid=7,
        seen=NOW,
        key="k1",
        is_stranger=False,
        is_silent=False,
        process="p",
        version="1.2.3",
        started=NOW - timedelta(seconds=5),
        lag_ms=12,
        ahead_ms=-2_001,
        memory=0,
        draining=True,
        calls=1,
        streams=2,
        listeners=3,
        running=[call],
        open=[OpenStream("cd", "standalone")],
        failing=["ab"],
    )
    assert (node.is_skewed, call.tool, call.key) == (True, "sum", "0ff1ce:9")
    assert not replace(node, ahead_ms=2_000).is_skewed
    assert not replace(node, is_silent=True).is_skewed


def test_what_another_release_reports_otherwise_is_left_out() -> None:
    odd: dict[str, Any] = dict.fromkeys(("host", "process", "version"), 7) | dict.fromkeys(
        ("pid", "started", "lag_ms", "ahead_ms", "memory", "calls", "streams", "listeners", "failing"), "7"
    )
    odd |= {
        "draining": 1,
        "running": [running(1, kind="odd"), running(2)[:-1], "odd", running(3)],
        "open": [["ab"], ["ab", "x", "y"], "ab", ["ab", "x"]],
    }
    [node] = read([], [entry("0ff1ce", **odd)])
    assert [call.number for call in node.running] == [3]
    plain = ServingNode(
        endpoint="shop",
        id="0ff1ce",
        host="?",
        pid=0,
        seen=NOW,
        key="",
        is_stranger=False,
        is_silent=False,
        started=datetime.fromtimestamp(0, UTC),
        open=[OpenStream("ab", "x")],
    )
    assert replace(node, running=()) == plain
    [unreadable] = read([], [replace(entry("0ff1ce"), about='{"running": 1, "open": 2, "failing": null}')])
    assert unreadable == replace(plain, open=[], running=[])
    assert read([replace(entry("0ff1ce"), about="no JSON")]) == [replace(plain, started=None, open=())]


def test_the_nodes_that_beat_and_those_that_only_reported_are_listed_by_id() -> None:
    nodes = read(
        [entry("b"), entry("a", host="beats")], [entry("c", version="1"), entry("a", host="reports")]
    )
    assert [(node.id, node.host, node.version) for node in nodes] == [
        ("a", "beats", ""),
        ("b", "?", ""),
        ("c", "?", "1"),
    ]
    assert [node.started is None for node in nodes] == [False, True, False], "of those that report"


@pytest.mark.parametrize(
    ("beat_ms", "report_ms", "silent_ms", "is_silent"),
    [(12_000, 0, 12_000, False), (0, 12_001, 12_001, True), (12_001, 3, 12_001, True), (3, 5, 5, False)],
)
def test_a_node_is_as_silent_as_the_older_one_of_its_signs_of_life(
    beat_ms: int, report_ms: int, silent_ms: int, is_silent: bool
) -> None:
    [node] = read([entry("a", silent_ms=beat_ms)], [entry("a", silent_ms=report_ms, running=[running(1)])])
    assert (node.seen, node.is_silent) == (NOW - timedelta(milliseconds=silent_ms), is_silent)
    assert [call.is_silent for call in node.running] == [is_silent]


@pytest.mark.parametrize(("report_ms", "is_silent"), [(4_500, False), (7_500, True)])
def test_a_node_that_is_forgotten_for_its_silence_does_not_seem_alive_again(
    report_ms: int, is_silent: bool
) -> None:
    [node] = read([], [entry("a", silent_ms=report_ms)])
    assert (node.seen, node.is_silent) == (NOW - timedelta(milliseconds=report_ms), is_silent)


def test_a_stranger_does_not_share_keys_with_some_node_that_beats() -> None:
    def strangers(*beating: NodeEntry) -> list[str]:
        return [node.id for node in read(beating) if node.is_stranger]

    assert strangers(entry("a", keys=["new", "old"]), entry("b", keys=["old", "new"]), entry("c")) == []
    assert strangers(entry("a", keys=["new"]), entry("b", keys=["old", "new"])) == ["a", "b"]
    assert strangers(entry("a", keys=["new"]), entry("b", keys=["old"], silent_ms=60_000)) == ["a"]
    assert strangers(entry("a", keys=["one"]), entry("b", keys=["one"]), entry("c", keys=["other"])) == [
        "a",
        "b",
        "c",
    ]


def a_node(*calls: RunningCall, **more: Any) -> ServingNode:
    return replace(read([entry("a")])[0], running=calls, **more)


def a_call(seconds: float, fingerprint: str, kind: Kind = "session", **more: Any) -> RunningCall:
    """One that began so long ago."""
    [node] = read([], [entry("a", running=[running(1, kind=kind)])])
    began = NOW - timedelta(seconds=seconds)
    return replace(node.running[0], fingerprint=fingerprint, began=began, **more)


@pytest.mark.django_db
def test_what_runs_is_listed_with_what_has_run_for_longest_first(settings: Any) -> None:
    settings.MCP_SESSIONS = {"shop": {"SERVER": "unused"}}
    newer, older, oldest = (
        a_call(1, "b"),
        a_call(2, "a", principal='oauth:["https://issuer","ada"]'),
        a_call(3, "c"),
    )
    found = running_in([a_node(newer), a_node(), a_node(oldest, older)])
    assert [call.fingerprint for call in found] == ["c", "a", "b"]
    assert found[1].principal_name == "ada (https://issuer)"


def test_records_are_known_by_what_they_do() -> None:
    nodes = [
        a_node(a_call(1, "a"), a_call(29, "b"), open=[OpenStream("b", "1"), OpenStream("c", "1")]),
        a_node(a_call(31, "a"), a_call(30, "d"), open=[OpenStream("c", "2")], failing=["e", "a"]),
        a_node(a_call(5, "a", is_silent=True), is_silent=True, failing=["f"]),
    ]
    found = doing.doing_of(nodes)
    assert {name: (len(each.calls), each.streams) for name, each in found.items()} == {
        "a": (3, 0),
        "b": (1, 1),
        "c": (0, 2),
        "d": (1, 0),
    }
    began = [call.began for call in found["a"].calls]
    assert began == sorted(began)
    assert {word: which(nodes, START) for word, (_, which) in doing.NARROWED.items()} == {
        "calling": {"a", "b", "d"},
        "stuck": {"a", "d"},
        "streaming": {"b", "c"},
        "failing": {"a", "e", "f"},
    }
