"""Handles on a real Redis, for clients of two processes, and while Redis is away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Literal

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.served.tokens import RESOURCE
from tests.support.processes import Process, daphnes
from tests.support.redis import RedisServer
from tests.support.tool_calls import value

#: How many articles both processes add together, and each call at the same moment.
MANY = 1_000
AT_A_TIME = 50
#: MAX_HANDLES.
MOST = 60


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that may be stopped."""
    server = RedisServer(tmp_path_factory.mktemp("handles-redis"), keep=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def processes(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    directory: Path = tmp_path_factory.mktemp("handles")
    with daphnes(
        2,
        directory,
        REDIS_URL=redis.url,
        MCP_SERVER="tests.served.baskets.server",
        MCP_NAMESPACE=directory.name,
        MCP_TOKEN_VERIFIER="tests.served.tokens.Verifier",
        MCP_ISSUER_URL="https://issuer.example.com",
        MCP_RESOURCE_URL=RESOURCE,
        MCP_MAX_HANDLES=str(MOST),
    ) as running:
        yield running


def connected(
    process: Process, subject: str = "ann", *, mode: Literal["auto", "legacy"] = "auto"
) -> tuple[httpx2.AsyncClient, Client]:
    http = httpx2.AsyncClient(headers={"authorization": f"Bearer {subject}-1"}, timeout=30)
    return http, Client(streamable_http_client(f"{process.url}/mcp", http_client=http), mode=mode)


async def test_both_eras_and_both_processes_fill_one_basket(processes: list[Process]) -> None:
    (http_a, old), (http_b, new) = connected(processes[0], mode="legacy"), connected(processes[1])
    async with http_a, http_b, old, new:
        assert old.protocol_version == "2025-11-25"
        assert new.protocol_version == "2026-07-28"
        basket = await value(new, "create_basket")
        assert await value(old, "list_baskets") == [basket]

        async with asyncio.TaskGroup() as group:
            for n in range(MANY // 2 // AT_A_TIME):
                for client in (old, new):
                    articles = [f"{client.protocol_version}-{n}-{number}" for number in range(AT_A_TIME)]
                    group.create_task(value(client, "add_all", basket=basket, articles=articles))
        found = await value(old, "articles", basket=basket)
        assert len(found) == len(set(found)) == MANY
        assert await value(new, "end_basket", basket=basket)
        result = await old.call_tool("add", {"basket": basket, "article": "late"})
        assert result.is_error


async def test_two_processes_never_make_more_handles_than_there_may_be_and_not_one_less(
    processes: list[Process], redis: RedisServer
) -> None:
    """Many clients of both eras ask both processes at the same moment; then some places become free."""

    async def made(*clients: Client) -> int:
        """How many of a flood of handles were made."""
        calls = [client.call_tool("create_trip", {}) for _ in range(MOST) for client in clients]
        results = await asyncio.gather(*calls)
        assert all("again later" in str(result.content) for result in results if result.is_error)
        return sum(not result.is_error for result in results)

    (http_a, old), (http_b, new) = (
        connected(processes[0], "bob", mode="legacy"),
        connected(processes[1], "bob"),
    )
    async with http_a, http_b, old, new:
        baskets = [await value(new, "create_basket") for _ in range(3)]
        assert 0 < await made(old, new) <= MOST - len(baskets)
        assert await made(old, new) == 0
        for basket in baskets:
            assert await value(old, "end_basket", basket=basket)
        assert await made(old, new) == len(baskets)
    with redis.client() as everything:
        everything.flushall()  # the places of all of them


async def test_first_writes_of_a_user_on_two_processes_all_count(processes: list[Process]) -> None:
    (http_a, one), (http_b, two) = (connected(process, "bob") for process in processes)
    async with http_a, http_b, one, two:
        counts = await asyncio.gather(
            *[value(client, "count_user") for client in (one, two) for _ in range(8)]
        )
    assert sorted(counts) == list(range(1, 17))


async def test_without_redis_calls_with_handles_say_so_and_others_go_on(
    processes: list[Process], redis: RedisServer
) -> None:
    http, client = connected(processes[0])
    async with http, client:
        basket = await value(client, "create_basket")
        await value(client, "add", basket=basket, article="tea")
        redis.stop()
        try:
            for tool, arguments in (
                ("add", {"basket": basket, "article": "milk"}),
                ("create_basket", {}),
                ("list_baskets", {}),
            ):
                before = monotonic()
                result = await client.call_tool(tool, arguments)
                assert monotonic() - before < 3
                assert result.is_error
                assert "could not be reached; try again." in str(result.content)
            assert await value(client, "plain", number=7) == 7
        finally:
            redis.start()
        for _ in range(200):
            result = await client.call_tool("articles", {"basket": basket})
            if not result.is_error:
                break
            await asyncio.sleep(0.02)
        assert result.structured_content == {"result": ["tea"]}
