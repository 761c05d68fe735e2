"""Requests that end otherwise than by their handler: before it has begun, or while it waits for its client."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from mcp_sessions.ending import aend_session
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.runtime import Runtime, runtime_for, stop_runtimes
from mcp_sessions.store.session import fingerprint
from tests.in_process import endpoint, opened, post
from tests.raw import answer_of, cancelling

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
        yield await runtime_for("default")
        await stop_runtimes()


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
    application = MCPEndpoint.as_asgi("default")
    client = await opened(application)
    cancelling_at_once(runtime, monkeypatch)
    call = client.request("tools/call", {"name": "recall", "arguments": {}})

    async with asyncio.timeout(BOUND):
        answer = answer_of(await post(application, client, call))

    assert (answer["id"], answer["error"]["code"]) == (call["id"], -32800)


async def test_who_waits_for_its_client_on_the_standalone_stream_is_cancelled_when_the_session_ends() -> None:
    heard.set(asyncio.Queue())
    with endpoint(SERVER="tests.integration.test_early_ends.server"):
        application = MCPEndpoint.as_asgi("default")
        client = await opened(application)
        runtime = await runtime_for("default")
        message = client.request("tools/call", {"name": "ask_on_the_standalone_stream", "arguments": {}})
        call = asyncio.create_task(post(application, client, message))
        async with asyncio.timeout(BOUND):
            assert await heard.get().get() == "began"
            digest = fingerprint(client.session_id or "") or ""
            await aend_session(runtime.context.node, "default", digest, reason="deleted", by="test")
            assert await heard.get().get() == "CancelledError"
            await call
        await stop_runtimes()


@pytest.mark.protocol("H12")
async def test_of_two_requests_with_one_id_both_are_cancelled() -> None:
    heard.set(asyncio.Queue())
    with endpoint(SERVER="tests.integration.test_early_ends.server"):
        application = MCPEndpoint.as_asgi("default")
        client = await opened(application)
        message = client.request("tools/call", {"name": "ask_on_the_standalone_stream", "arguments": {}})
        calls = [asyncio.create_task(post(application, client, message)) for _ in range(2)]
        async with asyncio.timeout(BOUND):
            assert [await heard.get().get() for _ in calls] == ["began", "began"]
            await post(application, client, cancelling(message))
            answers = [answer_of(answer) for answer in await asyncio.gather(*calls)]
        await stop_runtimes()
    assert [answer["error"]["code"] for answer in answers] == [-32800, -32800]
