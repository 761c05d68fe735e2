"""CallAudit: one structured event in the log for each call, in both eras, however it ends."""

import asyncio
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer

from mcp_sessions.middleware import _described
from mcp_sessions.routing import with_mcp
from mcp_sessions.testing import serving
from tests.routing.test_routing import django
from tests.support.asgi import endpoint
from tests.support.mcp_client import META, MODERN, RawClient, cancelling

HERE = "tests.middleware.test_call_audit"
OURS = ["mcp_sessions.middleware.RequestId", "mcp_sessions.middleware.CallAudit"]
server = MCPServer("shop")


@server.tool()
async def buy(card_number: str) -> str:
    """Takes what must not be in a log, and gives it back."""
    return card_number


@server.tool()
async def fail() -> None:
    """A tool that fails."""
    raise ValueError("out of stock")


@server.tool()
async def wait() -> None:
    """Waits until it is cancelled."""
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def audited(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, "mcp_sessions.middleware.calls")
    with endpoint(SERVER=f"{HERE}.server", MIDDLEWARE=OURS):
        yield


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was logged, read from the messages, and the same as in the records."""
    records = [record for record in caplog.records if record.name == "mcp_sessions.middleware.calls"]
    read = [json.loads(record.getMessage()) for record in records]
    assert read == [record.audit for record in records]  # type: ignore[attr-defined]
    return read


@pytest.fixture
def http() -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(with_mcp(django), client=("192.0.2.7", 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://testserver")


async def opened(http: httpx2.AsyncClient) -> RawClient:
    client = RawClient()
    answer = await http.post("/mcp", json=client.initialize_message(), headers=client.headers())
    client.session_id = answer.headers["mcp-session-id"]
    return client


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize(
    ("tool", "arguments", "outcome"),
    [("buy", {"card_number": "4111111111111111"}, "ok"), ("fail", {}, "tool error")],
)
async def test_a_call_is_one_event_without_arguments_or_results(
    http: httpx2.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    modern: bool,
    tool: str,
    arguments: dict[str, str],
    outcome: str,
) -> None:
    async with serving(), http:
        client = RawClient() if modern else await opened(http)
        params = {"name": tool, "arguments": arguments, **({"_meta": META} if modern else {})}
        more = (
            {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool} if modern else {}
        )
        headers = client.headers(x_request_id="r-1", **more)
        await http.post("/mcp", json=client.request("tools/call", params), headers=headers)
    [event] = events(caplog)
    assert 0 <= event.pop("ms") < 10_000
    assert event == {
        "request_id": "r-1",
        "path": "/mcp",
        "address": "192.0.2.7",
        "principal": "anonymous",
        "session": "" if modern else client.fingerprint[:12],
        "client": "modern" if modern else "raw-client",
        "client_version": "1" if modern else "1.0",
        "method": "tools/call",
        "tool": tool,
        "outcome": outcome,
        "code": None,
    }
    assert "4111" not in caplog.text
    assert (client.session_id or "no session") not in caplog.text


async def test_a_request_that_the_server_refuses_is_an_event_with_the_code(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(), http:
        client = await opened(http)
        await http.post("/mcp", json=client.request("no/such"), headers=client.headers())
    [event] = events(caplog)
    assert (event["method"], event["tool"], event["outcome"]) == ("no/such", "", "error")
    assert event["code"] == -32601


async def test_a_call_that_its_client_cancels_is_an_event(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(), http:
        client = await opened(http)
        call = client.request("tools/call", {"name": "wait", "arguments": {}})
        calling = asyncio.create_task(http.post("/mcp", json=call, headers=client.headers()))
        while (await http.post("/mcp", json=cancelling(call), headers=client.headers())).status_code == 202:
            if await asyncio.wait([calling], timeout=0.05) != (set(), {calling}):
                break
        await calling
    [event] = events(caplog)
    assert (event["tool"], event["outcome"]) == ("wait", "cancelled")


async def test_what_no_handler_has_seen_is_no_call(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(), http:
        client = RawClient(session_id="unknown")
        answer = await http.post("/mcp", json=client.request("ping"), headers=client.headers())
        assert answer.status_code == 404
        assert (await http.get("/mcp", headers={"accept": "text/html"})).status_code == 200
    assert events(caplog) == []


@pytest.mark.parametrize("modern", [False, True])
async def test_the_address_is_the_client_s_behind_a_proxy(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, modern: bool
) -> None:
    with endpoint(SERVER=f"{HERE}.server", MIDDLEWARE=OURS, TRUSTED_PROXIES=["192.0.2.0/24"]):
        async with serving(), http:
            client = RawClient() if modern else await opened(http)
            params = {"name": "fail", "arguments": {}, **({"_meta": META} if modern else {})}
            more = (
                {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "fail"}
                if modern
                else {}
            )
            headers = client.headers(x_forwarded_for="198.51.100.1, 203.0.113.9", **more)
            await http.post("/mcp", json=client.request("tools/call", params), headers=headers)
    [event] = events(caplog)
    assert event["address"] == "203.0.113.9"


def test_an_event_is_short_and_says_no_more_than_a_tenth_of_a_millisecond() -> None:
    request = SimpleNamespace(
        principal="user:1",
        session="0123456789abcdef",
        client="c" * 101,
        client_version="v" * 101,
        call="tools/call:add",
        tool="add",
    )
    ended: Any = SimpleNamespace(request=request, outcome="ok", code=None, ms=12.3456)
    assert _described(ended) == {
        "principal": "user:1",
        "session": "0123456789ab",
        "client": "c" * 100,
        "client_version": "v" * 100,
        "method": "tools/call",
        "tool": "add",
        "outcome": "ok",
        "code": None,
        "ms": 12.3,
    }
