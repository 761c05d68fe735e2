"""Calls of any thread on a Cluster: who is asked, who is asked again, and how long, with nodes that a test plays."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import pytest
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)

from mcp_sessions.connections import sync_cluster
from mcp_sessions.connections.round_trips import Job, NoReply
from mcp_sessions.connections.sync_cluster import cluster_replies
from mcp_sessions.store.calls import reading, state

Address = tuple[str, int]
ONE, TWO, THREE, REPLICA = ("one", 1), ("two", 2), ("three", 3), ("replica", 4)
#: One that may be done twice, and one that may not.
OFTEN, ONCE = reading.GET, state.INCR
#: Seconds.
TRY_AGAIN = 0.05
DEAD = NoReply(TimeoutError("late"), sent=True)


def job(name: str, script: Any = OFTEN) -> Job:
    return script, [name, "another key"], ("now",)


def slot(name: str) -> int:
    return int(key_slot(name.encode()))


class Cluster:
    """redis-py's client of a Cluster, and what it knows of the nodes."""

    def __init__(self, **serving: Address) -> None:
        self.nodes_manager = self
        self.serves(**serving)
        #: Who serves what when somebody looks again, or what goes wrong then; time after time.
        self.after: list[dict[str, Address] | Exception] = []
        #: `address_remap` of its options.
        self.remap: Callable[[Address], Address] = lambda address: address
        self.looked: list[str | None] = []
        self.moved: list[int] = []
        #: The replies of each node, to one pipeline after the other.
        self.replies: dict[Address, list[Sequence[Any]]] = {}
        #: Which commands were sent to whom: their last keys, or the command if it has none.
        self.sent: list[tuple[Address, str]] = []

    def serves(self, **serving: Address) -> None:
        nodes = {name: [ClusterNode(*each) for each in (node, REPLICA)] for name, node in serving.items()}  # type: ignore[no-untyped-call]
        self.slots_cache = {slot(name): serving for name, serving in nodes.items()}

    def get_node(self, host: str, port: int) -> ClusterNode | None:
        return None if (host, port) == THREE else ClusterNode(host, port)  # type: ignore[no-untyped-call]

    def get_redis_connection(self, node: ClusterNode) -> Address:
        return node.host, node.port

    def move_slot(self, error: MovedError) -> None:
        self.moved.append(error.slot_id)
        self.slots_cache[error.slot_id] = [ClusterNode(*error.node_addr)]  # type: ignore[no-untyped-call]

    def remap_host_port(self, host: str, port: int) -> Address:
        return self.remap((host, port))

    def initialize(self, *, last_failed_node_name: str | None) -> None:
        self.looked.append(last_failed_node_name)
        found = self.after.pop(0) if self.after else None
        if isinstance(found, Exception):
            raise found
        if found is not None:
            self.serves(**found)

    def execute(self, address: Address, commands: Sequence[Sequence[Any]]) -> Sequence[Any]:
        told = " ".join(command[3] if len(command) > 1 else command[0] for command in commands)
        self.sent.append((address, told))
        replies = self.replies[address]
        return replies.pop(0) if len(replies) > 1 else replies[0]


