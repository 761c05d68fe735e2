"""What keeps a session from idling out, and no longer than it should."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.store.calls import sessions
from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, opened, post
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, answer_of

IDLE_SECONDS = 0.3


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.served.everything.server", IDLE_TTL=IDLE_SECONDS, GRACE=0.01):
        async with serving(), asyncio.timeout(20), http_client() as http:
            yield http


async def exists(client: RawClient) -> bool:
    """Whether a session exists, without touching it."""
    runtime = await runtime_for("default")
    return await runtime.context.store.run(sessions.get(client.fingerprint)) is not None


async def seconds_until_gone(client: RawClient) -> float:
    began = asyncio.get_running_loop().time()
    while await exists(client):
        await asyncio.sleep(0)
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("response", ["auto", "json"])
async def test_a_session_idles_out_after_a_long_call_has_ended(
    http: httpx2.AsyncClient, gate: Gate, response: str
) -> None:
    with endpoint(
        SERVER="tests.served.everything.server", IDLE_TTL=IDLE_SECONDS, GRACE=0.01, RESPONSE=response
    ):
        client = await opened(http)
        calling = asyncio.create_task(post(http, client, client.calling("report", gate=gate.path)))
        await asyncio.to_thread(gate.reached)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 3 * IDLE_SECONDS:
            assert await exists(client), "it is kept while its call runs"
            await asyncio.sleep(0)
        gate.open()
        assert answer_of(await calling)["result"]["structuredContent"] == {"result": "passed"}
        assert await seconds_until_gone(client) < 5 * IDLE_SECONDS
