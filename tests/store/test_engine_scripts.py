"""Each script of the store does on the embedded engine what it does on a real server."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_sessions.store.call import Script
from mcp_sessions.store.calls import (
    counts,
    indexes,
    nodes,
    queries,
    ranges,
    reading,
    requests,
    revival,
    sessions,
    state,
    streams,
    subscriptions,
    sweeps,
    tombstones,
)
from tests.store.engines import Both
from tests.store.harness import DAY, FIRST, HOUR, START


class Store:
    """Runs scripts on both with a clock in the arguments, as the store does in tests."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.now = START
        self.ran: set[str] = set()

    def run(self, script: Script, keys: str, *arguments: Any) -> Any:
        self.ran.add(script.name)
        return self.both.same(script.text, ["{s}:" + key for key in keys.split()], [self.now, *arguments])

    def create(self, name: str = "", *, idle_ms: int = HOUR, said: int | str = "") -> None:
        handshake = '["2025-11-25",{"name":"claude"},{}]'
        self.run(sessions.CREATE, f"record{name} tomb{name}", "user:1", handshake, idle_ms, DAY, "", said, 0)


@pytest.fixture
def store(both: Both) -> Store:
    return Store(both)


def test_sessions_are_the_same(store: Store) -> None:
    store.create()
    store.create()
    for number, said in enumerate((START + 5, START - HOUR, START + HOUR, START - DAY)):
        store.create(f"said{number}", said=said)
    touch = ("user:1", HOUR, "tools/call", "i", 60_000)
    assert store.run(reading.TOUCH, "record features state", *touch)
    store.now += 5
    store.run(
        reading.TOUCH,
        "record features state nil f s record features state",
        *touch,
        *touch,
        "user:2",
        *touch[1:],
    )
    for arguments in (
        (1, "level", "debug"),
        (2, "a", "", "b", "", "level"),
        (0, "a", "b"),
        (1, "level", "info"),
    ):
        store.run(sessions.FEATURES, "record features", *arguments)
    store.run(reading.TOUCH, "record features state", *touch)
    store.now += HOUR - 1
    store.run(reading.KEEP, "record features state", HOUR, 60_000)
    store.run(reading.GET, "record features")
    store.both.line("SET {s}:record1 rubbish")
    store.both.line("HSET {s}:record2 not a-record")
    store.run(reading.TOUCH, "record1 f1 s1 record f s record2 f2 s2", *touch, *touch, *touch)
    store.run(reading.GET, "record1 f1")
    store.run(reading.GET, "record2 f2")
    store.run(
        sessions.END,
        "record features state tomb as-it-was other",
        "=user:2",
        "deleted",
        60_000,
        "t",
        1_000,
        "",
        "",
    )
    store.run(sessions.ENDED, "tomb")
    store.run(
        sessions.END,
        "record features state tomb as-it-was other",
        "=user:1",
        "deleted",
        60_000,
        "t",
        1_000,
        "",
        "",
    )
    store.run(sessions.ENDED, "tomb")
    store.create()
    store.now += HOUR
    store.run(reading.GET, "record features")
    assert store.ran == {"create", "touch", "features", "keep", "get", "end", "ended"}


