"""Harnesses over each driver: `harness` for what every store promises, `redis_harness` for what Redis holds."""

from collections.abc import AsyncIterator, Iterator

import pytest
from pytest_django import Settings

from mcp_sessions.store.calls import places
from mcp_sessions.store.calls.healing import Healing
from tests.store import harness as harnesses
from tests.store.engines import Both
from tests.store.harness import Harness
from tests.support.caches import CACHES, Entry, default_cache
from tests.support.redis import RedisServer, run_server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this suite alone: its tests count keys and commands, and other suites' processes keep on writing."""
    with run_server() as server:
        yield server


@pytest.fixture(params=["embedded", *CACHES])
def kind(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The kind of store; CACHES["default"] is configured for it."""
    if request.param == "embedded":
        yield request.param
        return
    fixture, entry = CACHES[request.param]
    with default_cache(settings, entry(request.getfixturevalue(fixture))):
        yield request.param


@pytest.fixture
async def harness(kind: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    made = harnesses.embedded_harness() if kind == "embedded" else harnesses.redis_harness(kind)
    # A process looks for sessions that are gone once a second by its own clock; here by the test's.
    monkeypatch.setattr(places, "healing", Healing(lambda: made.clock() / 1000))
    yield made
    await made.aclose()


@pytest.fixture
async def redis_harness(
    redis_caches: dict[str, Entry], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    made = harnesses.redis_harness("standalone")
    monkeypatch.setattr(places, "healing", Healing(lambda: made.clock() / 1000))
    yield made
    await made.aclose()


@pytest.fixture
def both(redis_server: RedisServer) -> Iterator[Both]:
    """A real server and an engine, both empty."""
    with redis_server.client(protocol=2) as client:
        client.flushall()
        yield Both(client)
