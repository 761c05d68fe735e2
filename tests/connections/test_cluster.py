"""On a Cluster: where the keys of a session are, slots that move, and nodes that hang or are down."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from pytest_django import Settings

from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.store.calls import indexes, nodes, queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.keys import homes
from tests.connections.waiting import eventually
from tests.store.harness import CLAUDE, Harness, a_fingerprint, a_namespace, harness_on, redis_harness
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


async def test_all_of_a_session_is_in_one_slot_and_each_shard_of_the_indexes_in_another(
    cluster: RedisCluster, harness: Harness
) -> None:
    resolve, fingerprint = harness.keys.resolve, a_fingerprint()
    of_session = resolve(fingerprint, ["session", "features", "state", "ended"])
    own, of_principal = indexes.places(fingerprint, CLAUDE, "issuer|ann")
    with cluster.nodes[0].client() as client:

        def slots(keys: list[str]) -> set[int]:
            return {client.execute_command("CLUSTER KEYSLOT", key) for key in keys}

        assert len(slots(of_session)) == 1
        assert len(slots(resolve(own.home, [*own.names, "clients", "index:gone", "sweeper"]))) == 1
        assert len(slots(resolve(of_principal.home, [*of_principal.indexes, "index:gone"]))) == 1
        assert len(slots([resolve(home, ["clients"])[0] for home in homes(16)])) == 16


@pytest.mark.parametrize("most", [7, 50])
async def test_caps_are_exact_over_the_shards_and_processes_of_a_cluster(
    cluster: RedisCluster, harness: Harness, most: int
) -> None:
    """Of the endpoint and of a principal. `most` is less and more than there are shards."""
    harness.limit(max_sessions=most, max_sessions_per_principal=5)
    namespace = a_namespace()
    others = [redis_harness("cluster", namespace=namespace) for _ in range(3)]
    for other in others:
        other.limits, other.clock = harness.limits, harness.clock

    opened = await asyncio.gather(
        *[each.open(principal="issuer|ann") for each in others for _ in range(10)], return_exceptions=True
    )
    of_ann = sum(isinstance(each, str) for each in opened)
    assert of_ann == 5
    opened = []
    for start in range(0, most, 10):  # many at once, and not so many that a busy machine is late
        opened += await asyncio.gather(
            *[each.open(principal=f"issuer|{n}") for each in others for n in range(start, start + 10)],
            return_exceptions=True,
        )
    # Some were refused because, for a moment, another one that was refused as well had the last place of a shard.
    while of_ann + sum(isinstance(each, str) for each in opened) < most:
        opened.append(await others[0].open())
    with pytest.raises(TooManySessions):
        await others[1].open()

    assert others[2].sync.run(indexes.count(limits=harness.limits)) == most
    page = await others[0].store.run(queries.page(Query(), limit=200, limits=harness.limits))
    assert len(page.sessions) == most
    for each in page.sessions[:3]:
        await others[0].store.run(sessions.end(each.fingerprint, principal=None, reason="deleted"))
    assert len({await other.open() for other in others}) == 3
    for other in others:
        await other.aclose()


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