def test_revival_is_the_same(store: Store) -> None:
    arguments = (
        "user:1",
        '["2025-11-25",{"name":"claude"},{}]',
        START - HOUR,
        START + HOUR,
        HOUR,
        "ping",
        60_000,
    )
    keys = "record features state tomb"
    store.both.line("HSET {s}:state a 1")
    store.run(revival.REVIVE, keys, *arguments)
    store.run(revival.REVIVE, keys, *arguments)
    store.both.line("EXISTS {s}:state")
    store.run(revival.SETTLE, "record")
    store.run(revival.SETTLE, "nil")
    store.run(revival.BURY, "record tomb", "deleted", START + HOUR)
    store.run(sessions.END, "record f s tomb as-it-was", "", "deleted", 1, "t", 1, 60_000, 60_000)
    store.run(sessions.END, "nil f s tomb6 as-it-was6", "", "deleted", 1, "t", 1, 60_000, 60_000)
    store.run(sessions.ENDED, "tomb6")
    store.run(revival.REVIVE, keys, *arguments)
    store.run(tombstones.ADD, "tombstones", START + HOUR, b"a" * 16, b"b" * 16)
    store.run(tombstones.HAS, "tombstones", b"a" * 16)
    store.run(tombstones.HAS, "nil tombstones", b"b" * 16)
    store.run(tombstones.HAS, "nil tombstones", b"c" * 16)
    store.run(tombstones.SHORTEN, "tomb", 1_000_000)
    store.run(tombstones.SHORTEN, "tomb", 1_000)
    store.run(revival.BURY, "nil tomb2", "deleted", START + HOUR)
    store.run(revival.BURY, "nil tomb2", "deleted", START + HOUR)
    store.now += 2 * HOUR
    store.run(revival.BURY, "nil tomb3", "deleted", START + HOUR)
    store.run(revival.REVIVE, "record4 f s tomb4", *arguments)
    store.both.line("SET {s}:record5 rubbish")
    store.run(revival.REVIVE, "record5 f s tomb5", *arguments)
    store.run(revival.SETTLE, "record5")
    mine = {"revive", "settle", "bury", "tombstones_add", "tombstones_has", "shorten"}
    assert store.ran == mine | {"end", "ended"}


def test_state_is_the_same(store: Store) -> None:
    store.create()
    keys = "record state"
    store.run(state.GET, keys)
    store.run(state.SET, keys, 100, "a", "1", "b", '"x"')
    store.run(state.SET, keys, 100, "a", "x" * 100)
    store.run(state.APPEND, keys, 100, "list", "1")
    store.run(state.APPEND, keys, 100, "list", '"\xff"')
    store.run(state.APPEND, keys, 100, "a", "1")
    store.run(state.GET, keys, "a", "nil", "list")
    store.run(state.GET, keys)
    store.run(state.DELETE, keys, "a", "nil")
    store.run(state.GET, keys)
    store.run(state.DELETE, keys, "b", "list")
    store.both.line("EXISTS {s}:state")
    store.run(state.DELETE, "nil state", "b")
    assert store.ran == {"create", "state_get", "state_set", "state_append", "state_delete"}


NUMBERS = [
    "0", "1", "-1", "-0", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775806",
    "9223372036854775808", "-9223372036854775809", "18446744073709551616", "4611686018427387904", "007", "1.5", "2.0",
    "-4611686018427387905", "123456789012345678901234567890", "1e3", "1e+308", "-1e308", "0.1", "1e-07",
    "1.7976931348623157e+308", "1e400", "1e", '"x"', "null", "[]", "", "-",
]  # fmt: skip


@pytest.mark.parametrize("before", [None, *NUMBERS])
def test_sums_are_the_same(store: Store, before: str | None) -> None:
    store.create()
    for amount in NUMBERS:
        store.run(state.DELETE, "record state", "n")
        if before is not None:
            store.run(state.SET, "record state", 1000, "n", before)
        store.run(state.INCR, "record state", 1000, "n", amount)
        store.run(state.INCR, "record state", 5, "n", amount)
        store.run(state.GET, "record state")


