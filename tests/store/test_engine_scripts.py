"""Each script of the store does on the embedded engine what it does on a real server."""

import re
from typing import Any

import pytest

from mcp_sessions.store import scripts, stream_scripts
from mcp_sessions.store.scripts import Script
from tests.store.engines import Both
from tests.store.worlds import DAY, HOUR


class Store:
    """Runs scripts on both with a clock in the arguments, as the store does in tests."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.now = 1_800_000_000_000
        self.ran: set[str] = set()

    def run(self, script: Script, keys: str, *arguments: Any) -> Any:
        """`NOW` stands for the clock."""
        self.ran.add(script.name)
        sent = [self.now if each is NOW else each for each in arguments]
        return self.both.same(script.text, ["{s}:" + key for key in keys.split()], sent)

    def create(self, name: str = "", *, idle_ms: int = HOUR) -> None:
        handshake = '["2025-11-25",{"name":"claude"},{}]'
        self.run(scripts.CREATE, f"record{name} tomb{name}", "user:1", handshake, idle_ms, DAY, NOW)


NOW = object()


@pytest.fixture
def store(both: Both) -> Store:
    return Store(both)


def test_sessions_are_the_same(store: Store) -> None:
    store.create()
    store.create()
    touch = ("user:1", HOUR, "tools/call", "i", 60_000, NOW)
    assert store.run(scripts.TOUCH, "record features state", *touch)
    store.now += 5
    store.run(
        scripts.TOUCH,
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
        store.run(scripts.FEATURES, "record features", NOW, *arguments)
    store.run(scripts.TOUCH, "record features state", *touch)
    store.now += HOUR - 1
    store.run(scripts.KEEP, "record features state", HOUR, 60_000, NOW)
    store.run(scripts.GET, "record features", NOW)
    store.both.line("SET {s}:record1 rubbish")
    store.both.line("HSET {s}:record2 not a-record")
    store.run(scripts.TOUCH, "record1 f1 s1 record f s record2 f2 s2", *touch, *touch, *touch)
    store.run(scripts.GET, "record1 f1", NOW)
    store.run(scripts.GET, "record2 f2", NOW)
    store.run(scripts.END, "record features state tomb other", "=user:2", "deleted", 60_000, NOW)
    store.run(scripts.END, "record features state tomb other", "=user:1", "deleted", 60_000, NOW)
    store.create()
    store.now += HOUR
    store.run(scripts.GET, "record features", NOW)
    assert store.ran == {"create", "touch", "features", "keep", "get", "end"}


def test_state_is_the_same(store: Store) -> None:
    store.create()
    state = "record state"
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_SET, state, NOW, 100, "a", "1", "b", '"x"')
    store.run(scripts.STATE_SET, state, NOW, 100, "a", "x" * 100)
    store.run(scripts.STATE_APPEND, state, NOW, 100, "list", "1")
    store.run(scripts.STATE_APPEND, state, NOW, 100, "list", '"\xff"')
    store.run(scripts.STATE_APPEND, state, NOW, 100, "a", "1")
    store.run(scripts.STATE_GET, state, NOW, "a", "nil", "list")
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_DELETE, state, NOW, "a", "nil")
    store.run(scripts.STATE_GET, state, NOW)
    store.run(scripts.STATE_DELETE, state, NOW, "b", "list")
    store.both.line("EXISTS {s}:state")
    store.run(scripts.STATE_DELETE, "nil state", NOW, "b")
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
        store.run(scripts.STATE_DELETE, "record state", NOW, "n")
        if before is not None:
            store.run(scripts.STATE_SET, "record state", NOW, 1000, "n", before)
        store.run(scripts.STATE_INCR, "record state", NOW, 1000, "n", amount)
        store.run(scripts.STATE_INCR, "record state", NOW, 5, "n", amount)
        store.run(scripts.STATE_GET, "record state", NOW)


def test_indexes_are_the_same(store: Store) -> None:
    keys = "activity new clients principal client protocol"
    for n in range(12):
        first = "" if n % 3 else 60_000 + n
        caps = ("", "") if n < 8 else (9, "") if n < 10 else ("", 5)
        store.now += 1_000
        member = bytes([n]) * 32
        store.run(scripts.INDEX, keys, NOW, member, HOUR, first, f"client {n % 4}", DAY, *caps)
    for order in ("asc", "desc"):
        for since, before, offset, limit in (("", "", 0, 5), ("", "", 3, 5), (store.now - 4_000, "", 0, 9),
                                             ("", store.now - 2_000, 1, 3), ("", "", 50, 5)):  # fmt: skip
            store.run(scripts.PAGE, "activity activity new", NOW, HOUR, since, before, offset, limit, order)
    store.run(scripts.CLIENTS, "clients")
    store.run(scripts.UNINDEX, "activity principal", bytes(32), bytes([5]) * 32, b"nobody")
    store.now += HOUR
    store.run(scripts.INDEX, keys, NOW, b"late", HOUR, "", "client", DAY, "", "")
    store.run(scripts.PAGE, "activity activity new", NOW, HOUR, "", "", 0, 5, "asc")
    assert store.ran == {"index", "page", "clients", "unindex"}


def test_streams_are_the_same(store: Store) -> None:
    store.create()
    keys = "record log info"
    run = store.run
    run(stream_scripts.APPEND, keys, NOW, 1, "", 10, 1000, HOUR, "early")
    run(stream_scripts.OPEN, keys, NOW, "node", "7", HOUR)
    run(stream_scripts.OPEN, keys, NOW, "node", "7", HOUR)
    run(stream_scripts.APPEND, keys, NOW, 1, "", 3, 1000, HOUR, "one", "two", "three", "four")
    run(stream_scripts.APPEND, keys, NOW, 3, "", 3, 1000, HOUR, "three", "four", "five")
    run(stream_scripts.READ, keys, NOW, 1, 0, 1000)
    run(stream_scripts.CLAIM, keys, NOW, "other", 3, "")
    run(stream_scripts.READ, keys, NOW, 1, 3, 1000)
    run(stream_scripts.READ, keys, NOW, 2, 3, 3)
    run(stream_scripts.KEEP, keys, NOW)
    run(stream_scripts.APPEND, keys, NOW, 6, "1", 3, 5, HOUR, "answer")
    run(stream_scripts.APPEND, keys, NOW, 6, "1", 3, 5, HOUR, "answer")
    run(stream_scripts.APPEND, keys, NOW, 7, "1", 3, 5, HOUR, "late")
    run(stream_scripts.READ, keys, NOW, 2, 0, 1000)
    run(stream_scripts.OPEN, "record log2 info2", NOW, "node", "8", HOUR)
    run(stream_scripts.CLOSE, "record log2 info2", NOW, 3, 100, HOUR, "orphan")
    run(stream_scripts.CLOSE, "record log2 info2", NOW, 3, 100, HOUR, "orphan")
    for name, kept in (("a", 2), ("b", 2), ("b", 2), ("c", 2), ("", 2)):
        run(stream_scripts.FINISHED, "record finished info", NOW, name, kept, 1000)
    run(stream_scripts.CLAIM, "record log3 info3", NOW, "node", "", "")
    run(stream_scripts.CLAIM, "record log3 info3", NOW, "node", "", "1")
    for name in ("p1", "p2", "p1", "p3"):
        store.now += 1_000
        standalone = "record log3 info3 published"
        run(stream_scripts.PUBLISH, standalone, NOW, name, 60_000, 2, 10, 1000, HOUR, name, name * 40)
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 0, 1000)
    run(
        stream_scripts.PUBLISH,
        standalone,
        NOW,
        "many",
        60_000,
        2,
        100,
        9000,
        HOUR,
        *[str(n) for n in range(70)],
    )
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 6, 9000)
    run(stream_scripts.READ, "record log3 info3", NOW, 1, 999, 9000)
    run(stream_scripts.DROP, "log info nil")
    store.now += HOUR
    run(stream_scripts.FINISHED, "record finished info", NOW, "d", 2, 1000)
    assert store.ran - {"create"} == {
        f"stream_{name}"
        for name in ("open", "append", "publish", "claim", "read", "close", "keep", "finished")
    } | {"drop"}


def test_questions_and_subscriptions_are_the_same(store: Store) -> None:
    store.create()
    run = store.run
    run(stream_scripts.ANSWER, "record question", NOW, "early")
    run(stream_scripts.ASK, "record question", NOW, "node", 60_000)
    for text in ("1", "2", "2", "3"):
        run(stream_scripts.PROGRESS, "record question", NOW, text, 2)
    for after in (0, 2, 9):
        run(stream_scripts.REPLIES, "record question", NOW, after)
    run(stream_scripts.ANSWER, "record question", NOW, "answer")
    run(stream_scripts.ANSWER, "record question", NOW, "another")
    run(stream_scripts.PROGRESS, "record question", NOW, "late", 2)
    run(stream_scripts.REPLIES, "record question", NOW, 1)
    run(stream_scripts.WITHDRAW, "question")
    run(stream_scripts.REPLIES, "record question", NOW, 1)
    for resource in ("a", "b", "a", "c"):
        run(stream_scripts.SUBSCRIBE, "record subscriptions", NOW, resource, 2)
        run(stream_scripts.SUBSCRIBED, "record subscriptions", NOW, resource)
    run(stream_scripts.UNSUBSCRIBE, "record subscriptions", NOW, "a")
    run(stream_scripts.UNSUBSCRIBE, "record subscriptions", NOW, "a")
    names = {"ask", "answer", "progress", "replies", "withdraw", "subscribe", "unsubscribe", "subscribed"}
    assert store.ran == {"create"} | names


def test_nodes_are_the_same(store: Store) -> None:
    run = store.run
    run(stream_scripts.RING, "nodes inbox", "a", 100, "unheard")
    for node in "abc":
        run(stream_scripts.BEAT, "nodes about inbox", NOW, node, f"about {node}", 60_000)
        store.now += 30_000
    run(stream_scripts.NODES, "nodes about")
    run(stream_scripts.BEAT, "nodes about inbox", NOW, "c", "again", 60_000)
    assert run(stream_scripts.RING, "nodes inbox", "c", 100, "one", "two") == (int, 1)
    run(stream_scripts.LEAVE, "nodes about inbox", "b")
    run(stream_scripts.NODES, "nodes about")
    run(stream_scripts.NOTICES, "notices", "5-0", 60_000, 10)
    store.both.line("XADD {s}:notices 7-0 n one")
    store.both.line("XADD {s}:notices 9-1 n two")
    for after in ("5-0", "7-0", "9-0", "9-1", "10-0"):
        run(stream_scripts.NOTICES, "notices", after, 60_000, 1)
    posted = "{s}:posted"
    for reply in store.both.replies(stream_scripts.POST.text, [posted], [1000, 60_000, "notice"]):
        assert re.fullmatch(rb"\d{13}-0", reply[1])
    read = store.both.replies(stream_scripts.NOTICES.text, [posted], ["", 60_000, 10])
    assert [reply[1] for reply in read] == [[(bytes, b"notice")]] * 2
    assert store.ran == {"ring", "node_beat", "nodes", "node_leave", "notices"}


def test_an_error_ends_the_script_where_it_is(store: Store) -> None:
    """No rollback: what was written before stays, as on a server."""
    store.create()
    store.both.line("HSET {s}:new not sorted")
    store.run(scripts.INDEX, "activity new clients principal", NOW, "m", HOUR, "", "client", DAY, "", "")
    store.both.line("ZADD {s}:activity 1 other")
    store.run(scripts.INDEX, "activity clients new principal", NOW, "m", HOUR, "", "client", DAY, "", "")
    store.both.line("ZRANGE {s}:activity 0 -1 WITHSCORES")
