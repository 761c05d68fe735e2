"""On a Cluster: where the keys of a session are, slots that move, and nodes that hang or are down."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from pytest_django import Settings

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import indexes, nodes, queries, sessions
from mcp_sessions.store.calls.queries import Query
from tests.connections.waiting import eventually
from tests.store.harness import CLAUDE, Harness, a_fingerprint, harness_on
from tests.support.caches import BACKEND, cluster_cache, with_timeouts
from tests.support.redis import RedisCluster, run_cluster


@pytest.fixture
async def harness(cluster: RedisCluster, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(cluster_cache(cluster), settings, kind="cluster") as made:
        yield made


async def test_sessions_spread_over_the_nodes_of_a_cluster_and_one_page_shows_all(
    cluster: RedisCluster, harness: Harness
) -> None:
    opened = await asyncio.gather(*[harness.open() for _ in range(30)])
    await harness.settled()

    holders = []
    for node in cluster.nodes:
        with node.client() as client:
            holders.append({key for key in client.scan_iter("*:session") if key.decode()[-73:-9] in opened})
    assert sum(map(len, holders)) == 30
    assert all(holders)
    page = harness.sync.run(queries.page(Query(), offset=0, limit=50, limits=harness.limits))
    assert {session.fingerprint for session in page.sessions} == set(opened)
    assert set(await harness.store.run(sessions.keep(opened, limits=harness.limits))) == set(opened)


async def test_all_of_a_session_is_in_one_slot_and_all_indexes_in_another(
    cluster: RedisCluster, harness: Harness
) -> None:
    resolve, fingerprint = harness.keys.resolve, a_fingerprint()
    of_session = resolve(fingerprint, ["session", "features", "state", "ended"])
    of_namespace = resolve("", [*indexes.of(CLAUDE, "issuer|ann"), "index:activity:ends", "clients"])
    with cluster.nodes[0].client() as client:
        assert len({client.execute_command("CLUSTER KEYSLOT", key) for key in of_session}) == 1
        assert len({client.execute_command("CLUSTER KEYSLOT", key) for key in of_namespace}) == 1


async def test_a_slot_that_moves_to_another_node_is_followed_for_async_and_sync_callers(
    cluster: RedisCluster, harness: Harness
) -> None:
    fingerprint = a_fingerprint()
    await harness.open()
    harness.sync.run(nodes.list_nodes())
    cluster.move_slot_of(harness.key(fingerprint, "session"))

    await eventually(lambda: harness.open(fingerprint=fingerprint))
    assert await harness.touch(fingerprint) is not None
    assert harness.sync.run(sessions.get(fingerprint)) is not None


async def test_a_cluster_that_is_down_is_unavailable_for_async_and_sync_callers(settings: Settings) -> None:
    entry = {
        "BACKEND": BACKEND,
        "LOCATION": ["redis://127.0.0.1:1", "redis://127.0.0.1:2"],
        "OPTIONS": {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"},
    }
    begun = time.monotonic()

    async with harness_on(entry, settings, kind="cluster") as harness:
        with pytest.raises(StoreUnavailable):
            await harness.touch(a_fingerprint())
        with pytest.raises(StoreUnavailable):
            harness.sync.run(nodes.list_nodes())
        with pytest.raises(StoreUnavailable):
            harness.sync.run(queries.page(Query(), offset=0, limit=1, limits=harness.limits))

    assert time.monotonic() - begun < 20


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """One whose nodes the test stops."""
    with run_cluster() as running:
        yield running


@pytest.mark.slow
async def test_a_hung_node_of_a_cluster_is_unavailable_within_bounds_and_recovers(
    own_cluster: RedisCluster, settings: Settings
) -> None:
    entry = with_timeouts(cluster_cache(own_cluster), 1, connect=0.5)
    async with harness_on(entry, settings, kind="cluster") as harness:
        opened = await asyncio.gather(*[harness.open() for _ in range(12)])
        harness.sync.run(nodes.list_nodes())
        hung = own_cluster.holder_of(harness.key(opened[0], "session"))

        hung.pause()
        try:
            for attempt in (
                harness.touch(opened[0]),
                asyncio.to_thread(harness.sync.run, sessions.get(opened[0])),
            ):
                begun = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await attempt
                assert time.monotonic() - begun < 10
        finally:
            hung.resume()

        for fingerprint in opened:
            assert await eventually(lambda each=fingerprint: harness.touch(each)) is not None
        assert await eventually(lambda: harness.sync.run(sessions.get(opened[0]))) is not None


@pytest.mark.slow
async def test_a_call_that_is_redirected_has_no_more_time_than_another(
    own_cluster: RedisCluster, settings: Settings
) -> None:
    async with harness_on(cluster_cache(own_cluster), settings, kind="cluster") as harness:
        opened = await harness.open()
        key = harness.key(opened, "session")
        before = own_cluster.holder_of(key)
        own_cluster.move_slot_of(key)
        now = own_cluster.holder_of(key)

        before.pause()
        now.pause()
        try:
            # The first node replies late, where the slot is; the second one hangs.
            asyncio.get_running_loop().call_later(1.2, before.resume)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await harness.touch(opened)
            assert time.monotonic() - begun < 2.8
        finally:
            before.resume()
            now.resume()

        assert await eventually(lambda: harness.touch(opened)) is not None
