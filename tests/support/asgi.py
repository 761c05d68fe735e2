"""The endpoint in the test's own process, without a server or an HTTP client around it."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from django.conf import settings
from django.test import override_settings

from mcp_sessions.transport.asgi import Application, Message
from tests.support.mcp_client import RawClient


@contextmanager
def endpoint(**keys: Any) -> Iterator[None]:
    """The demo's endpoint with other settings, and with sessions of its own, in memory."""
    entry = {**settings.MCP_SESSIONS["default"], "NAMESPACE": secrets.token_hex(8), **keys}
    with override_settings(MCP_SESSIONS={"default": entry}):
        yield


async def post(application: Application, client: RawClient, message: dict[str, Any]) -> httpx2.Response:
    """The whole answer to a POST from a client that stays until it has it."""
    headers = [(name.encode(), value.encode()) for name, value in client.headers().items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": client.path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
    }
    body: list[Message] = [{"type": "http.request", "body": json.dumps(message).encode(), "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not body:
            await asyncio.get_running_loop().create_future()
        return body.pop()

    async def send(part: Message) -> None:
        sent.append(part)

    await application(scope, receive, send)
    head, *parts = sent
    content = b"".join(part.get("body", b"") for part in parts)
    return httpx2.Response(head["status"], headers=head["headers"], content=content)


async def opened(application: Application) -> RawClient:
    """A client with a session."""
    client = RawClient()
    answer = await post(application, client, client.initialize_message())
    client.session_id = answer.headers["mcp-session-id"]
    await post(application, client, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return client
