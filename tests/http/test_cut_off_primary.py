"""A primary that was cut off from its replica and its Sentinels, but not from us, as docs/operations.md says."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import pytest
from mcp.server import MCPServer
from pytest_django import Settings

from mcp_sessions import current_session
from mcp_sessions.testing import http_client, serving, url_of
from tests.docs import markdown
from tests.support.asgi import endpoint, opened, post
from tests.support.caches import sentinel_cache
from tests.support.mcp_client import RawClient, answer_of
from tests.support.processes import wait_until
from tests.support.redis import RedisServer, SentinelTrio, run_sentinels

CALLS: Final = 10

server: MCPServer[Any] = MCPServer("cut off")


@server.tool()
async def count() -> int:
    return int(await current_session().state.incr("count"))


@asynccontextmanager
async def served(trio: SentinelTrio, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The endpoint, with its sessions behind the Sentinels."""
    settings.CACHES = {"default": sentinel_cache(trio)}
    with endpoint(SERVER="tests.http.test_cut_off_primary.server"):
        async with serving(), http_client() as http:
            yield http


async def calls(http: httpx2.AsyncClient, client: RawClient) -> list[httpx2.Response]:
    return [await post(http, client, client.calling("count")) for _ in range(CALLS)]


def cut_off(trio: SentinelTrio) -> None:
    """As the other side of the network does it: the replica is the primary there, and nobody tells this side."""
    for sentinel in trio.sentinels:
        sentinel.pause()
    with trio.replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    wait_until(lambda: replicas_of(trio) == 0, what="the replica to have left")


def replicas_of(trio: SentinelTrio) -> int:
    with trio.primary.client() as client:
        return int(client.info("replication")["connected_slaves"])


def counted(redis: RedisServer) -> list[str | None]:
    """What a server holds of the counters in the states of all sessions."""
    with redis.client(decode_responses=True) as client:
        return [client.hget(key, "count") for key in client.scan_iter(match="*:state")]


def recommended() -> dict[str, str]:
    """The settings on the page."""
    found = dict(re.findall(r"^(min-replicas-\S+) (\d+)$", markdown.read("operations.md"), re.MULTILINE))
    assert found
    return found


@pytest.fixture
def trio() -> Iterator[SentinelTrio]:
    """Of a test's own: it is cut in two."""
    with run_sentinels(service="cut-off") as running:
        yield running


@pytest.mark.slow
async def test_a_primary_that_was_cut_off_acknowledges_nothing_with_the_recommended_settings(
    trio: SentinelTrio, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.primary.client() as redis:
        for name, value in recommended().items():
            redis.config_set(name, value)
    async with served(trio, settings) as http:
        client = await opened(http)
        before = await calls(http, client)
        assert [answer_of(each)["result"]["isError"] for each in before] == [False] * CALLS
        cut_off(trio)

        after = await calls(http, client)
        ended = await http.delete(url_of(), headers=client.headers())
        new = await post(http, RawClient(), RawClient().initialize_message())

    assert [each.status_code for each in (*after, ended, new)] == [503] * (CALLS + 2)
    assert all("retry-after" in each.headers for each in (*after, ended, new))
    assert "NOREPLICAS" in caplog.text


@pytest.mark.slow
async def test_without_them_it_acknowledges_what_is_lost(trio: SentinelTrio, settings: Settings) -> None:
    """Why they are recommended."""
    async with served(trio, settings) as http:
        client = await opened(http)
        await calls(http, client)  # whoever has no connection needs a Sentinel to get one
        cut_off(trio)
        assert [each.status_code for each in await calls(http, client)] == [200] * CALLS
    assert (counted(trio.primary), counted(trio.replica)) == ([str(2 * CALLS)], [str(CALLS)])
