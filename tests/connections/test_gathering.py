"""On a Cluster, each node gets only a part of the calls that come together: its round trip waits for more of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_sessions.conf import Endpoint
from mcp_sessions.conf.rates import limits_of
from mcp_sessions.connections.cluster import MOST_TICKS, ClusterPipelines
from mcp_sessions.connections.round_trips import Gathering, Job
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import rates, reading, sessions
from mcp_sessions.store.keys import Keys
from tests.connections.traffic import Traffic
from tests.store.harness import a_fingerprint
from tests.support.processes import HOST
from tests.support.redis import RedisCluster

KEYS = Keys("gathering", str)
#: Ticks from the submission of a call that comes alone until it leaves.
TICKS = 2


@pytest.fixture
async def pipelines(cluster: RedisCluster) -> AsyncIterator[ClusterPipelines]:
    """Those of a process that knows the nodes, and has connections to them."""
    options = {"socket_timeout": 2, "max_connections": 32}
    nodes = ClusterNodes([(HOST, node.port) for node in cluster.nodes], options)
    made = ClusterPipelines(nodes)
    await asyncio.gather(*[made.by_name["others"].submit(a_get()) for _ in range(20)])
    yield made
    await made.aclose()
    await nodes.aclose()


def a_get() -> Job:
    call = sessions.get(a_fingerprint())
    return call.script, KEYS.resolve(call.home, call.parts), ("", *call.arguments)


async def two_nodes(pipelines: ClusterPipelines) -> tuple[Job, Job]:
    """Calls for two of them."""
    first = a_get()
    address = await pipelines.nodes.address_of(first[1][0])
    while True:
        second = a_get()
        if await pipelines.nodes.address_of(second[1][0]) != address:
            return first, second


async def test_calls_of_one_tick_after_the_other_share_the_round_trips_to_their_nodes(
    pipelines: ClusterPipelines, traffic: Traffic
) -> None:
    one, other = await two_nodes(pipelines)
    futures: list[asyncio.Future[Any]] = []
    for job in (one, other, one, one):
        futures.append(pipelines.by_name["others"].submit(job))
        await asyncio.sleep(0)

    assert await asyncio.gather(*futures) == [None] * 4
    assert sorted(traffic.sizes) == [1, 3]


async def test_a_call_that_comes_alone_does_not_wait_for_others(
    pipelines: ClusterPipelines, traffic: Traffic
) -> None:
    one, _ = await two_nodes(pipelines)
    future = pipelines.by_name["others"].submit(one)
    for _ in range(TICKS):
        await asyncio.sleep(0)
    assert traffic.sizes == [1]
    await future


async def test_a_call_does_not_wait_for_ever_while_others_come(
    pipelines: ClusterPipelines, traffic: Traffic
) -> None:
    one, other = await two_nodes(pipelines)
    futures = [pipelines.by_name["others"].submit(one)]
    ticks = 0
    while not traffic.sizes:
        ticks += 1
        futures.append(pipelines.by_name["others"].submit(other))
        await asyncio.sleep(0)

    assert ticks <= MOST_TICKS + TICKS
    await asyncio.gather(*futures)


def test_calls_of_two_scripts_share_a_round_trip_and_each_gets_its_own_reply() -> None:
    """As the touches of sessions do with the tokens that their requests take."""
    limits = limits_of({"requests per principal": "1/s"})
    jobs: list[Job] = []
    for n in range(3):
        wanted = rates.buckets(limits, ("requests",), rates.Who(f"user:{n}"), shards=1)
        jobs += [
            (call.script, KEYS.resolve(call.home, call.parts), ("", *call.arguments))
            for call in (a_touch(), *rates.spend(wanted))
        ]
    steps = Gathering(together=True).round_trips(jobs)
    commands = next(steps)
    assert [command[1] for command in commands] == [reading.TOUCH.sha, rates.SPEND.sha]
    with pytest.raises(StopIteration) as done:
        steps.send([["a", "b", "c"], [0, [1, 5], 0]])
    assert done.value.value == ["a", 0, "b", [1, 5], "c", 0]


def a_touch() -> Call[Any]:
    limits = Endpoint(alias="default", server="x.y").limits
    return sessions.touch(a_fingerprint(), principal="user:1", limits=limits)
