"""Requests that end otherwise than by their handler: before it has begun, or while it waits for its client."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.testing import http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient, answer_of, cancelling

#: Seconds that an answer may take.
BOUND = 10

server: MCPServer[Any] = MCPServer("early ends")


@server.tool()
async def ask_on_the_standalone_stream(ctx: Context) -> str:
    """Ask what belongs to no request."""
    heard.get().put_nowait("began")
    try:
        await ctx.session.send_ping()
    except BaseException as error:
        heard.get().put_nowait(type(error).__name__)
        raise
    return "answered"


#: Where a test hears how its calls go.
heard: ContextVar["asyncio.Queue[str]"] = ContextVar("heard")


@pytest.fixture(params=["auto", "sse", "json"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    with endpoint(RESPONSE=request.param):
        async with serving():
            yield await runtime_for("default")


def cancelling_at_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime.admission.run

    def run_and_cancel(exchange: Exchange) -> None:
        run(exchange)
        exchange.cancel()

    monkeypatch.setattr(runtime.admission, "run", run_and_cancel)


@pytest.mark.protocol("H12")
async def test_a_request_that_is_cancelled_at_once_is_answered(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_client() as http:
        client = await opened(http)
        cancelling_at_once(runtime, monkeypatch)
        call = client.request("tools/call", {"name": "recall", "arguments": {}})
        async with asyncio.timeout(BOUND):
            answer = answer_of(await post(http, client, call))

    assert (answer["id"], answer["error"]["code"]) == (call["id"], -32800)


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Of the server above."""
    heard.set(asyncio.Queue())
    with endpoint(SERVER="tests.serving.test_early_ends.server"):
        async with serving(), http_client() as http:
            yield http


def asking(client: RawClient) -> dict[str, Any]:
    return client.request("tools/call", {"name": "ask_on_the_standalone_stream", "arguments": {}})


async def test_a_handler_that_waits_for_its_client_on_the_standalone_stream_is_cancelled_when_the_session_ends(
    http: httpx2.AsyncClient,
) -> None:
    client = await opened(http)
    call = asyncio.create_task(post(http, client, asking(client)))
    async with asyncio.timeout(BOUND):
        assert await heard.get().get() == "began"
        ended = await http.delete(url_of(), headers=client.headers(content_type=None))
        assert ended.status_code == 204
        assert await heard.get().get() == "CancelledError"
        await call


@pytest.mark.protocol("H12")
async def test_two_requests_with_one_id_are_both_cancelled(http: httpx2.AsyncClient) -> None:
    client = await opened(http)
    message = asking(client)
    calls = [asyncio.create_task(post(http, client, message)) for _ in range(2)]
    async with asyncio.timeout(BOUND):
        assert [await heard.get().get() for _ in calls] == ["began", "began"]
        await post(http, client, cancelling(message))
        answers = [answer_of(answer) for answer in await asyncio.gather(*calls)]
    assert [answer["error"]["code"] for answer in answers] == [-32800, -32800]
