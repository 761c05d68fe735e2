"""Request bodies: read in linear time, and large ones only parsed for a session that exists."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from mcp_sessions.http.endpoint import LARGE_BODY_BYTES, MCPEndpoint
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.asgi import Message
from tests.support.asgi import endpoint, opened
from tests.support.mcp_client import LATEST, MODERN, RawClient

#: Bytes of a part: smaller than those of servers, so that a read in quadratic time would take a minute.
PART = 128
#: Seconds of CPU that 4 MiB in such parts may take. Linear: 0.2.
MOST_SECONDS = 5.0


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.served.everything.server"):
        async with serving(), asyncio.timeout(100), http_client() as http:
            yield http


async def status_of(client: RawClient, body: bytes) -> int:
    """The status of the answer to a body that comes in small parts."""
    headers = {"host": "testserver", **client.headers()}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": "/mcp",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    parts = iter(range(0, len(body), PART))
    sent: list[Message] = []

    async def receive() -> Message:
        at = next(parts)
        return {"type": "http.request", "body": body[at : at + PART], "more_body": at + PART < len(body)}

    async def send(message: Message) -> None:
        sent.append(message)

    await MCPEndpoint.as_asgi("default")(scope, receive, send)
    return int(sent[0]["status"])


def large(client: RawClient, size: int) -> bytes:
    message = client.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}, "x": "x" * size})
    return json.dumps(message).encode()


async def test_a_body_is_read_in_linear_time(http: httpx2.AsyncClient) -> None:
    client = await opened(http)
    body = large(client, 4 * 1024 * 1024 - 1024)
    began = time.process_time()
    assert await status_of(client, body) == 200
    assert time.process_time() - began < MOST_SECONDS


async def test_a_large_body_is_parsed_only_for_a_session_that_exists(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await opened(http)
    parsed: list[int] = []
    parse = jsonrpc.parse

    def count(body: bytes) -> Any:
        parsed.append(len(body))
        return parse(body)

    monkeypatch.setattr(jsonrpc, "parse", count)
    body = large(client, LARGE_BODY_BYTES)
    strangers = {None: 400, "unknown": 404, "{" * 5000: 404}
    for session_id, status in strangers.items():
        stranger = RawClient(session_id=session_id)
        answer = await http.post(url_of(), content=body, headers=stranger.headers())
        assert (answer.status_code, parsed) == (status, [])
    async with http_client(user=None) as again:
        answer = await again.post(url_of(), content=body, headers=client.headers())
    assert (answer.status_code, parsed) == (200, [len(body)])


async def test_beyond_a_limit_a_large_body_is_refused_before_it_is_parsed() -> None:
    with endpoint(RATE_LIMITS={"requests per session": "2/d"}):
        async with serving(), asyncio.timeout(30), http_client() as http:
            client = await opened(http)

            async def status(body: bytes) -> int:
                return (await http.post(url_of(), content=body, headers=client.headers())).status_code

            nonsense, ping = b"?" * (LARGE_BODY_BYTES + 1), json.dumps(client.request("ping")).encode()
            assert await status(nonsense) == 400, "as long as there are tokens, it is parsed"
            assert [await status(ping) for _ in range(2)] == [200, 429]
            assert await status(nonsense) == 429


@pytest.mark.parametrize("wrong", [{}, {"content-type": "text/plain"}, {"accept": "text/html"}])
@pytest.mark.parametrize("version", [LATEST, MODERN])
async def test_a_client_that_leaves_within_its_body_causes_no_traceback(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, version: str, wrong: dict[str, str]
) -> None:
    client = await opened(http)
    headers = client.headers(mcp_protocol_version=version, mcp_method="tools/list", host="testserver") | wrong
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": "/mcp",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    messages: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"jsonrpc": "2.0"', "more_body": True},
    ]

    async def receive() -> Message:
        return messages.pop() if len(messages) > 1 else messages[0]

    async def send(message: Message) -> None:
        """Nobody reads it."""

    await MCPEndpoint.as_asgi("default")(scope, receive, send)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
