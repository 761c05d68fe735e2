"""How calls share round trips: what is submitted within two ticks goes together; a few pipelines are under way."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from mcp_sessions.connections import pipelines
from mcp_sessions.connections.pipelines import Pipeline, PooledConnection, PooledServer
from mcp_sessions.connections.round_trips import MOST_TOGETHER, Job, NoReply
from mcp_sessions.connections.standalone import Pipelines
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import reading, sessions, state
from mcp_sessions.store.clients import make_async_client
from mcp_sessions.store.keys import Keys
from tests.connections.traffic import Traffic
from tests.store.harness import LIMITS, a_fingerprint
from tests.support.redis import run_cluster

#: The record of an anonymous session that has long to live.
A_RECORD = b'1 1000 9999999999999 0 9999999999999 0 1 -a\nping\nanonymous\n["2025-11-25",{},{}]'


@pytest.fixture
async def client(redis_caches: Any) -> AsyncIterator[Any]:
    """A client of a server that knows the scripts."""
    made: Any = make_async_client("default")
    for script in (reading.TOUCH, reading.GET):
        await made.script_load(script.text)
    yield made
    await made.aclose()


KEYS = Keys("pipelines", str)


def job_of(call: Call[Any]) -> Job:
    return call.script, KEYS.resolve(call.home, call.parts), ("", *call.arguments)


def a_get() -> Job:
    return job_of(sessions.get(a_fingerprint()))


def a_touch() -> Job:
    return job_of(sessions.touch(a_fingerprint(), principal=ANONYMOUS, limits=LIMITS, call="ping"))


def pipeline(client: Any, **options: int) -> Pipeline:
    server = PooledServer(client.connection_pool)
    return Pipeline(server, Pipelines(server).breaker, **options)


async def test_what_is_submitted_in_two_ticks_shares_a_round_trip(client: Any, traffic: Traffic) -> None:
    used = pipeline(client, in_flight=2)
    futures = [used.submit(a_get()) for _ in range(20)]
    await asyncio.sleep(0)
    futures += [used.submit(a_get()) for _ in range(30)]

    assert await asyncio.gather(*futures) == [None] * 50
    assert traffic.sizes == [50]


async def test_a_few_pipelines_are_under_way_and_the_rest_waits_for_them(
    client: Any, traffic: Traffic
) -> None:
    used = pipeline(client, in_flight=2)
    traffic.gate.clear()
    futures = []
    for _ in range(10):
        futures += [used.submit(a_get()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert (traffic.sizes, len(used)) == ([3, 3], 24)
    traffic.gate.set()
    await asyncio.gather(*futures)

    assert traffic.sizes == [3, 3, 24]
    assert traffic.most_under_way == 2
    assert len(used) == 0


async def test_a_pipeline_has_a_bound(client: Any, traffic: Traffic) -> None:
    used = pipeline(client, in_flight=1, batch=4)

    await asyncio.gather(*[used.submit(a_get()) for _ in range(10)])

    assert traffic.sizes == [4, 4, 2]
    assert traffic.most_under_way == 1


async def test_a_script_that_takes_many_runs_once_for_all_of_a_round_trip(
    client: Any, traffic: Traffic
) -> None:
    used = pipeline(client, in_flight=1)
    count = 2 * MOST_TOGETHER + 1

    replies = await asyncio.gather(*[used.submit(a_touch()) for _ in range(count)])

    assert replies == [None] * count
    assert traffic.sizes == [3]


async def test_where_keys_are_on_several_servers_each_call_is_sent_alone(
    settings: Any, traffic: Traffic
) -> None:
    """As behind a proxy for several Redis servers, which the client takes for one; a Cluster's node answers alike."""
    with run_cluster(1) as cluster:
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": cluster.url}}
        client: Any = make_async_client("default")
        await client.script_load(reading.TOUCH.text)
        used = pipeline(client, in_flight=1)

        for _ in range(2):
            replies = await asyncio.gather(*[used.submit(a_touch()) for _ in range(5)])
            assert replies == [None] * 5

        assert traffic.sizes == [1, 5, 5], "refused together, then never tried again"
        await client.aclose()


async def test_a_run_that_fails_is_repeated_call_by_call(client: Any, traffic: Traffic) -> None:
    """Only the call that is wrong gets the error."""
    used = pipeline(client, in_flight=1)
    script, keys, (now, principal, _, *rest) = a_touch()
    wrong = script, keys, (now, principal, "no number", *rest)
    await client.set(keys[0], A_RECORD, px=60_000)

    futures = [used.submit(each) for each in (a_touch(), wrong, a_touch())]
    first, second, third = await asyncio.gather(*futures)

    assert (first, third) == (None, None)
    assert isinstance(second, ResponseError)
    assert traffic.sizes == [1, 3]
    await asyncio.gather(*[used.submit(a_touch()) for _ in range(5)])
    assert traffic.sizes == [1, 3, 1], "and the next ones travel together again"


async def test_draining_waits_for_everything(client: Any, traffic: Traffic) -> None:
    used = pipeline(client, in_flight=1, batch=2)
    futures = [used.submit(a_touch()) for _ in range(5)]

    await used.drain()

    assert all(future.done() for future in futures)
    await used.drain()


async def test_a_connection_that_breaks_once_is_not_noticed_by_what_may_be_repeated(client: Any) -> None:
    used = pipeline(client, in_flight=1)
    with mock.patch.object(PooledConnection, "execute", breaking(times=1)):
        assert await used.submit(a_touch()) is None


