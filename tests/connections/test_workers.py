"""What takes the calls of a pipeline to Redis: when it starts, what it leaves, and who learns what."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections import pipelines
from mcp_sessions.connections.pipelines import Pipeline, PooledServer
from mcp_sessions.connections.round_trips import NoReply
from tests.connections.test_lateness import SECONDS, SLOW, STALL, Server, a_get, ticks

REFUSED = NoReply(RedisConnectionError("refused"), sent=False)


class Gated(Server):
    """Replies, and takes connections back, when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_reply, self.may_release = asyncio.Event(), asyncio.Event()
        self.may_release.set()

    async def reply_later(self) -> bytes:
        await self.may_reply.wait()
        return b"there"

    async def release(self) -> None:
        await self.may_release.wait()
        await super().release()


@pytest.fixture
async def server() -> Gated:
    made = Gated()
    made.reply = made.reply_later
    return made


class Clock:
    """The loop's, which stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "time", made := Clock())
        yield made


def pipeline(server: Server, in_flight: int = 1) -> Pipeline:
    return Pipeline(server, mock.Mock(is_open=False), in_flight=in_flight)


async def test_calls_of_one_moment_go_together_and_the_next_beside_them(server: Gated) -> None:
    used = pipeline(server, in_flight=2)
    futures = [used.submit(a_get()) for _ in range(3)]
    await ticks()
    futures += [used.submit(a_get()) for _ in range(2)]
    await ticks()
    assert server.sent == [3, 2]
    server.may_reply.set()
    assert await asyncio.gather(*futures) == [b"there"] * 5
    await used.drain()
    assert (len(used._idle), used._starting, server.released) == (2, False, 2)


async def test_what_comes_while_a_connection_is_given_back_is_taken_to_redis_afterwards(
    server: Gated,
) -> None:
    used = pipeline(server)
    server.may_reply.set()
    server.may_release.clear()
    assert await used.submit(a_get()) == b"there"
    await ticks()
    late = used.submit(a_get())
    await ticks()
    assert (server.sent, len(used)) == ([1], 1)
    server.may_release.set()
    async with asyncio.timeout(10):
        assert await late == b"there"


async def test_a_loop_that_shuts_down_before_a_call_has_left_cancels_it_and_no_later_one(
    server: Gated,
) -> None:
    used = pipeline(server)
    future = used.submit(a_get())
    [worker] = used._workers
    worker.cancel()
    await asyncio.wait([worker, future])
    assert (future.cancelled(), len(used), server.sent) == (True, 0, [])
    server.may_reply.set()
    async with asyncio.timeout(10):
        assert await used.submit(a_get()) == b"there"


async def test_a_caller_that_stops_waiting_keeps_no_reply_from_another(server: Gated) -> None:
    used = pipeline(server)
    futures = [used.submit(a_get()) for _ in range(3)]
    await ticks()
    [worker] = used._workers
    futures[0].cancel()
    server.may_reply.set()
    await used.drain()
    assert [future.done() and not future.cancelled() for future in futures] == [False, True, True]
    assert worker.exception() is None


async def test_a_loop_that_shuts_down_as_redis_is_late_cancels_its_callers(server: Gated) -> None:
    used = pipeline(server)
    futures = [used.submit(a_get())]
    await ticks()
    futures.append(used.submit(a_get()))
    [trip], [worker] = used._trips, used._workers
    trip.end()
    worker.cancel()
    await asyncio.wait([worker])
    assert worker.cancelled()
    assert [future.cancelled() for future in futures] == [True, True]
    assert used._trips == set()


async def test_a_programming_error_is_raised_to_who_still_waits_and_nothing_else_ends(server: Gated) -> None:
    async def fail() -> Any:
        await server.may_reply.wait()
        raise TypeError("ours")

    server.reply = fail
    used = pipeline(server)
    gone, waits = (used.submit(a_get()) for _ in range(2))
    await ticks()
    gone.cancel()
    [worker] = used._workers
    server.may_reply.set()
    with pytest.raises(TypeError, match="ours"):
        await waits
    await used.drain()
    assert worker.exception() is None
    server.reply = server.reply_later
    assert await used.submit(a_get()) == b"there"


@pytest.mark.parametrize("over", [0.0, 1.0])
async def test_a_call_whose_time_is_over_before_it_leaves_has_a_moment(
    clock: Clock, server: Gated, over: float
) -> None:
    """The loop stood still: the reply may come at once."""
    deadlines: list[float] = []

    async def reply() -> bytes:
        deadlines.extend(trip.deadline for trip in used._trips)
        return await server.reply_later()

    server.reply = reply
    used = pipeline(server)
    futures = [used.submit(a_get())]
    await ticks()
    futures.append(used.submit(a_get()))
    assert used._timer is not None
    used._timer.cancel()  # it has not been looked at yet
    clock.now = SECONDS + over
    server.may_reply.set()
    assert await asyncio.gather(*futures) == [b"there"] * 2
    assert deadlines == [SECONDS, clock.now + STALL]


async def test_the_newest_call_decides_how_long_a_round_trip_may_take(clock: Clock, server: Gated) -> None:
    used = pipeline(server)
    futures = [used.submit(a_get())]
    clock.now = 1.0
    futures.append(used.submit(a_get()))
    await ticks()
    [trip] = used._trips
    assert trip.deadline == 1 + SECONDS
    server.may_reply.set()
    await asyncio.gather(*futures)


async def test_of_those_that_wait_only_the_late_ones_are_not_sent_any_more(
    clock: Clock, server: Gated
) -> None:
    used = pipeline(server)
    futures = [used.submit(a_get())]
    await ticks()
    futures.append(used.submit(a_get()))
    clock.now = 1.0
    futures.append(used.submit(a_get()))
    clock.now = SECONDS
    used._look(SECONDS)
    assert ([future.done() for future in futures], len(used)) == ([True, True, False], 1)
    server.may_reply.set()
    assert await futures[2] == b"there"
    assert server.sent == [1, 1]


@pytest.mark.parametrize(("took", "doubts"), [(SLOW / 2, 0), (SLOW, 1)])
async def test_a_refusal_is_slow_if_it_takes_longer(
    clock: Clock, server: Gated, took: float, doubts: int
) -> None:
    async def refuse() -> NoReply:
        clock.now += took  # and once more, because it is sent again
        return REFUSED

    server.reply = refuse
    breaker = mock.Mock(is_open=False)
    used = Pipeline(server, breaker, in_flight=1)
    assert await used.submit(a_get()) is REFUSED
    await used.drain()
    assert breaker.doubt.call_count == doubts


async def test_what_is_refused_or_given_up_before_it_left_has_not_been_sent(
    monkeypatch: pytest.MonkeyPatch, server: Gated
) -> None:
    breaker = mock.Mock(is_open=False)
    used = Pipeline(server, breaker, in_flight=1)
    under_way = used.submit(a_get())
    await ticks()
    waits = used.submit(a_get())
    with monkeypatch.context() as patched:
        patched.setattr(pipelines, "MOST_WAITING", 1)
        one_too_many = used.submit(a_get())
    breaker.is_open = True
    refused = used.submit(a_get())
    used.give_up()
    assert (len(used), under_way.done()) == (0, True)
    replies = [future.result() for future in (one_too_many, refused, waits)]
    assert [str(reply) for reply in replies] == [
        "too many calls wait for Redis",
        "Redis does not answer",
        "Redis does not answer",
    ]
    assert [(reply.is_late, reply.sent) for reply in replies] == [(True, False)] * 3
    await used.drain()
    assert server.sent == [1]


def test_a_server_with_a_pool_has_all_keys_in_one_place() -> None:
    assert PooledServer(mock.Mock(connection_kwargs={"socket_timeout": 1}, max_connections=32)).together
