"""A Cluster under load whose slots move, whose primaries change, hang and die: only their own keys are affected."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

import pytest
from pytest_django import Settings

from mcp_sessions.store.calls import nodes, sessions
from mcp_sessions.store.clients import ClusterConnectionFactory
from tests.connections.load import Load, Outcome, load
from tests.connections.waiting import in_thread
from tests.store.harness import Harness, harness_on, redis_harness
from tests.support.caches import cluster_cache
from tests.support.redis import RedisCluster, RedisServer, run_cluster, serves

pytestmark = pytest.mark.slow

CLIENTS: Final = 40
#: Seconds that a call to another node may take. The machine is busy with a failover.
UNAFFECTED_SECONDS: Final = 1.0
#: Seconds that a call to a node that hangs may take: SOCKET_TIMEOUT and what a busy machine adds.
AFFECTED_SECONDS: Final = 2.5


@pytest.fixture(scope="module")
def replicated() -> Iterator[RedisCluster]:
    """Three primaries, each with a replica. Every test leaves all six in sync, whichever nodes are primaries."""
    with run_cluster(replicas=True) as running:
        yield running


@pytest.fixture
async def harness(replicated: RedisCluster, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(cluster_cache(replicated), settings, kind="cluster") as made:
        yield made
    await in_thread(replicated.replicated, "the replicas to be in sync")


def served_by(node: RedisServer, running: Load) -> tuple[list[Outcome], list[Outcome]]:
    """The outcomes of the clients whose sessions a node serves, and those of all others."""
    affected, others = list[Outcome](), list[Outcome]()
    for fingerprint, outcome in running.outcomes.items():
        (affected if serves(node, running.harness.key(fingerprint, "session")) else others).append(outcome)
    return affected, others


def slowest(outcomes: Iterable[Outcome]) -> float:
    return max(outcome.slowest for outcome in outcomes)


def failures(outcomes: Iterable[Outcome]) -> int:
    return sum(len(outcome.failed) for outcome in outcomes)


async def test_no_call_fails_while_slots_move_under_load(replicated: RedisCluster, harness: Harness) -> None:
    async with load(harness, CLIENTS, pace=0.02) as running:
        for fingerprint in list(running.outcomes)[:20]:
            await asyncio.to_thread(replicated.move_slot_of, harness.key(fingerprint, "session"))
        await running.went_on()

    assert await running.lost() == []
    assert running.failed == 0


async def test_no_call_fails_during_manual_failovers_in_a_row(
    replicated: RedisCluster, harness: Harness
) -> None:
    async with load(harness, CLIENTS) as running:
        for n in range(4):
            before = replicated.primaries()[n % 3]
            with replicated.replica_of(before).client() as client:
                client.execute_command("CLUSTER FAILOVER")
            await in_thread(lambda: before not in replicated.primaries(), "a failover")  # noqa: B023 - waited for here
            await in_thread(replicated.replicated, "the replicas to be in sync")
        await running.went_on()

    assert await running.lost() == []
    assert running.failed == 0


async def test_a_primary_that_hangs_delays_only_its_own_sessions(
    replicated: RedisCluster, harness: Harness
) -> None:
    async with load(harness, CLIENTS) as running:
        node = replicated.holder_of(harness.key(next(iter(running.outcomes)), "session"))
        affected, others = served_by(node, running)
        node.pause()
        try:
            await in_thread(lambda: len(replicated.primaries()) == 3, "a failover")
            await running.went_on()
        finally:
            node.resume()
        for outcome in affected:
            outcome.failed = []
        await running.went_on()

    report("hangs", affected, others)
    assert await running.lost() == []
    assert failures(others) == 0
    assert slowest(others) < UNAFFECTED_SECONDS
    assert slowest(outcome for outcome in affected if outcome is not running.in_thread) < AFFECTED_SECONDS


async def test_a_primary_that_dies_delays_only_its_own_sessions_and_the_admin_goes_on_without_it(
    replicated: RedisCluster, harness: Harness, settings: Settings
) -> None:
    async with load(harness, CLIENTS) as running:
        # The namespace's indexes, and the session of the thread, are on the node that dies.
        node = replicated.holder_of(harness.key("", "nodes"))
        affected, others = served_by(node, running)
        await asyncio.to_thread(node.stop, signal.SIGKILL)
        try:
            await in_thread(lambda: len(replicated.primaries()) == 3, "a failover")
            await running.went_on()
            for outcome in running.outcomes.values():
                outcome.failed = []
            await running.went_on()
            assert running.failed == 0, "a call failed after the failover"
            for _ in range(3):
                assert await asyncio.to_thread(harness.sync.run, nodes.list_nodes()) == []
            await first_of_all(node, replicated, settings, next(iter(running.outcomes)), harness)
        finally:
            await asyncio.to_thread(node.start)

    report("dies", affected, others)
    assert await running.lost() == []
    assert slowest(others) < UNAFFECTED_SECONDS


async def first_of_all(
    dead: RedisServer, cluster: RedisCluster, settings: Settings, fingerprint: str, harness: Harness
) -> None:
    """A process that starts now, with the dead node first in its settings, finds the others, async and sync."""
    urls = [dead.url, *(node.url for node in cluster.nodes if node is not dead)]
    entry = cluster_cache(cluster)
    settings.CACHES = {"default": {**entry, "LOCATION": urls[:3]}}
    ClusterConnectionFactory._clients.pop(dead.url, None)
    process = redis_harness(
        "cluster", namespace=harness.keys.resolve("", [""])[0].split("{")[1].split("}")[0]
    )
    assert await process.store.run(sessions.get(fingerprint)) is not None
    assert await asyncio.to_thread(process.sync.run, sessions.get(fingerprint)) is not None
    await process.aclose()


def report(what: str, affected: Iterable[Outcome], others: Iterable[Outcome]) -> None:
    print(  # noqa: T201 - the figures of docs/operations.md
        f"a primary {what}: the slowest call of sessions on others took {slowest(others):.2f} s, "
        f"that of its own {slowest(affected):.2f} s"
    )
