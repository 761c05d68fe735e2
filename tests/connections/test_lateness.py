"""How long calls wait in a pipeline, and when that makes it doubt the server: on a server that a test plays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from math import inf
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections.pipelines import IN_FLIGHT, Pipeline, PooledServer
from mcp_sessions.connections.round_trips import Job, NoReply
from mcp_sessions.connections.server import NO_LIMIT, Taken
from mcp_sessions.connections.standalone import Pipelines
from mcp_sessions.store.calls import reading

#: For a call; of a timer that is late because the loop stood still, and until it comes again; until a refusal is slow.
SECONDS, STALL, GRACE, SLOW = 2.0, 0.25, 0.05, 0.1
REFUSED = NoReply(RedisConnectionError("refused"), sent=False)
LATE = NoReply(TimeoutError("late"), sent=True)
Replies = Callable[[], Awaitable[Any]]


class Server:
    """Replies to each command what `reply` gives, and notes what is sent."""

    name, seconds, together = "played", SECONDS, True

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.released = self.renewed = 0
        self.reply: Replies = self.hang

    async def hang(self) -> Any:
        await asyncio.Event().wait()

    def connection(self) -> "Server":
        return self

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        self.sent.append(len(commands))
        return [await self.reply() for _ in commands]

    async def release(self) -> None:
        self.released += 1

    async def probe(self) -> None:
        """It is there."""

    def renew(self) -> None:
        self.renewed += 1


class Clock:
    """The loop's, moved by hand."""

    ahead = 0.0

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time

    def __call__(self) -> float:
        return self._time() + self.ahead


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    loop = asyncio.get_running_loop()
    made = Clock(loop.time)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", made)
        yield made


@pytest.fixture
def server() -> Server:
    return Server()


def pipeline(server: Server, **options: int) -> tuple[Pipeline, mock.Mock]:
    breaker = mock.Mock(is_open=False)
    return Pipeline(server, breaker, in_flight=1, **options), breaker


def a_get() -> Job:
    return reading.GET, ["key"], ("now",)


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_call_has_so_many_seconds_from_its_submission_wherever_it_is(
    clock: Clock, server: Server
) -> None:
    used, breaker = pipeline(server)
    first = used.submit(a_get())
    await ticks()
    clock.ahead += SECONDS / 2
    second = used.submit(a_get())
    assert (server.sent, len(used)) == ([1], 1)

    clock.ahead += SECONDS / 2
    used._look(clock())
    assert (first.done(), second.done()) == (True, False)
    assert (str(first.result()), first.result().sent, first.result().is_late) == (
        "Redis did not answer within 2 s",
        True,
        True,
    )
    assert breaker.doubt.call_count == 1
    await ticks()
    assert (server.sent, len(used)) == ([1, 1], 0), "the connection is free for the next"

    clock.ahead += SECONDS / 2
    used._look(clock())
    assert str(second.result()) == "Redis did not answer within 2 s"
    await used.drain()
    assert server.released == 1
    used._look(clock())
    assert used._timer is None, "nothing is left to look for"


async def test_what_waits_for_a_connection_beyond_its_time_is_never_sent(
    clock: Clock, server: Server
) -> None:
    used, _ = pipeline(server)
    used.submit(a_get())
    await ticks()
    waiting = [used.submit(a_get()) for _ in range(3)]
    clock.ahead += SECONDS
    used._look(clock())
    assert [future.done() for future in waiting] == [True] * 3
    assert len(used) == 0
    await used.drain()
    assert server.sent == [1]


async def test_a_round_trip_that_goes_on_is_ended_again_after_a_second(clock: Clock, server: Server) -> None:
    async def goes_on() -> Any:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    server.reply = goes_on
    used, _ = pipeline(server)
    used.submit(a_get())
    await ticks()
    [trip] = used._trips
    for ahead, ended in ((SECONDS, 1), (0.9, 1), (0.1, 2)):
        clock.ahead += ahead
        used._look(clock())
        await ticks()
        assert trip.ended == ended
    assert used._trips == set()
    await used.drain()


