"""Requests that are cancelled before their handler has made its first step."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from django.test import override_settings

from mcp_sessions.consumer import MCPEndpoint
from mcp_sessions.exchange import Exchange
from mcp_sessions.runtime import Runtime, runtime_for, stop_runtimes
from tests.in_process import opened, post
from tests.raw import answer_of

#: Seconds that an answer may take.
BOUND = 10


@pytest.fixture(params=["auto", "sse", "json"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    entry = {**settings.MCP_SESSIONS["default"], "RESPONSE": request.param}
    with override_settings(MCP_SESSIONS={"default": entry}):
        yield await runtime_for("default")
        await stop_runtimes()


def cancelling_at_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime.run

    def run_and_cancel(exchange: Exchange) -> None:
        run(exchange)
        exchange.cancel()

    monkeypatch.setattr(runtime, "run", run_and_cancel)


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