def test_indexes_are_the_same(store: Store) -> None:
    run = store.run
    for n in range(12):
        caps = () if n < 8 else (1, 1, 9) if n < 10 else (2, 2, 5)
        store.now += 1_000
        member, before = bytes([n]) * 32, bytes([n - 1]) * 32 if n == 5 else ""
        keys = "gone activity principal client" + (" clients ends fingerprints" if n % 3 else "")
        run(indexes.RESERVE, keys, member, before, 60_000, 5, 3, f"client {n % 4}", DAY, DAY, *caps)
    update = (7, 4, bytes(32), store.now, store.now + HOUR, 60_000)
    run(indexes.UPDATE, "gone activity principal client protocol ends fingerprints", *update)
    run(indexes.UPDATE, "g a1 a2 e f gone activity", 5, 2, b"m", 5, 9, 60_000, 2, 1, b"n", store.now, 7, 1)
    stretches: Iterator[tuple[Any, ...]] = itertools.product(
        ("asc", "desc"),
        ("", store.now - 4_000),
        ("", store.now - 2_000),
        ("", store.now - 5_000),
        ("", bytes([6]) * 32),
        (0, 1, 50),
        (0, 3, 20),
    )
    for order, since, before, score, member, offset, limit in stretches:
        arguments = (HOUR, since, before, order, score, member if score else "", offset, limit)
        run(indexes.MEMBERS, "activity", *arguments)
        run(indexes.MEMBERS, "activity principal client", *arguments)
    for order in ("asc", "desc"):
        _, distance, scores = run(ranges.QUANTILES, "activity", HOUR, "", "", order, 4)
        assert (distance, len(scores)) == ((int, 3), 4)
        run(ranges.QUANTILES, "nil", HOUR, "", "", order, 4)
    for bounds in ((b"\0", b"\4"), (b"\3" * 32, ""), (b"\3", b"\3")):
        run(queries.PREFIX, "fingerprints", *bounds, 3)
    run(queries.PREFIX, "nil", b"\0", "", 3)
    run(queries.HAVING, "principal", bytes(32), bytes([3]) * 32, b"nobody")
    run(queries.HAVING, "nil", bytes(32))
    run(indexes.CLIENTS, "clients")
    for node in ("a", "b", "a"):
        run(sweeps.OVER, "sweeper ends nil", node, 3_000, 2)
    store.now += HOUR
    run(sweeps.OVER, "sweeper ends nil", "a", 3_000, 2)
    gone = (bytes(32), store.now, bytes([5]) * 32, 5, b"nobody", store.now)
    run(indexes.UNINDEX, "gone activity principal ends", 30_000, *gone)
    run(indexes.UPDATE, "gone activity", 2, 1, bytes(32), store.now, store.now, 60_000)
    run(indexes.MEMBERS, "activity", DAY, "", "", "asc", "", "", 0, 5)
    assert store.ran == {
        "reserve",
        "update",
        "members",
        "quantiles",
        "prefix",
        "having",
        "clients",
        "over",
        "unindex",
    }


def test_records_that_are_over_are_the_same(store: Store) -> None:
    keys = "record features state was other"
    store.create()
    store.run(sweeps.EXPIRE, keys, "one", 60_000)
    store.now += HOUR
    store.run(reading.GET, "record features")
    store.run(sweeps.EXPIRE, keys, "one", 60_000)
    store.run(sweeps.EXPIRE, keys, "one", 60_000)
    store.run(sweeps.EXPIRE, keys, "two", 60_000)
    store.run(sweeps.FORGET, "was", "two")
    store.run(sweeps.FORGET, "was", "one")
    store.both.line("EXISTS {s}:was")
    store.create()
    store.now += HOUR + 15_000
    store.run(sweeps.EXPIRE, keys, "two", 60_000)
    store.both.line("SET {s}:record rubbish")
    store.run(sweeps.EXPIRE, keys, "two", 60_000)
    assert store.ran == {"create", "get", "expire", "forget"}


