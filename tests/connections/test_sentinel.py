"""Behind Sentinels: sessions survive a failover, and only a primary is written to."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections.sentinel import Named, newest
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import indexes, nodes, queries, sessions
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.clients import make_async_client
from tests.connections.waiting import eventually
from tests.store.harness import Harness, a_fingerprint, harness_on
from tests.support.caches import BACKEND, sentinel_cache
from tests.support.processes import HOST
from tests.support.redis import SentinelTrio


@pytest.fixture
async def harness(trio: SentinelTrio, settings: Settings) -> AsyncIterator[Harness]:
    async with harness_on(sentinel_cache(trio), settings, kind="sentinel") as made:
        yield made


def replicated(trio: SentinelTrio) -> bool:
    """Whether the replica has everything that the primary has written."""
    with trio.primary.client() as client:
        return int(client.execute_command("WAIT", 1, 1_000)) == 1


@pytest.mark.slow
async def test_sessions_survive_the_death_of_the_primary_for_async_and_sync_callers(
    trio: SentinelTrio, harness: Harness
) -> None:
    fingerprint = await harness.open()
    await harness.settled()
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 1
    assert replicated(trio)

    await asyncio.to_thread(trio.primary.stop, signal.SIGKILL)

    session = await eventually(lambda: harness.touch(fingerprint))
    assert session is not None
    assert session.requests == 2
    page = await eventually(
        lambda: harness.sync.run(queries.page(Query(), offset=0, limit=5, limits=harness.limits))
    )
    assert [each.fingerprint for each in page.sessions] == [fingerprint]
    assert trio.primary_port() == trio.replica.port
    assert (
        await eventually(
            lambda: harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
        )
        is not None
    )


async def test_no_sentinel_is_unavailable_soon(settings: Settings) -> None:
    entry = {
        "BACKEND": BACKEND,
        "LOCATION": "redis://sessions/0",
        "OPTIONS": {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": [("127.0.0.1", 1), ("127.0.0.1", 2)],
            "SENTINEL_KWARGS": {"socket_timeout": 0.2, "retry": None},
        },
    }
    begun = time.monotonic()

    async with harness_on(entry, settings, kind="sentinel") as harness:
        with pytest.raises(StoreUnavailable):
            await harness.touch(a_fingerprint())
        with pytest.raises(StoreUnavailable):
            harness.sync.run(nodes.list_nodes())

    assert time.monotonic() - begun < 10


async def test_a_connection_to_a_replica_is_refused(sentinels: SentinelTrio, settings: Settings) -> None:
    settings.CACHES = {"default": sentinel_cache(sentinels)}
    client: Any = make_async_client("default")
    connection = client.connection_pool.make_connection()

    await connection.connect_to((HOST, sentinels.primary.port))
    await connection.disconnect()
    with pytest.raises(RedisConnectionError, match="is not the primary"):
        await connection.connect_to((HOST, sentinels.replica.port))

    assert not connection.is_connected
    await client.aclose()


OLD, NEW = ("old", 1), ("new", 2)


def says(epoch: int, address: tuple[str, int], *, down: bool = False) -> Named:
    return Named(epoch, address, is_down=down, is_failing_over=False)


@pytest.mark.parametrize(
    ("answers", "known", "since", "expected"),
    [
        ([], None, 0, None),
        ([says(1, OLD), says(2, NEW), says(1, OLD)], None, 0, NEW),
        ([says(1, OLD), says(1, OLD)], says(2, NEW), 1, None),  # the failover is news to them
        ([says(1, OLD), says(1, OLD)], says(2, NEW), 60, OLD),  # they were set up anew
        ([says(1, OLD)], says(2, NEW), 60, None),  # it was cut off
        ([says(1, OLD), says(1, NEW)], says(2, NEW), 60, None),
        ([says(2, NEW)], says(2, NEW), 60, NEW),
    ],
)
def test_the_sentinel_that_saw_the_latest_failover_is_believed(
    answers: list[Named], known: Named | None, since: float, expected: tuple[str, int] | None
) -> None:
    best = newest(answers, known=known, since=since, asked=3)
    assert (best.address if best else None) == expected
