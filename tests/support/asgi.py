"""The demo's endpoint in the test's own process, with settings of the test's own."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from django.conf import settings
from django.test import override_settings

from mcp_sessions.testing import url_of
from tests.support.mcp_client import RawClient


def demo_with(**keys: Any) -> dict[str, Any]:
    """MCP_SESSIONS with the demo's endpoint, other keys, and sessions of its own."""
    entry = {**settings.MCP_SESSIONS["default"], "NAMESPACE": secrets.token_hex(8), **keys}
    return {"default": entry}


@contextmanager
def endpoint(**keys: Any) -> Iterator[None]:
    """Settings as `demo_with` makes them."""
    with override_settings(MCP_SESSIONS=demo_with(**keys)):
        yield


async def post(http: httpx2.AsyncClient, client: RawClient, message: dict[str, Any]) -> httpx2.Response:
    """The whole answer to a POST from a client that stays until it has it."""
    return await http.post(url_of(), json=message, headers=client.headers())


async def opened(http: httpx2.AsyncClient) -> RawClient:
    """A client with a session."""
    client = RawClient()
    answer = await post(http, client, client.initialize_message())
    client.session_id = answer.headers["mcp-session-id"]
    await post(http, client, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return client
