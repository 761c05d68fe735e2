"""Calls on a Cluster follow redirections, in the time that they have: with nodes that a test plays."""

import asyncio
from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Any
from unittest import mock

import pytest
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections.cluster import NodePipeline, SlotPipeline
from mcp_sessions.connections.pipelines import Pipeline
from mcp_sessions.connections.round_trips import Job, NoReply
from mcp_sessions.connections.server import NO_LIMIT
from mcp_sessions.connections.topology import Address
from mcp_sessions.store.calls import reading

ONE, TWO, THREE = ("one", 1), ("two", 2), ("three", 3)
KEY = "a key"
SLOT = key_slot(KEY.encode())
JOB: Job = (reading.GET, [KEY, "another key"], ("now",))
#: Seconds until a call is sent again, and that one gets at least that is redirected.
TRY_AGAIN, STALL = 0.05, 0.25
NOW = 1_000.0


class Nodes:
    """What is known of the nodes, and told."""

    def __init__(self) -> None:
        self.slots: list[Address | None] = [ONE] * 16_384
        self.options: dict[str, Any] = {"socket_timeout": 2.0}
        self.address_of = mock.AsyncMock(return_value=TWO)
        self.told: list[tuple[int, Address]] = []
        self.refresh = mock.Mock()

    def redirected(self, error: AskError, asked: Address) -> Address:
        return error.node_addr[0] or asked[0], error.node_addr[1]

    def moved(self, slot: int, address: Address) -> None:
        self.told.append((slot, address))


class Cluster:
    """Nodes whose pipelines give one reply after the other; None: nothing, for ever."""

    def __init__(self, **replies: list[Any]) -> None:
        self.nodes = Nodes()
        self.replies = replies
        #: Who was asked; with an exclamation mark, on purpose.
        self.asked: list[str] = []
        self.opened: list[Address] = []
        self.drained: list[Address] = []

    def of_node(self, address: Address) -> Any:
        self.opened.append(address)
        pipeline = mock.Mock(submit=lambda job: self.submit(address, job))
        pipeline.drain = mock.AsyncMock(side_effect=lambda: self.drained.append(address))
        return mock.Mock(by_name={"others": pipeline})

    def submit(self, address: Address, job: Job) -> "asyncio.Future[Any]":
        assert job is JOB
        self.asked.append(address[0])
        future = asyncio.get_running_loop().create_future()
        if (reply := self.replies[address[0]].pop(0)) is not None:
            future.set_result(reply)
        return future


