"""Connections stay outside of redis-py's pool for a moment: calls that travel alone do not go through it each time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytest_django import Settings
from redis.asyncio import BlockingConnectionPool

from mcp_sessions.connections import pipelines
from mcp_sessions.connections.cluster import ClusterPipelines
from mcp_sessions.connections.round_trips import NoReply
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.keys import Keys
from tests.store.harness import Harness, a_fingerprint, gather, harness_on
from tests.support.caches import cluster_cache, standalone_cache
from tests.support.processes import HOST, wait_until
from tests.support.redis import RedisCluster, RedisServer

CALLS = 10


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, redis_server: RedisServer, settings: Settings
) -> AsyncIterator[Harness]:
    """A store whose pool has as few connections as it can work with."""
    pool = {"max_connections": getattr(request, "param", 32)}
    entry = {**standalone_cache(redis_server), "OPTIONS": {"CONNECTION_POOL_KWARGS": pool}}
    async with harness_on(entry, settings) as made:
        yield made


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were taken from the pool, each time."""
    made: list[Any] = []
    take = BlockingConnectionPool.get_connection

    async def counted(pool: BlockingConnectionPool, *names: Any) -> Any:
        made.append(connection := await take(pool, *names))  # type: ignore[no-untyped-call] # redis-py's own
        return connection

    monkeypatch.setattr(BlockingConnectionPool, "get_connection", counted)
    return made


async def apart(harness: Harness, fingerprint: str) -> None:
    """Calls that each travel alone, after the one before has given back its connection."""
    for _ in range(CALLS):
        assert await harness.touch(fingerprint) is not None
        await harness.settled()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_calls_apart_share_a_connection_without_the_pool(harness: Harness, taken: list[Any]) -> None:
    fingerprint = await harness.open()
    await apart(harness, fingerprint)
    taken.clear()
    await apart(harness, fingerprint)
    assert taken == []


async def test_a_connection_goes_through_the_pool_now_and_then(
    harness: Harness, taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "KEEP", 0.0)
    fingerprint = await harness.open()
    await apart(harness, fingerprint)
    taken.clear()
    await apart(harness, fingerprint)
    assert len(taken) >= CALLS


@pytest.mark.parametrize("harness", [1], indirect=True)
async def test_a_pool_of_one_connection_serves_every_pipeline(harness: Harness) -> None:
    opened = [await harness.open() for _ in range(CALLS)]
    for _ in range(3):
        found = await gather(*[harness.touch(each) for each in opened])
        assert None not in found
        await harness.settled()


async def test_calls_apart_on_a_cluster_share_the_connections_to_their_nodes(
    cluster: RedisCluster, settings: Settings, taken: list[Any]
) -> None:
    async with harness_on(cluster_cache(cluster), settings, kind="cluster") as harness:
        opened = [await harness.open() for _ in range(CALLS)]
        for fingerprint in opened:
            await apart(harness, fingerprint)
        taken.clear()
        for fingerprint in opened:
            await apart(harness, fingerprint)
        assert len(taken) < CALLS, "each connection comes from its pool once a second"


async def test_the_connections_to_a_node_that_left_a_cluster_are_closed(cluster: RedisCluster) -> None:
    """Here all nodes leave, because they get other addresses."""
    host = HOST
    nodes = ClusterNodes(
        [("localhost", cluster.nodes[0].port)],
        {"socket_timeout": 2, "max_connections": 32, "client_name": "leaving"},
        remap=lambda address: (host, address[1]),
    )
    pipelines = ClusterPipelines(nodes)
    keys = Keys("leaving", str)
    for _ in range(CALLS):
        call = sessions.get(a_fingerprint())
        job = call.script, keys.resolve(call.home, call.parts), ("", *call.arguments)
        assert await pipelines.by_name["others"].submit(job) is None
    assert idle_after_a_script(cluster) > 0

    host = "localhost"
    await nodes.refresh()

    await asyncio.to_thread(wait_until, lambda: idle_after_a_script(cluster) == 0, what="them to be closed")
    await pipelines.aclose()
    await nodes.aclose()


async def test_nobody_looks_out_for_a_node_that_left_a_cluster_while_it_did_not_answer(
    cluster: RedisCluster,
) -> None:
    """Pods get other addresses: those that are gone for good must not add up."""
    nodes = ClusterNodes([(HOST, cluster.nodes[0].port)], {"socket_timeout": 0.2, "max_connections": 32})
    pipelines = ClusterPipelines(nodes)
    call = sessions.get(a_fingerprint())
    job = call.script, Keys("leaving", str).resolve(call.home, call.parts), ("", *call.arguments)
    with socket.create_server((HOST, 0)) as deaf:
        address = deaf.getsockname()
        node = pipelines.of_node(address)
        assert isinstance(await node.by_name["others"].submit(job), NoReply)
        assert looking_out()

        await nodes.refresh()

        async with asyncio.timeout(5):
            while looking_out():
                await asyncio.sleep(0.01)
        assert pipelines.of_node(address) is not node
    await pipelines.aclose()
    await nodes.aclose()


def looking_out() -> bool:
    """Whether a breaker waits for its server."""
    return any("Breaker" in repr(task.get_coro()) for task in asyncio.all_tasks())


def idle_after_a_script(cluster: RedisCluster) -> int:
    """How many connections of the test have run a script last."""
    count = 0
    for node in cluster.nodes:
        with node.client(decode_responses=True) as client:
            mine = [each for each in client.client_list() if each["name"] == "leaving"]
        count += sum(each["cmd"].startswith("eval") for each in mine)
    return count