class Waits:
    """What is waited for between two attempts; the clock moves on by half a second."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.now = 1_000.0

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.now += 0.5


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    monkeypatch.setattr(sync_cluster, "_never", mock.Mock(spec=threading.Event, wait=made))
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def ask(cluster: Any, *jobs: Job) -> list[Any]:
    with mock.patch.object(sync_cluster, "execute", cluster.execute):
        return cluster_replies(cluster, jobs)


def moved(name: str, node: Address) -> MovedError:
    return MovedError(f"{slot(name)} {node[0]}:{node[1]}")


def asks(name: str, node: Address) -> AskError:
    return AskError(f"{slot(name)} {node[0]}:{node[1]}")


def test_each_node_gets_its_calls_in_one_pipeline_and_each_call_its_reply(waits: Waits) -> None:
    cluster = Cluster(a=ONE, b=TWO, c=ONE)
    wrong = ResponseError("wrong")
    cluster.replies = {ONE: [[b"of a", wrong]], TWO: [[b"of b"]]}
    assert ask(cluster, job("a"), job("b"), job("c")) == [b"of a", b"of b", wrong]
    assert sorted(cluster.sent) == [(ONE, "a c"), (TWO, "b")]
    assert (cluster.looked, cluster.moved, waits.seconds) == ([], [], [])
    assert ask(cluster) == []


def test_a_call_follows_the_slot_that_has_moved_alone_and_at_once(waits: Waits) -> None:
    """To a node that is not known yet, too. What may not be done twice has not been done."""
    cluster = Cluster(a=ONE, b=ONE)
    cluster.replies = {ONE: [[moved("a", THREE), b"of b"]], THREE: [[b"of a"]]}
    assert ask(cluster, job("a", ONCE), job("b", ONCE)) == [b"of a", b"of b"]
    assert cluster.sent == [(ONE, "a b"), (THREE, "a")]
    assert (cluster.moved, cluster.looked, waits.seconds) == ([slot("a")], [], [])


def test_a_node_is_told_that_it_is_asked_on_purpose_for_keys_on_their_way_to_it(waits: Waits) -> None:
    cluster = Cluster(a=ONE, b=ONE)
    cluster.replies = {
        ONE: [[asks("a", TWO), asks("b", TWO)]],
        TWO: [[b"OK", NoScriptError("?"), b"OK", b"of b"], [b"OK", b"of a"]],
    }
    assert ask(cluster, job("a"), job("b")) == [b"of a", b"of b"]
    assert cluster.sent == [(ONE, "a b"), (TWO, "ASKING a ASKING b"), (TWO, "ASKING a")]
    assert (cluster.moved, cluster.looked, waits.seconds) == ([], [], [])


@pytest.mark.parametrize("redirection", ["MOVED", "ASK"])
@pytest.mark.parametrize(
    ("said", "remapped", "meant"), [("", False, "one"), ("two", True, "two!"), ("", True, "one!")]
)
def test_a_redirection_is_followed_to_the_address_under_which_we_reach_the_node(
    waits: Waits, redirection: str, said: str, remapped: bool, meant: str
) -> None:
    """Without a host it means that of the node that was asked."""
    moves = redirection == "MOVED"
    cluster = Cluster(a=ONE)
    if remapped:
        cluster.remap = lambda address: (address[0] + "!", address[1])
    cluster.replies = {ONE: [[(moved if moves else asks)("a", (said, 9))]]}
    cluster.replies[meant, 9] = [[b"found"] if moves else [b"OK", b"found"]]
    assert ask(cluster, job("a")) == [b"found"]
    assert cluster.sent[1:] == [((meant, 9), "a" if moves else "ASKING a")]


def test_keys_of_which_only_some_have_arrived_are_waited_for_but_not_for_ever(waits: Waits) -> None:
    cluster = Cluster(a=ONE, b=ONE)
    cluster.replies = {ONE: [[TryAgainError("?"), b"of b"], [b"of a"]]}
    assert ask(cluster, job("a", ONCE), job("b")) == [b"of a", b"of b"]
    assert (cluster.sent, waits.seconds) == ([(ONE, "a b"), (ONE, "a")], [TRY_AGAIN])

    cluster.replies = {ONE: [[again := TryAgainError("?")]]}
    cluster.sent.clear()
    assert ask(cluster, job("a")) == [again]
    assert len(cluster.sent) == 4, "for SOCKET_TIMEOUT"


def test_a_call_is_waited_for_beside_others_that_have_only_moved(waits: Waits) -> None:
    cluster = Cluster(a=ONE, b=ONE)
    cluster.replies = {ONE: [[TryAgainError("?"), moved("b", TWO)], [b"of a"]], TWO: [[b"of b"]]}
    assert ask(cluster, job("a"), job("b")) == [b"of a", b"of b"]
    assert waits.seconds == [TRY_AGAIN]


@pytest.mark.parametrize("failure", [DEAD, ClusterDownError("down")])
def test_what_may_be_repeated_goes_once_to_whoever_has_taken_over(waits: Waits, failure: Exception) -> None:
    cluster = Cluster(a=ONE, b=ONE, c=TWO, d=ONE)
    cluster.after = [{"a": TWO, "b": TWO, "c": TWO, "d": ONE}]
    cluster.replies = {ONE: [[failure] * 3], TWO: [[b"of c"], [b"of a"]]}
    jobs = [job("a"), job("b", ONCE), job("d")]
    assert ask(cluster, *jobs, job("c")) == [b"of a", failure, failure, b"of c"]
    assert sorted(cluster.sent) == [(ONE, "a b d"), (TWO, "a"), (TWO, "c")], "d is still where it was"
    assert (cluster.looked, waits.seconds) == (["one:1"], [])


def test_a_call_that_fails_twice_is_not_repeated_again(waits: Waits) -> None:
    cluster = Cluster(a=ONE)
    cluster.after = [{"a": TWO}, {"a": THREE}]
    cluster.replies = {ONE: [[DEAD]], TWO: [[second := NoReply(TimeoutError("late"), sent=True)]]}
    assert ask(cluster, job("a")) == [second]
    assert cluster.sent == [(ONE, "a"), (TWO, "a")]
    assert cluster.looked == ["one:1", "two:2"]


def test_of_several_nodes_that_are_away_the_first_is_asked_last_who_has_taken_over(waits: Waits) -> None:
    cluster = Cluster(a=ONE, b=TWO)
    cluster.replies = {ONE: [[DEAD]], TWO: [[DEAD]]}
    assert ask(cluster, job("a"), job("b")) == [DEAD, DEAD]
    assert cluster.looked == ["one:1"]


def test_while_the_nodes_do_not_agree_what_was_known_counts(waits: Waits) -> None:
    cluster = Cluster(a=ONE)
    cluster.after = [RedisClusterException("they do not agree")]
    cluster.replies = {ONE: [[DEAD]]}
    assert ask(cluster, job("a")) == [DEAD]
    assert (cluster.sent, cluster.looked) == ([(ONE, "a")], ["one:1"])


def test_a_slot_that_nobody_serves_is_looked_for(waits: Waits) -> None:
    cluster = Cluster(b=ONE)
    cluster.replies = {ONE: [[b"of b"]], TWO: [[b"of a"]]}
    replies = ask(cluster, job("a"), job("b"))
    assert (type(replies[0]), str(replies[0])) == (ClusterDownError, "Nobody serves the slot.")
    assert replies[1] == b"of b"
    assert cluster.looked == [None]

    cluster.after = [{"a": TWO}]
    assert ask(cluster, job("a")) == [b"of a"]