async def test_a_connection_that_breaks_twice_is_unavailable(client: Any) -> None:
    used = pipeline(client, in_flight=1)
    with mock.patch.object(PooledConnection, "execute", breaking(times=2)):
        assert isinstance(await used.submit(a_touch()), NoReply)
    assert await used.submit(a_touch()) is None


async def test_a_round_trip_that_goes_on_beyond_its_time_is_ended_again(client: Any) -> None:
    """asyncio.wait_for, with which redis-py sends, may swallow it the first time."""
    ended = 0

    async def goes_on(connection: PooledConnection, commands: Any) -> Any:
        nonlocal ended
        while ended < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended += 1
        raise asyncio.CancelledError

    server = PooledServer(client.connection_pool)
    server.seconds = 0.1
    used = Pipeline(server, Pipelines(server).breaker, in_flight=1)
    with mock.patch.object(PooledConnection, "execute", goes_on):
        reply = await used.submit(a_touch())
        async with asyncio.timeout(10):
            await used.drain()

    assert isinstance(reply, NoReply)
    assert reply.is_late
    server.seconds = 2.0
    assert await pipeline(client, in_flight=1).submit(a_touch()) is None


async def test_what_must_happen_once_is_never_sent_twice(client: Any) -> None:
    """An increment that was sent again would count twice."""
    used = pipeline(client, in_flight=1)
    incr = state.incr(a_fingerprint(), "count", 1, max_bytes=100)
    with mock.patch.object(PooledConnection, "execute", breaking(times=1)):
        assert isinstance(await used.submit(job_of(incr)), NoReply)


async def test_a_programming_error_is_raised_to_its_caller_and_the_pipeline_goes_on(client: Any) -> None:
    used = pipeline(client, in_flight=1)

    with pytest.raises(TypeError):
        await used.submit((reading.TOUCH, ["key"], (object(),)))

    assert await used.submit(a_touch()) is None


async def test_no_caller_is_left_waiting_when_the_loop_shuts_down(client: Any, traffic: Traffic) -> None:
    used = pipeline(client, in_flight=1, batch=1)
    traffic.gate.clear()
    futures = [used.submit(a_touch()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [worker] = used._workers

    worker.cancel()
    await asyncio.wait(futures)

    assert all(future.cancelled() for future in futures)
    assert len(used) == 0


async def test_a_loop_that_shuts_down_at_the_moment_when_redis_is_late_ends_the_round_trip(
    client: Any, traffic: Traffic
) -> None:
    used = pipeline(client, in_flight=1)
    traffic.gate.clear()
    future = used.submit(a_touch())
    while not used._trips:
        await asyncio.sleep(0)
    [trip], [worker] = used._trips, used._workers

    trip.end()
    worker.cancel()
    await asyncio.wait([worker])

    assert worker.cancelled()
    assert future.cancelled()


async def test_those_on_their_way_and_those_that_wait_learn_why_there_is_no_reply(
    client: Any, traffic: Traffic
) -> None:
    used = pipeline(client, in_flight=1, batch=1)
    traffic.gate.clear()
    futures = [used.submit(a_touch()) for _ in range(2)]
    while not used._trips:
        await asyncio.sleep(0)
    [worker] = used._workers

    with mock.patch.object(used._breaker, "is_open", new=True):
        used.give_up()
        await asyncio.wait([*futures, worker])

    assert [str(future.result()) for future in futures] == ["Redis does not answer"] * 2
    assert not worker.cancelled()
    assert not worker.cancelling()


async def test_who_finds_the_queue_full_learns_that(client: Any) -> None:
    with mock.patch.object(pipelines, "MOST_WAITING", 0):
        reply = await pipeline(client, in_flight=1).submit(a_touch())
    assert str(reply) == "too many calls wait for Redis"


async def test_a_caller_that_stops_waiting_stops_no_other(client: Any, traffic: Traffic) -> None:
    used = pipeline(client, in_flight=1)
    traffic.gate.clear()
    first, second = (used.submit(a_touch()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    traffic.gate.set()

    assert await second is None
    assert first.cancelled()


async def test_a_programming_error_is_not_raised_to_a_caller_that_stopped_waiting(client: Any) -> None:
    async def fails(connection: PooledConnection, commands: Any) -> Any:
        first.cancel()
        raise TypeError

    used = pipeline(client, in_flight=1)
    with mock.patch.object(PooledConnection, "execute", fails):
        first, second = (used.submit(a_touch()) for _ in range(2))
        with pytest.raises(TypeError):
            await second
    assert first.cancelled()


def breaking(*, times: int) -> Any:
    """An `execute` whose connection breaks so many times."""
    left = [times]
    execute = PooledConnection.execute

    async def broken(connection: PooledConnection, commands: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return [NoReply(RedisConnectionError("broken"), sent=True)] * len(commands)
        return await execute(connection, commands)

    return broken


async def test_an_open_connection_does_not_keep_what_its_first_caller_had_in_its_context(client: Any) -> None:
    used = Pipelines(PooledServer(client.connection_pool))

    async def call() -> "weakref.ref[Exchange]":
        exchange = Exchange()
        current.set(exchange)
        await asyncio.gather(*(used.by_name[name].submit(a_get()) for name in used.by_name))
        return weakref.ref(exchange)

    exchange = await asyncio.create_task(call())
    await asyncio.sleep(0)  # until then the loop holds the task, with its context
    gc.collect()

    assert exchange() is None
    await used.aclose()


class Exchange:
    """What the context of a caller has in it."""


current: ContextVar[Exchange] = ContextVar("current")
