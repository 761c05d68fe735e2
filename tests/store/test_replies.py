"""What replies mean that are not what the scripts of this release give: of another length, or of another release."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from mcp_sessions.connections.round_trips import NoReply
from mcp_sessions.engine.keyspace import Hash
from mcp_sessions.store import call as calls_module
from mcp_sessions.store.call import Call, check_unused, failure, is_foreign, warn_unreadable
from mcp_sessions.store.calls import (
    counts,
    endings,
    indexes,
    nodes,
    places,
    queries,
    ranges,
    reading,
    sessions,
    state,
    streams,
    subscriptions,
    sweeps,
)
from mcp_sessions.store.calls.endings import Ending
from mcp_sessions.store.calls.indexes import Entry, Full
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.ranges import Located
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.store.keys import homes
from tests.store.harness import LIMITS, SECOND, START, a_fingerprint

ONE, TWO = "ab" * 32, "cd" * 32
CLAIM = Claim(node="n", token=1)
TWO_SHARDS = replace(LIMITS, shards=2)
SPREAD = ranges.stretched("index", homes(2), limits=TWO_SHARDS, kind="session")
#: The first call of each, and a reply that lacks something.
CUT_OFF: dict[str, tuple[Callable[[], Call[Any]], Any]] = {
    "endings": (endings.overdue, [b"token"]),
    "a batch": (
        lambda: streams.read(ONE, "aa", claim=CLAIM, after=0, max_bytes=9),
        [1, 0, [5], b"n", 1],
    ),
    "nodes seen": (nodes.list_nodes, [[b"a"], []]),
    "nodes told": (nodes.list_nodes, [[], [b"a"]]),
    "clients": (lambda: next(indexes.clients(limits=LIMITS))[0], [b"cursor"]),
    "numbers": (counts.totals, [b"0", [b"requests"], []]),
    "tools": (counts.totals, [b"0", [], [b"add"]]),
    "state": (lambda: state.names(ONE), [[b"a"]]),
    "an index": (
        lambda: next(ranges.at(SPREAD, offset=0, limit=1))[0],
        [1, 0, [b"a"], []],
    ),
    "over": (lambda: sweeps.over("@0", node="n"), [b"0", []]),
}


@pytest.mark.parametrize("what", CUT_OFF)
def test_a_reply_that_is_cut_off_is_an_error_and_no_half_of_it_is_taken(what: str) -> None:
    make, reply = CUT_OFF[what]
    call = make()
    with pytest.raises(ValueError, match="shorter"):
        call.decode(call.home, reply)


def test_features_and_fields_come_in_pairs() -> None:
    for read in (reading.parse_features, lambda parts: Hash().hset(*parts)):
        with pytest.raises(ValueError, match="shorter"):
            read([b"level"])


def healed() -> Any:
    """The check of a full index, when it has found two entries."""
    steps: Any = places._heal(Full(2, "@0", "index", b"key", START + SECOND), LIMITS, "session")
    first, *others = next(steps)
    flat = [part for each in (ONE, TWO) for part in (bytes.fromhex(each), b"1")]
    steps.send(
        [first.decode("@0", [2, 0, flat, []]), *(each.decode("@0", [2, 0, [], []]) for each in others)]
    )
    return steps


def looked_up() -> Any:
    """A search in two indexes of another shard than the principal's, when it has found two entries."""
    steps: Any = queries.entries(Query(client="c", principal="issuer|ann"), limits=TWO_SHARDS, limit=9)
    calls = next(steps)
    calls = steps.send([call.decode(call.home, [2, 0, [], []]) for call in calls])
    flat = [part for each in (ONE, "00" * 32) for part in (bytes.fromhex(each), b"1")]
    steps.send([call.decode(call.home, [2, 0, flat, flat[:2]]) for call in calls])
    return steps


def begun(steps: Any) -> Any:
    next(steps)
    return steps


