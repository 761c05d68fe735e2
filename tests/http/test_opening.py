"""What `initialize` answers, and what it leaves in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx2
import pytest

from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, post
from tests.support.mcp_client import RawClient, events, message_of


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(), asyncio.timeout(20), http_client() as http:
        yield http


@pytest.mark.protocol("H7", "H22")
@pytest.mark.parametrize("response", ["auto", "sse", "json"])
async def test_initialize_is_answered_in_the_form_that_the_setting_says(
    http: httpx2.AsyncClient, response: str
) -> None:
    with endpoint(RESPONSE=response):
        client = RawClient()
        for wanted, expected in (({}, "result"), ({"capabilities": 7}, "error")):
            answer = await post(http, client, client.initialize_message(**wanted))
            assert answer.status_code == 200
            if response == "sse":
                assert answer.headers["content-type"] == "text/event-stream"
                [event] = events(answer)
                message = message_of(event)
                assert event.id == "", "there is nothing to resume"
            else:
                assert answer.headers["content-type"] == "application/json"
                message = answer.json()
            assert expected in message
            assert ("mcp-session-id" in answer.headers) == (expected == "result")


async def test_what_a_client_calls_itself_is_logged_short_and_harmless(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mcp_sessions")
    name = "\x1b[31m\r\nERROR forged \u202e\u2028" + "x" * 10_000
    with endpoint():
        client = RawClient()
        answer = await post(
            http, client, client.initialize_message(clientInfo={"name": name, "version": "1"})
        )
    assert "mcp-session-id" in answer.headers
    [record] = [each for each in caplog.records if "initialized by" in each.getMessage()]
    line = record.getMessage()
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300
    assert r"\x1b[31m\r\nERROR forged \u202e\u2028xxx" in line


async def test_what_a_client_calls_a_prompt_is_logged_short(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mcp_sessions")
    with endpoint(SERVER="tests.served.everything.server"):
        client = RawClient()
        client.session_id = (await post(http, client, client.initialize_message())).headers["mcp-session-id"]
        asked = client.request("prompts/get", {"name": "\x1b" + "x" * 20_000})
        assert (await post(http, client, asked)).status_code == 200
    assert [r for r in caplog.records if "prompts/get" in r.getMessage()]
    assert max(len(record.getMessage()) for record in caplog.records) < 300
