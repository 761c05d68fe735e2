"""What waits for the store counts against the caps: a store that hangs does not collect requests without limit."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.testing import http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient, cancelling

IN_ALL = 5


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    keys = {"MAX_REQUESTS": IN_ALL, "MAX_STREAMS": IN_ALL}
    with endpoint(SERVER="tests.served.everything.server", **keys):
        async with serving(), asyncio.timeout(20), http_client() as http:
            yield http


class Hung:
    """A store that does not answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.back = asyncio.Event()


@asynccontextmanager
async def hung_store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hung]:
    store, hung = (await runtime_for("default")).context.store, Hung()
    run = store.run

    async def wait(call: Any) -> Any:
        hung.asked += 1
        await hung.back.wait()
        return await run(call)

    with monkeypatch.context() as patched:
        patched.setattr(store, "run", wait)
        yield hung
        hung.back.set()


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


async def test_requests_that_wait_for_the_store_are_bounded(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await opened(http)
    async with hung_store(monkeypatch) as hung:
        tasks = [asyncio.create_task(post(http, client, client.request("ping"))) for _ in range(IN_ALL)]
        await until(lambda: hung.asked == IN_ALL)
        opening = RawClient()
        for message in (
            client.request("ping"),
            {"jsonrpc": "2.0", "method": "notifications/x"},
            {"jsonrpc": "2.0", "id": "q0123456789abcdef", "result": {}},
            opening.initialize_message(),
        ):
            refused = await post(http, client, message)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert hung.asked == IN_ALL, "the store is not asked"
        hung.back.set()
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200] * IN_ALL
    assert (await post(http, client, client.request("ping"))).status_code == 200


async def test_streams_that_wait_for_the_store_are_bounded(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await opened(http)
    headers = client.headers(accept="text/event-stream")
    async with hung_store(monkeypatch) as hung:
        tasks = [asyncio.create_task(http.get(url_of(), headers=headers)) for _ in range(IN_ALL)]
        await until(lambda: hung.asked == IN_ALL)
        assert (await http.get(url_of(), headers=headers)).status_code == 503
        assert hung.asked == IN_ALL
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    runtime = await runtime_for("default")
    await until(lambda: runtime.admission.open_stream())


async def next_message(lines: AsyncIterator[str]) -> dict[str, Any]:
    """The next message of an event stream."""
    while not (line := await anext(lines)).startswith("data: {"):
        pass
    message: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return message


async def test_a_reply_and_a_cancellation_are_taken_where_no_more_requests_are(
    http: httpx2.AsyncClient,
) -> None:
    client = await opened(http)
    calls = [
        client.request("tools/call", {"name": "ask_age", "arguments": {"name": "x"}}) for _ in range(IN_ALL)
    ]
    async with AsyncExitStack() as stack:
        streams = []
        for call in calls:
            request = http.stream("POST", url_of(), json=call, headers=client.headers())
            streams.append((await stack.enter_async_context(request)).aiter_lines())
        questions = [await next_message(stream) for stream in streams]
        assert (await post(http, client, client.request("ping"))).status_code == 503
        assert (await post(http, client, cancelling(calls[0]))).status_code == 202
        for question in questions[1:]:
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
            assert (await post(http, client, reply)).status_code == 202
        for stream in streams[1:]:
            assert "decline" in str(await next_message(stream))
        assert "cancelled" in str([await next_message(streams[0]), await next_message(streams[0])])