LOCATED = [Located(Entry(each, 0), "@0") for each in (ONE, TWO)]
#: Operations that wait for the results of two calls, and the result of one.
TOO_FEW: dict[str, tuple[Callable[[], Any], Any]] = {
    "ends": (lambda: begun(sessions.end_many([ONE, TWO], reason="idle", token="t", shards=1)), None),
    "signs of life": (lambda: begun(streams.keep([(ONE, "aa"), (TWO, "bb")])), True),
    "logs": (lambda: begun(streams.forget([ONE, TWO])), ["aa"]),
    "subscriptions": (lambda: begun(subscriptions.subscribed([ONE, TWO], "book://1")), True),
    "records": (lambda: begun(reading.alive("index", LOCATED)), None),
    "sizes": (lambda: begun(ranges.sizes([SPREAD])), ranges._Part("@0", 0, 0, [], None)),
    "room": (lambda: begun(places._with_room(TWO_SHARDS, "session")), 0),
    "a check": (healed, None),
    "a sweep": (lambda: begun(sweeps.sweep([ONE, TWO], token="t", limits=LIMITS)), None),
    "look-ups": (looked_up, [ONE]),
}


@pytest.mark.parametrize("what", TOO_FEW)
def test_results_that_are_too_few_belong_to_nothing(what: str) -> None:
    make, result = TOO_FEW[what]
    with pytest.raises(ValueError, match="shorter"):
        make().send([result])


@pytest.mark.parametrize(
    ("told", "why", "before_ms"),
    [
        ([[ONE], "idle", "ann"], "", None),
        ([[ONE], "idle", "ann", "old"], "old", None),
        ([[ONE], "idle", "ann", "old", 7], "old", 7),
        ([[ONE], "idle", "ann", "old", 7, "of a newer release"], "old", 7),
    ],
)
def test_endings_of_other_releases_are_read(told: Sequence[Any], why: str, before_ms: int | None) -> None:
    call = endings.overdue()
    [found] = call.decode("", [b"t", json.dumps(told).encode()])
    assert found == Ending(
        token="t", fingerprints=[ONE], reason="idle", by="ann", why=why, before_ms=before_ms
    )


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        (b"2 whatever", True),
        (b"12", True),
        (b"1 whatever", False),
        (b"", False),
        (b"x 2", False),
        ([b"2 x"], False),
        (None, False),
    ],
)
def test_a_record_of_another_release_begins_with_its_version(text: Any, foreign: bool) -> None:
    assert is_foreign(text) == foreign


@pytest.mark.parametrize(
    ("text", "level", "version"),
    [
        (b"123456789 1", logging.WARNING, "b'12345678'"),
        (b"1 whatever", logging.WARNING, "b'1'"),
        (b"7 whatever", logging.DEBUG, "b'7'"),
        (ValueError("x"), logging.WARNING, "'ValueError'"),
    ],
)
def test_what_is_unreadable_is_said_in_short(
    text: Any, level: int, version: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "foreign", {b"7"})
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    warn_unreadable(ONE, text)
    [said] = caplog.records
    assert (said.levelno, said.getMessage()) == (
        level,
        f"Session {ONE[:12]} is unreadable (format {version}); it is treated as gone.",
    )


def test_only_a_record_of_another_type_is_no_failure() -> None:
    record, index = sessions.get(ONE), nodes.list_nodes()
    wrong = ResponseError("WRONGTYPE Operation against a key")
    assert (record.script.reads_record, index.script.reads_record) == (True, False)
    assert failure(record, wrong) is None
    for call, reply, said in (
        (index, wrong, "WRONGTYPE"),
        (record, ResponseError("OOM command not allowed"), "OOM"),
        (record, RedisConnectionError("WRONGTYPE in a text"), "WRONGTYPE"),
        (record, NoReply(RedisConnectionError("away"), sent=True), "away"),
    ):
        assert said in str(failure(call, reply))


def test_an_operation_runs_once() -> None:
    operation = streams.keep([(a_fingerprint(), "aa")])
    check_unused(operation)
    next(operation)
    with pytest.raises(RuntimeError, match="once"):
        check_unused(operation)
