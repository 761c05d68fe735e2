"""Servers of a test's own: tests here stop them, or let them hang."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest
from pytest_django import Settings

from mcp_sessions.connections.pipelines import PooledConnection
from tests.connections.traffic import Traffic
from tests.store.harness import Harness, a_fingerprint, harness_on
from tests.support.caches import BACKEND
from tests.support.lossy import LossyProxy, lossy_proxy
from tests.support.redis import RedisServer, SentinelTrio, run_sentinels, run_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[LossyProxy]:
    async with lossy_proxy(server) as running:
        yield running


@pytest.fixture(params=["standalone", "threads"])
async def harness(
    request: pytest.FixtureRequest, proxy: LossyProxy, settings: Settings
) -> AsyncIterator[Harness]:
    """A store that reaches the server through the proxy."""
    entry = {"BACKEND": BACKEND, "LOCATION": proxy.url}
    async with harness_on(entry, settings, kind=request.param) as made:
        yield made


@pytest.fixture
def trio() -> Iterator[SentinelTrio]:
    """Sentinels whose test changes who is primary.

    The service's name is new too, because django-redis keeps one pool per URL for the life of the process.
    """
    with run_sentinels(service=f"sessions-{a_fingerprint()[:8]}") as running:
        yield running


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    made = Traffic()

    async def execute(connection: PooledConnection, commands: Any) -> Any:
        return await made.execute(connection, commands)

    with mock.patch.object(PooledConnection, "execute", execute):
        yield made
