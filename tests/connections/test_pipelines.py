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

from mcp_sessions.connections.pipelines import Pipeline, PooledConnection, PooledServer
from mcp_sessions.connections.round_trips import MOST_TOGETHER, Job, NoReply
from mcp_sessions.connections.standalone import Pipelines
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import reading, sessions, state
from mcp_sessions.store.clients import make_async_client
from mcp_sessions.store.keys import Keys
from tests.store.harness import LIMITS, a_fingerprint
from tests.support.redis import run_cluster

#: The record of an anonymous session that has long to live.
A_RECORD = b'1 1000 9999999999999 0 9999999999999 0 1 -a\nping\nanonymous\n["2025-11-25",{},{}]'


class Traffic:
    """Counts the pipelines that are sent, and holds them back while `gate` is closed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.under_way = self.most_under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._execute = PooledConnection.execute

    async def execute(self, connection: PooledConnection, commands: Any) -> Any:
        self.sizes.append(len(commands))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            return await self._execute(connection, commands)
        finally:
            self.under_way -= 1


@pytest.fixture
def traffic() -> Any:
    made = Traffic()

    async def execute(connection: PooledConnection, commands: Any) -> Any:
        return await made.execute(connection, commands)

    with mock.patch.object(PooledConnection, "execute", execute):
        yield made


@pytest.fixture
async def client(redis_caches: Any) -> AsyncIterator[Any]:
    """A client of a server that knows the scripts."""
    made: Any = make_async_client("default")
    for script in (sessions.TOUCH, reading.GET):
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
        await client.script_load(sessions.TOUCH.text)
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


async def test_what_must_happen_once_is_never_sent_twice(client: Any) -> None:
    """An increment that was sent again would count twice."""
    used = pipeline(client, in_flight=1)
    incr = state.incr(a_fingerprint(), "count", 1, max_bytes=100)
    with mock.patch.object(PooledConnection, "execute", breaking(times=1)):
        assert isinstance(await used.submit(job_of(incr)), NoReply)


async def test_a_programming_error_is_raised_to_its_caller_and_the_pipeline_goes_on(client: Any) -> None:
    used = pipeline(client, in_flight=1)

    with pytest.raises(TypeError):
        await used.submit((sessions.TOUCH, ["key"], (object(),)))

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
    pipelines = Pipelines(PooledServer(client.connection_pool))

    async def call() -> "weakref.ref[Exchange]":
        exchange = Exchange()
        current.set(exchange)
        await asyncio.gather(*(pipelines.by_name[name].submit(a_get()) for name in pipelines.by_name))
        return weakref.ref(exchange)

    exchange = await asyncio.create_task(call())
    await asyncio.sleep(0)  # until then the loop holds the task, with its context
    gc.collect()

    assert exchange() is None
    await pipelines.aclose()


class Exchange:
    """What the context of a caller has in it."""


current: ContextVar[Exchange] = ContextVar("current")
