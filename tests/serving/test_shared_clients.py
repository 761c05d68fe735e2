"""Sessions of equal clients share what their handshakes were parsed into; none can change it for another."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from mcp_sessions import current_session
from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import answer_of

server: MCPServer[Any] = MCPServer("shared")


@server.tool()
async def deface(ctx: Context) -> None:
    """Change all that can be reached of the client."""
    session = current_session()
    for shared in (session.client_info, session.capabilities):
        assert isinstance(shared, dict)
        shared["name"] = "defaced"
        shared.setdefault("roots", {})["listChanged"] = "defaced"
    params, capabilities = ctx.session.client_params, ctx.session.client_capabilities
    assert params is not None
    assert capabilities is params.capabilities, "one copy, as the SDK has it"
    params.client_info.name = "defaced"
    params.capabilities.experimental = {"defaced": {}}
    assert ctx.session.client_params is params, "a handler sees what it changed"
    assert params.capabilities.roots is not None
    params.capabilities.roots.list_changed = None


@server.tool()
async def look(ctx: Context) -> dict[str, Any]:
    session, params = current_session(), ctx.session.client_params
    assert params is not None
    return {
        "session": [dict(session.client_info), dict(session.capabilities)],
        "sdk": params.model_dump(mode="json", by_alias=True, exclude_none=True),
        "capabilities": params.capabilities == ctx.session.client_capabilities,
    }


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.serving.test_shared_clients.server"):
        async with serving(), asyncio.timeout(20), http_client() as http:
            yield http


async def called(http: httpx2.AsyncClient, client: Any, tool: str) -> Any:
    answer = answer_of(
        await post(http, client, client.request("tools/call", {"name": tool, "arguments": {}}))
    )
    assert not answer["result"].get("isError"), answer
    return answer["result"].get("structuredContent")


async def test_a_tool_that_changes_what_it_knows_of_its_client_changes_no_other(
    http: httpx2.AsyncClient,
) -> None:
    one, other = await opened(http), await opened(http)
    before = await called(http, other, "look")
    assert before["sdk"]["clientInfo"] == {"name": "raw-client", "version": "1.0"}
    await called(http, one, "deface")
    assert await called(http, other, "look") == before
    assert await called(http, one, "look") == before, "nor for the next request of its own"