class Slots(SlotPipeline):
    """Those of such a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "others")  # type: ignore[arg-type]
        self.cluster = cluster

    async def _ask(self, job: Job, address: Address) -> Any:
        self.cluster.asked.append(f"{address[0]}!")
        return self.cluster.replies[address[0]].pop(0)

    async def followed_to(
        self, error: ResponseError | None, asked: Address | None, *, deadline: float = inf
    ) -> Any:
        """The reply to a call that was redirected."""
        future = asyncio.get_running_loop().create_future()
        self.follow((JOB, future, deadline), error, asked)
        [task] = self._following
        await self.drain()
        assert task.exception() is None
        assert (self.followed, self._following) == (set(), set())
        return await future


def moved(host: str, port: int) -> MovedError:
    return MovedError(f"{SLOT} {host}:{port}")


def asks(host: str, port: int) -> AskError:
    return AskError(f"{SLOT} {host}:{port}")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def sleeps(seconds: float) -> None:
        made.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleeps)
    return made


@pytest.fixture
async def until(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """Until when calls may take; they take no time. The clock stands still."""
    made: list[float] = []
    timeout_at = asyncio.timeout_at

    def limit(when: float) -> asyncio.Timeout:
        made.append(when)
        return timeout_at(NOW)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "timeout_at", limit)
        patched.setattr(asyncio.get_running_loop(), "time", lambda: NOW)
        yield made


async def test_a_call_goes_to_the_node_of_its_first_key_until_that_node_has_left() -> None:
    cluster = Cluster(one=[b"first", b"second", b"third"])
    cluster.nodes.slots = [TWO] * 16_384
    cluster.nodes.slots[SLOT] = ONE
    used = Slots(cluster)
    assert [await used.submit(JOB) for _ in range(2)] == [b"first", b"second"]
    assert (used.submitted, cluster.opened) == (2, [ONE])
    used.forget(TWO)
    used.forget(ONE)
    assert await used.submit(JOB) == b"third"
    assert (used.submitted, cluster.opened) == (3, [ONE, ONE])
    await used.drain()
    assert cluster.drained == [ONE]
    cluster.nodes.address_of.assert_not_called()


@pytest.mark.parametrize("slots", [[], [None] * 16_384])
async def test_who_serves_a_slot_is_looked_for_if_nobody_knows(slots: list[Address | None]) -> None:
    cluster = Cluster(two=[b"found", b"again"])
    cluster.nodes.slots = slots
    used = Slots(cluster)
    assert [await used.submit(JOB) for _ in range(2)] == [b"found", b"again"]
    assert cluster.nodes.address_of.await_args_list == [mock.call(KEY)] * 2
    assert (used.submitted, cluster.opened, cluster.nodes.told) == (2, [TWO], [])
    cluster.nodes.address_of.side_effect = error = RedisConnectionError("nobody")
    reply = await used.submit(JOB)
    assert (reply.cause, reply.sent) == (error, False)


@pytest.mark.parametrize(("seconds", "most"), [(2.0, 2.0), (None, NO_LIMIT)])
async def test_a_call_that_nobody_can_place_has_as_long_as_any(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, most: float
) -> None:
    cluster = Cluster()
    cluster.nodes.slots, cluster.nodes.options = [], {"socket_timeout": seconds}
    used = Slots(cluster)
    follow = mock.Mock()
    monkeypatch.setattr(used, "follow", follow)
    monkeypatch.setattr(used, "_loop", mock.Mock(time=lambda: NOW))
    future = used.submit(JOB)
    follow.assert_called_once_with((JOB, future, NOW + most), None, None)


async def test_a_call_goes_to_where_its_slot_is_now_and_later_ones_do_too(slept: list[float]) -> None:
    cluster = Cluster(two=[moved("", 3)])
    cluster.replies["two"].append(b"found")
    assert await Slots(cluster).followed_to(moved("two", 2), ONE) == b"found"
    assert cluster.opened == [TWO, ("two", 3)], "a node without a host means its own"
    assert cluster.nodes.told == [(SLOT, TWO), (SLOT, ("two", 3))]
    assert slept == []


async def test_a_call_that_is_sent_around_pauses_between_two_redirections(slept: list[float]) -> None:
    cluster = Cluster(two=[moved("one", 1), b"found"], one=[moved("two", 2)])
    assert await Slots(cluster).followed_to(moved("two", 2), ONE) == b"found"
    assert cluster.asked == ["two", "one", "two"]
    assert slept == [TRY_AGAIN]


async def test_keys_on_their_way_are_asked_for_where_they_go_and_then_where_they_were(
    slept: list[float],
) -> None:
    cluster = Cluster(two=[TryAgainError("?")], one=[TryAgainError("?"), asks("three", 3)], three=[b"found"])
    assert await Slots(cluster).followed_to(asks("two", 2), ONE) == b"found"
    assert cluster.asked == ["two!", "one", "one", "three!"]
    assert cluster.nodes.told == [], "for good, they are where they were"
    assert slept == [TRY_AGAIN] * 3


@pytest.mark.parametrize("reply", [ResponseError("wrong"), NoReply(TimeoutError("late"), sent=True), b"x"])
async def test_any_other_reply_is_that_of_the_call(reply: Any, slept: list[float]) -> None:
    cluster = Cluster(two=[reply])
    assert await Slots(cluster).followed_to(moved("two", 2), ONE) is reply
    assert slept == []


@pytest.mark.parametrize(("deadline", "limit"), [(NOW + 1, NOW + 1), (NOW - 1, NOW + STALL)])
async def test_a_redirected_call_has_the_time_that_it_had_and_a_moment_at_least(
    until: list[float], deadline: float, limit: float
) -> None:
    reply = await Slots(Cluster(two=[None])).followed_to(moved("two", 2), ONE, deadline=deadline)
    assert until == [limit]
    assert (reply.is_late, reply.sent) == (True, False)


async def test_a_caller_that_stops_waiting_and_a_loop_that_ends_leave_nothing() -> None:
    cluster = Cluster(two=[None, None])
    used = Slots(cluster)
    future = asyncio.get_running_loop().create_future()
    used.follow((JOB, future, inf), moved("two", 2), ONE)
    [task] = used._following
    while not used.followed:
        await asyncio.sleep(0)
    [asked] = used.followed
    future.cancel()
    asked.set_result(b"too late")
    await used.drain()
    assert task.exception() is None

    future = asyncio.get_running_loop().create_future()
    used.follow((JOB, future, inf), moved("two", 2), ONE)
    [task] = used._following
    while not used.followed:
        await asyncio.sleep(0)
    task.cancel()
    await used.drain()
    assert (task.cancelled(), future.cancelled(), used.followed) == (True, True, set())


def node_pipeline() -> tuple[NodePipeline, mock.Mock]:
    slots = mock.Mock(followed=set())
    server = mock.Mock(seconds=2.0, together=False)
    return NodePipeline(slots, ONE, server, mock.Mock(is_open=False), in_flight=1), slots


@pytest.mark.parametrize(
    ("reply", "follows", "looks"),
    [
        (moved("two", 2), True, False),
        (asks("two", 2), True, False),
        (TryAgainError("?"), True, False),
        (ClusterDownError("down"), False, True),
        (NoReply(TimeoutError("late"), sent=True), False, True),
        (ResponseError("wrong"), False, False),
    ],
)
async def test_a_node_has_its_redirections_followed_and_who_serves_what_looked_at_if_it_fails(
    reply: Exception, follows: bool, looks: bool
) -> None:
    used, slots = node_pipeline()
    waiting = JOB, asyncio.get_running_loop().create_future(), inf
    assert used._follows(waiting, reply) == follows
    assert slots.follow.mock_calls == ([mock.call(waiting, reply, ONE)] if follows else [])
    assert slots.nodes.refresh.call_count == looks
    slots.followed.add(waiting[1])
    assert not used._follows(waiting, reply), "somebody does so already"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(NodePipeline._late, "did not answer within 2 s"), (NodePipeline._refusal, "too many calls")],
)
async def test_a_node_that_is_late_or_refuses_has_who_serves_what_looked_at(
    refusal: Callable[[Pipeline], NoReply], reason: str
) -> None:
    used, slots = node_pipeline()
    assert reason in str(refusal(used))
    slots.nodes.refresh.assert_called_once_with()


@pytest.mark.parametrize(("grows", "waits"), [(0, 1), (2, 3), (9, 4)])
async def test_a_round_trip_to_a_node_waits_while_each_tick_brings_calls_and_not_for_ever(
    grows: int, waits: int
) -> None:
    used, slots = node_pipeline()
    slots.submitted = ticks = 0
    for ticks, _ in enumerate(used._gather().__await__(), 1):
        slots.submitted += ticks <= grows
    assert ticks == waits
