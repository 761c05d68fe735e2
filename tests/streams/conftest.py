"""Two processes of one service for the whole suite, and calls that are answered in the process of a test."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.store.harness import Harness, embedded_harness
from tests.streams.exchanges import Exchange
from tests.support.processes import Process, serving_everything
from tests.support.redis import RedisServer


@pytest.fixture(scope="package")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    with serving_everything(tmp_path_factory.mktemp("streams"), redis_server.url) as running:
        yield running


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


@pytest.fixture
async def begin(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """An exchange that has sent its first message, and gives the store up at once."""
    monkeypatch.setattr("mcp_sessions.streams.retry.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr("mcp_sessions.streams.retry.PAUSES", (0.001, 0.001))
    begun: list[Exchange] = []

    async def make(**conf: Any) -> Exchange:
        exchange = Exchange(harness, await harness.open(), **conf)
        begun.append(exchange)
        exchange.put(1)
        await exchange.stream.written()
        return exchange

    yield make
    for exchange in begun:
        exchange.stream.event_stream.close()
        await exchange.running
