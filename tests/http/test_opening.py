"""What `initialize` answers, and what it leaves in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx2
import pytest

from mcp_sessions.jobs.selection import cut_offs
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.store.calls import sessions, tombstones
from mcp_sessions.store.calls import validity as calls
from mcp_sessions.testing import http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
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


@pytest.mark.parametrize("ahead_ms", [-1_200_000, 1_200_000])
async def test_an_end_holds_if_the_clock_of_the_store_was_set_a_moment_before_the_session_was_opened(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    monkeypatch.setattr(tombstones, "TOMBSTONE_MS", 1)
    with endpoint(ON_MISS="revive"):
        context = (await runtime_for("default")).context
        with monkeypatch.context() as patch:
            patch.setattr(context.node.validity, "ahead_ms", ahead_ms)
            client = await opened(http)
        answer = await http.delete(url_of(), headers=client.headers(content_type=None))
        assert answer.status_code == 204
        while await context.store.run(sessions.end_reason(client.fingerprint)) is not None:
            pass
        assert (await post(http, client, client.request("ping"))).status_code == 404


async def test_a_session_counts_that_is_opened_after_the_clock_was_set_back_behind_the_end_of_all(
    http: httpx2.AsyncClient,
) -> None:
    with endpoint():
        context = (await runtime_for("default")).context
        validity = context.node.validity
        validity.raise_to(validity.now_ms() + 20_000)
        client = await opened(http)
        assert (await post(http, client, client.request("ping"))).status_code == 200
        session = await context.store.run(sessions.get(client.fingerprint))
        assert session is not None
        assert validity.counts(session.created_ms, setting_ms=0)
        await context.store.run(calls.min_created(validity.min_created_ms))
        [cut_off] = cut_offs(["default"]).values()
        assert session.created_ms < cut_off, "an operator can end it"

        moment = await context.store.run(calls.end_all_before_now())
        validity.raise_to(moment.min_created_ms)
        assert (await post(http, client, client.request("ping"))).status_code == 404
        again = await opened(http)
        assert (await post(http, again, again.request("ping"))).status_code == 200
