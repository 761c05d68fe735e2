"""What outages and clients leave in the log: few lines, however many requests there are."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer

from mcp_sessions import current_session, repeats
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.testing import http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient, answer_of

REFUSED = 1_000

server: MCPServer[Any] = MCPServer("outage")


@server.tool()
async def remember() -> None:
    await current_session().state.set("name", "value")


@server.tool()
def remember_in_a_thread() -> None:
    current_session().state_sync.set("name", "value")


@server.tool()
async def pass_on() -> None:
    raise StoreUnavailable("as from a task queue") from OSError("refused")


@server.tool()
async def remember_much() -> None:
    await current_session().state.set("name", "x" * 300_000)


@server.tool()
async def remember_later() -> None:
    running.set()
    await go_on.wait()
    await current_session().state.set("name", "value")


#: `remember_later` runs, and may go on.
running, go_on = asyncio.Event(), asyncio.Event()


@server.tool()
async def fail() -> None:
    raise RuntimeError("the tool's own")


@server.prompt()
async def prompt() -> str:
    await current_session().state.set("name", "value")
    return "?"


@server.prompt()
async def failing_prompt() -> str:
    raise RuntimeError("the prompt's own")


@server.resource("outage://state")
async def resource() -> str:
    await current_session().state.set("name", "value")
    return "?"


@pytest.fixture
async def http(caplog: pytest.LogCaptureFixture) -> AsyncIterator[httpx2.AsyncClient]:
    caplog.set_level(logging.INFO)
    with endpoint(SERVER="tests.http.test_outage_logs.server"):
        async with serving(), asyncio.timeout(60), http_client() as http:
            yield http


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated messages count as a new outage after a second."""
    monkeypatch.setattr(repeats, "QUIET_SECONDS", 1.0)


async def lose_the_store(monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    """From here on every call fails; with scripts, only those."""
    store = (await runtime_for("default")).context.store
    run = store.run

    async def refuse(call: Any) -> Any:
        if not scripts or getattr(getattr(call, "script", None), "name", "") in scripts:
            try:
                raise ConnectionRefusedError(111, "refused")
            except OSError as error:
                raise StoreUnavailable("refused") from error
        return await run(call)

    monkeypatch.setattr(store, "run", refuse)


def lines(caplog: pytest.LogCaptureFixture, level: int, logger: str = "mcp_sessions") -> list[str]:
    records = [each for each in caplog.records if each.name.startswith(logger) and each.levelno >= level]
    return [each.getMessage() for each in records]


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


async def test_a_thousand_refused_requests_are_one_warning_and_a_number(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    client = await opened(http)
    with monkeypatch.context() as patched:
        await lose_the_store(patched)
        for _ in range(REFUSED):
            assert (await post(http, client, client.request("ping"))).status_code == 503
    assert (await post(http, client, client.request("ping"))).status_code == 200
    [refused] = lines(caplog, logging.WARNING, "mcp_sessions.http")
    assert "cannot be reached" in refused
    await until(lambda: any(f"{REFUSED} in" in line for line in lines(caplog, logging.WARNING)))
    with monkeypatch.context() as patched:
        await lose_the_store(patched)
        await post(http, client, client.request("ping"))
    assert len(lines(caplog, logging.WARNING, "mcp_sessions.http")) == 3, "the next outage has its own"


async def test_a_full_endpoint_warns_once(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, quiet: None
) -> None:
    with endpoint(SERVER="tests.http.test_outage_logs.server", MAX_SESSIONS=1):
        await opened(http)
        for _ in range(20):
            client = RawClient()
            assert (await post(http, client, client.initialize_message())).status_code == 503
    assert len(lines(caplog, logging.WARNING, "mcp_sessions.http")) == 1
    await until(lambda: any("20 in" in line for line in lines(caplog, logging.WARNING)))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "remember", "arguments": {}}),
        ("tools/call", {"name": "remember_in_a_thread", "arguments": {}}),
        ("tools/call", {"name": "pass_on", "arguments": {}}),
        ("prompts/get", {"name": "prompt"}),
        ("resources/read", {"uri": "outage://state"}),
    ],
)
async def test_handlers_that_miss_the_store_leave_one_warning_and_no_traceback(
    http: httpx2.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    quiet: None,
    method: str,
    params: dict[str, Any],
) -> None:
    client = await opened(http)
    with monkeypatch.context() as patched:
        await lose_the_store(patched, "state_set")
        for _ in range(20):
            answer = answer_of(await post(http, client, client.request(method, params)))
            assert "error" in answer or answer["result"]["isError"]
    assert [record for record in caplog.records if record.exc_info] == []
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1
    await until(lambda: any("20 in" in line for line in lines(caplog, logging.WARNING)))


@pytest.mark.parametrize(
    ("method", "params", "text"),
    [
        ("tools/call", {"name": "fail", "arguments": {}}, "the tool's own"),
        ("prompts/get", {"name": "failing_prompt"}, "the prompt's own"),
    ],
)
async def test_a_failing_handler_leaves_one_traceback(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, method: str, params: dict[str, Any], text: str
) -> None:
    client = await opened(http)
    answer = answer_of(await post(http, client, client.request(method, params)))
    assert text not in str(answer)
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    written = logging.Formatter().format(record)
    assert written.count("Traceback (most recent call last)") == 1
    assert text in written


async def test_a_client_that_fills_its_state_leaves_no_traceback(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = await opened(http)
    answer = await post(
        http, client, client.request("tools/call", {"name": "remember_much", "arguments": {}})
    )
    assert answer_of(answer)["result"]["isError"]
    assert [record for record in caplog.records if record.exc_info] == []
    assert any("STATE_MAX_BYTES" in line for line in lines(caplog, logging.INFO, "mcp_sessions.sdk"))


async def test_a_client_that_ends_its_session_under_a_tool_leaves_no_traceback(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = await opened(http)
    call = client.request("tools/call", {"name": "remember_later", "arguments": {}})
    answering = asyncio.create_task(post(http, client, call))
    await running.wait()
    headers = client.headers(content_type=None)
    assert (await http.delete(url_of(), headers=headers)).status_code == 204
    go_on.set()
    await answering
    assert [record for record in caplog.records if record.exc_info] == []
    assert any("session is gone" in line for line in lines(caplog, logging.INFO, "mcp_sessions.sdk"))