def test_streams_are_the_same(store: Store) -> None:
    store.create()
    keys = "record log info"
    run = store.run
    run(streams.APPEND, keys, "node", 1, "", 10, 1000, HOUR, "early")
    run(streams.DELIVERED_BY, "record info")
    run(streams.OPEN, keys, "node", "7", HOUR)
    run(streams.OPEN, keys, "node", "7", HOUR)
    run(streams.DELIVERED_BY, "record info")
    run(streams.APPEND, keys, "node", 1, "", 3, 1000, HOUR, "one", "two", "three", "four")
    run(streams.APPEND, keys, "node", 3, "", 3, 1000, HOUR, "three", "four", "five")
    run(streams.READ, keys, "node", 1, 0, 1000)
    run(streams.CLAIM, keys, "other", 3, "", HOUR)
    run(streams.READ, keys, "node", 1, 3, 1000)
    run(streams.READ, keys, "other", FIRST, 3, 3)
    run(streams.KEEP, keys)
    run(streams.APPEND, keys, "node", 6, "1", 3, 5, HOUR, "answer")
    run(streams.APPEND, keys, "node", 6, "1", 3, 5, HOUR, "answer")
    run(streams.APPEND, keys, "node", 7, "1", 3, 5, HOUR, "late")
    run(streams.READ, keys, "other", FIRST, 0, 1000)
    run(streams.OPEN, "record log2 info2", "node", "8", HOUR)
    for dead, again in (("node", "a"), ("node", "b"), ("a", "a"), ("a", "b")):
        run(streams.RERUN, "record log2 info2", dead, again, 1)
    for origin in ("node", "a", "a"):
        run(streams.CLOSE, "record log2 info2", origin, 2, 3, 100, HOUR, "orphan")
    run(streams.RERUN, "record log2 info2", "a", "b", 1)
    run(streams.APPEND, "record log2 info2", "node", 1, "1", 3, 5, HOUR, "late")
    for name, kept in (("a", 2), ("b", 2), ("b", 2), ("c", 2), ("", 2)):
        run(streams.FINISH, "record finished info", name, kept, 1000, HOUR)
    run(streams.CLAIM, "record log3 info3", "node", "", "", HOUR)
    run(streams.CLAIM, "record log3 info3", "node", "", "1", HOUR)
    for name in ("p1", "p2", "p1", "p3"):
        store.now += 1_000
        standalone = "record log3 info3 published"
        run(streams.PUBLISH, standalone, name, 60_000, 2, 10, 1000, HOUR, name, name * 40)
    run(streams.READ, "record log3 info3", "node", FIRST, 0, 1000)
    run(
        streams.PUBLISH,
        standalone,
        "many",
        60_000,
        2,
        100,
        9000,
        HOUR,
        *[str(n) for n in range(70)],
    )
    run(streams.READ, "record log3 info3", "node", FIRST, 6, 9000)
    run(streams.READ, "record log3 info3", "node", FIRST, 999, 9000)
    for _ in range(35):
        run(streams.CLAIM, "record log3 info3", "node", "", "1", HOUR)
    run(streams.READ, "record log3 info3", "node", FIRST, 0, 9000)
    for token in (FIRST, FIRST + 20, FIRST + 35, store.now * 1000, store.now * 1000 + 34, 7):
        run(streams.RELEASE, "record log3 info3", token)
    run(streams.READ, "record log3 info3", "node", store.now * 1000 + 90, 0, 9000)
    run(streams.DROP, "log info nil")
    store.now += HOUR
    run(streams.FINISH, "record finished info", "d", 2, 1000, HOUR)
    assert store.ran - {"create"} == {
        f"stream_{name}"
        for name in (
            *(
                "open",
                "append",
                "publish",
                "claim",
                "delivered_by",
                "read",
                "release",
                "rerun",
                "close",
                "keep",
                "finish",
                "drop",
            ),
        )
    }


def test_requests_and_subscriptions_are_the_same(store: Store) -> None:
    store.create()
    run = store.run
    run(requests.ANSWER, "record request", "early")
    run(requests.REGISTER, "record request", "node", 60_000)
    for text in ("1", "2", "2", "3"):
        run(requests.PROGRESS, "record request", text, 2)
    for after in (0, 2, 9):
        run(requests.REPLIES, "record request", after)
    run(requests.ANSWER, "record request", "answer")
    run(requests.ANSWER, "record request", "another")
    run(requests.PROGRESS, "record request", "late", 2)
    run(requests.REPLIES, "record request", 1)
    run(requests.REFUSE, "request")
    run(requests.WITHDRAW, "request", 60_000)
    run(requests.REFUSE, "request")
    run(requests.REFUSE, "unknown")
    run(requests.REPLIES, "record request", 1)
    for resource in ("a", "b", "a", "c"):
        run(subscriptions.SUBSCRIBE, "record subscriptions", resource, 2, f"book://{resource}")
        run(subscriptions.SUBSCRIBED, "record subscriptions", resource)
    run(subscriptions.LIST, "record subscriptions")
    run(subscriptions.UNSUBSCRIBE, "record subscriptions", "a")
    run(subscriptions.UNSUBSCRIBE, "record subscriptions", "a")
    names = {
        f"request_{name}" for name in ("register", "answer", "progress", "replies", "withdraw", "refuse")
    }
    assert store.ran == {"create", "subscribe", "unsubscribe", "subscribed", "subscriptions"} | names


