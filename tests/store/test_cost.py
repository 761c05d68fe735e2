"""What a session costs: at most 1.25 KiB of Redis memory, all indexes included; one command and few objects a touch."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.store.calls import indexes
from mcp_sessions.store.drivers.asynchronous import RedisStore
from tests.store import harness as harnesses
from tests.store.harness import Harness
from tests.support.caches import default_cache, standalone_cache
from tests.support.redis import RedisServer, run_server

WARM, MEASURED, BUDGET = 200, 3_000, 1280


@pytest.fixture
def server(settings: Settings) -> Iterator[RedisServer]:
    with run_server() as running, default_cache(settings, standalone_cache(running)):
        yield running


async def open_many(harness: Harness, count: int, principal: str | None) -> list[str]:
    """Active sessions, as clients leave them: initialized, and with a last call."""
    opened = []
    for start in range(0, count, 100):
        owners = [principal or f"https://issuer.example|{n}" for n in range(start, min(start + 100, count))]
        batch = await asyncio.gather(*[harness.open(principal=owner, active=False) for owner in owners])
        await asyncio.gather(
            *[
                harness.touch(fingerprint, principal=owner, call="tools/call:remember", initialized=True)
                for fingerprint, owner in zip(batch, owners, strict=True)
            ]
        )
        opened += batch
    await harness.settled()
    await harness.aclose()
    return opened


def used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


@pytest.mark.parametrize("principal", ["anonymous", "https://issuer.example|ann", None])
async def test_an_idle_session_costs_at_most_a_kibibyte_and_a_quarter_of_redis(
    server: RedisServer, principal: str | None, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = harnesses.redis_harness("standalone")
    with server.client() as client:
        await open_many(harness, WARM, principal)
        before = used(client)
        opened = await open_many(harness, MEASURED, principal)
        each = (used(client) - before) / MEASURED
        record = client.memory_usage(harness.key(opened[0], "session"))
        sizes = {
            key.decode().split("index:")[1].split(":")[0]: client.memory_usage(key, samples=0)
            / (WARM + MEASURED)
            for key in client.scan_iter("*index:*")
        }
    record_property("bytes_per_session", each)
    with capsys.disabled():
        shares = ", ".join(f"{name} {share:.0f}" for name, share in sorted(sizes.items()))
        print(f"\n{each:.0f} bytes of Redis per {principal} session: record {record}, indexes: {shares}")  # noqa: T201

    assert each <= BUDGET
    assert harness.sync.run(indexes.count(limits=harness.limits)) == WARM + MEASURED


async def test_idle_sessions_cost_the_process_nothing(server: RedisServer) -> None:
    """What the store keeps in memory is per event loop, not per session."""
    harness = harnesses.redis_harness("standalone")
    await open_many(harness, 300, None)

    store = harness.store
    assert isinstance(store, RedisStore)
    assert set(vars(store)) == {"_keys", "_make_client", "_clock", "_loops", "_sealer"}
    assert not store._loops
