"""What heartbeats do for streams on which nothing happens: they look, and seldom renew."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import httpx2
import pytest
from django_redis import get_redis_connection

from mcp_sessions.connections.pipelines import PooledConnection
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.store.calls import sessions
from mcp_sessions.testing import http_client, serving, url_of
from tests.serving.test_listeners import clients, listening, records
from tests.support.asgi import endpoint, opened
from tests.support.mcp_client import RawClient
from tests.support.redis import RedisServer, run_server

BOUND = 20


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server of these tests alone: they count commands, and the suite's processes keep on sending some."""
    with run_server() as server:
        yield server


@asynccontextmanager
async def serving_with(**keys: Any) -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.served.everything.server", **keys):
        async with asyncio.timeout(BOUND), serving(), http_client() as http:
            yield http


@asynccontextmanager
async def stream_of(http: httpx2.AsyncClient, client: RawClient) -> AsyncIterator[None]:
    """The client's standalone stream."""
    headers = client.headers(accept="text/event-stream", content_type=None)
    async with http.stream("GET", url_of(), headers=headers) as response:
        assert response.status_code == 200
        yield


async def session_of(client: RawClient) -> Session:
    found = await (await runtime_for("default")).context.store.run(sessions.get(client.fingerprint))
    assert found is not None
    return found


async def beats(number: int = 1) -> Runtime:
    runtime = await runtime_for("default")
    for _ in range(number):
        await runtime._heartbeat.beat()
    return runtime


async def test_an_idle_stream_is_looked_at_and_its_session_is_not_written(redis_caches: Any) -> None:
    async with serving_with() as http:
        client = await opened(http)
        async with stream_of(http, client):
            await beats()
            before, redis = await session_of(client), get_redis_connection("default")
            redis.config_resetstat()
            await beats(3)
            assert await session_of(client) == before
            stats = redis.info("commandstats")
            assert "cmdstat_xrange" not in stats, "its log is not read"
            assert stats["cmdstat_hmget"]["calls"] <= 4, (
                "one for each look, and perhaps one of the node's own"
            )


async def test_a_session_is_renewed_when_a_tenth_of_its_idle_ttl_is_over(redis_caches: Any) -> None:
    async with serving_with(IDLE_TTL=30) as http:
        client = await opened(http)
        async with stream_of(http, client):
            before = (await session_of(client)).last_activity_ms
            while (now := (await session_of(client)).last_activity_ms) == before:
                await beats()
            assert 3_000 <= now - before < 3_000 + BOUND * 1000


async def test_the_idle_time_begins_when_the_last_stream_closes(redis_caches: Any) -> None:
    async with serving_with() as http:
        client = await opened(http)
        async with stream_of(http, client):
            await beats()
            during = (await session_of(client)).last_activity_ms
        while (await runtime_for("default")).open_streams.of(client.fingerprint):
            await asyncio.sleep(0.01)
        await beats()
        after = (await session_of(client)).last_activity_ms
        await beats()
        assert during < after == (await session_of(client)).last_activity_ms


async def test_the_log_of_an_idle_stream_is_kept(redis_caches: Any) -> None:
    async with serving_with(STREAM_TTL=10) as http:
        client = await opened(http)
        async with stream_of(http, client):
            redis = get_redis_connection("default")
            [key] = redis.keys(f"*{client.fingerprint}*stream-info:standalone")
            while redis.pttl(key) > 8_500:
                await asyncio.sleep(0.01)
            await beats()
            assert redis.pttl(key) > 9_000


async def test_listeners_that_redis_lost_are_recorded_again_together(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    execute = PooledConnection.execute

    async def counted(connection: PooledConnection, commands: Sequence[Sequence[Any]]) -> list[Any]:
        made.append(len(commands))
        return await execute(connection, commands)

    monkeypatch.setattr(PooledConnection, "execute", counted)
    async with clients() as http, AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(listening(http))
        before = {each.fingerprint for each in records("listener")}
        get_redis_connection("default").flushdb()
        made.clear()
        await (await runtime_for("default")).listeners.keep()
        assert {each.fingerprint for each in records("listener")} == before
        assert len(made) <= 12, "one after the other it would be 120"


async def test_what_is_away_keeps_no_heartbeat_from_the_rest(
    redis_caches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary of a Cluster, for example. What could not be done is an error all the same."""
    async with serving_with():
        done: list[int] = []
        beat = (await runtime_for("default"))._heartbeat
        monkeypatch.setattr(type(beat.listeners), "keep", AsyncMock(side_effect=StoreUnavailable("away")))
        monkeypatch.setattr(type(beat.client_requests), "look", AsyncMock(side_effect=lambda: done.append(1)))
        with pytest.raises(StoreUnavailable):
            await beat.beat()
        assert done == [1]