async def test_a_loop_that_stood_still_reads_replies_before_it_gives_up(clock: Clock, server: Server) -> None:
    used, breaker = pipeline(server)
    future = used.submit(a_get())
    await ticks()
    clock.ahead += 10 * SECONDS
    before = clock()
    used._look(clock() - STALL - 0.01)
    assert not future.done()
    assert used._timer is not None
    assert before <= used._timer.when() - GRACE <= clock(), "it comes again soon"
    used._look(inf)
    assert future.done()
    assert breaker.doubt.call_count == 1
    await used.drain()

    other = used.submit(a_get())
    await ticks()
    clock.ahead += 10 * SECONDS
    used._look(clock() - STALL / 2)
    assert other.done(), "as late as any timer is"
    await used.drain()


@pytest.mark.parametrize(
    ("replies", "took", "doubts"),
    [
        ([REFUSED], 0.0, 0),
        ([REFUSED], SLOW + 0.01, 1),
        ([LATE], 0.0, 1),
        ([LATE, b"there"], SLOW + 0.01, 0),
        ([b"there", LATE], 0.0, 1),
    ],
)
async def test_who_got_no_reply_in_time_or_waited_for_a_refusal_doubts_the_server(
    clock: Clock, server: Server, replies: list[Any], took: float, doubts: int
) -> None:
    left = [*replies, *([REFUSED] * replies.count(REFUSED))]  # a refused call is tried again

    async def reply() -> Any:
        clock.ahead += took
        return left.pop(0)

    server.reply = reply
    used, breaker = pipeline(server)
    assert await asyncio.gather(*[used.submit(a_get()) for _ in replies]) == replies
    await used.drain()
    assert breaker.doubt.call_count == doubts


async def test_one_timer_serves_all_and_one_connection_follows_the_other(server: Server) -> None:
    async def reply() -> bytes:
        return b"there"

    server.reply = reply
    used, _ = pipeline(server, batch=2)
    futures = [used.submit(a_get())]
    timer = used._timer
    futures += [used.submit(a_get()) for _ in range(4)]
    assert used._timer is timer is not None
    assert await asyncio.gather(*futures) == [b"there"] * 5
    await used.drain()
    assert (server.sent, server.released, len(used._idle)) == ([2, 2, 1], 1, 1)


async def test_the_pipelines_to_a_server_give_up_together_and_renew_its_connections_afterwards(
    server: Server,
) -> None:
    made = Pipelines(server)
    assert made.by_name.keys() == IN_FLIGHT.keys()
    in_flight = [len(used._idle) for used in made.by_name.values()]
    assert in_flight == list(IN_FLIGHT.values()) == [1, 1, 2, 8, 1]
    futures = [used.submit(a_get()) for used in made.by_name.values()]
    made.breaker.is_open = True
    made.breaker._opened()
    assert [str((await each).cause) for each in futures] == ["Redis does not answer"] * len(futures)
    made.breaker._answered()
    assert server.renewed == 1
    await made.aclose()


async def test_a_server_that_is_left_gets_back_all_connections_that_are_kept() -> None:
    pool = mock.AsyncMock(connection_kwargs={"socket_timeout": 7}, max_connections=32)
    server = PooledServer(pool)
    server.kept = [Taken(name, inf, 0) for name in ("a", "b")]
    await server.give_back()
    assert [call.args for call in pool.release.await_args_list] == [("b",), ("a",)]
    assert (server.kept, server.seconds, server.keeps) == ([], 7, True)
    pool.connection_kwargs = {"socket_timeout": None}
    pool.max_connections = sum(IN_FLIGHT.values())
    assert (PooledServer(pool).seconds, PooledServer(pool).keeps) == (NO_LIMIT, False)