def test_nodes_are_the_same(store: Store) -> None:
    run = store.run
    run(nodes.NOTIFY, "nodes inbox", "a", 100, "unheard")
    for node in "abc":
        run(nodes.BEAT, "nodes about inbox", node, f"about {node}", 60_000)
        store.now += 30_000
    run(nodes.LIST, "nodes about")
    run(nodes.BEAT, "nodes about inbox", "c", "again", 60_000)
    run(nodes.NOTIFY, "nodes inbox", "c", 100, "one", "two")
    run(nodes.LEAVE, "nodes about inbox", "b")
    run(nodes.LIST, "nodes about")
    run(nodes.BROADCASTS, "broadcasts", "5-0", 60_000, 10)
    store.both.line("XADD {s}:broadcasts 7-0 n one")
    store.both.line("XADD {s}:broadcasts 9-1 n two")
    for after in ("5-0", "7-0", "9-0", "9-1", "10-0"):
        run(nodes.BROADCASTS, "broadcasts", after, 60_000, 1)
    posted = "{s}:posted"
    for reply in store.both.replies(nodes.BROADCAST.text, [posted], ["", 1000, 60_000, "message"]):
        assert re.fullmatch(rb"\d{13}-0", reply[1])
    read = store.both.replies(nodes.BROADCASTS.text, [posted], ["", "", 60_000, 10])
    assert [reply[1] for reply in read] == [[(bytes, b"message")]] * 2
    assert store.ran == {"node_notify", "node_beat", "node_list", "node_leave", "broadcasts"}


def test_an_error_ends_the_script_where_it_is(store: Store) -> None:
    """No rollback: what was written before stays, as on a server."""
    store.create()
    store.both.line("HSET {s}:new not sorted")
    arguments = (b"m", "", HOUR, 5, 2, "client", DAY, DAY)
    store.run(indexes.RESERVE, "gone activity new clients ends", *arguments)
    store.both.line("ZADD {s}:activity 1 other")
    store.run(indexes.RESERVE, "gone new activity clients ends", *arguments)
    store.both.line("ZRANGE {s}:activity 0 -1 WITHSCORES")


def test_counts_are_the_same(store: Store) -> None:
    run, keys = store.run, "batch names totals tools hour hour-tools"
    steps = (store.now // 60_000, 60_000, 90_000, store.now // 300_000, 300_000, 900_000)
    for batch in (1, 1, 2):
        run(
            counts.ADD, keys, batch, 2, DAY, 1, *steps, "seen", 3, "add", "1 0 20", "b", "0 1 7", "c", "1 0 5"
        )
    run(counts.SET, "hour", 90_000, "sessions", 5, "memory", 7)
    run(counts.READ, "totals tools hour hour-tools nothing")
    store.now += 60_000
    assert len(run(counts.ADD, keys, 3, 2, DAY, 1, *steps, "seen", 3)) == 1
    store.now += DAY
    steps = (store.now // 60_000, 60_000, 90_000, store.now // 300_000, 300_000, 900_000)
    run(counts.ADD, keys, 4, 2, DAY, 0, *steps, "c", "1 0 5 9")
    run(counts.READ, "totals tools hour hour-tools")
    assert store.ran == {"counts_add", "counts_set", "counts_read"}
