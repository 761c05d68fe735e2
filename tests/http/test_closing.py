"""The end of a session: DELETE is answered after its GET streams in the same process, and no new one is opened."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from mcp_sessions.ending import aend_session
from mcp_sessions.http import closing
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.transport.asgi import Message
from mcp_sessions.transport.event_ids import STANDALONE, EventId
from tests.support.asgi import endpoint, opened
from tests.support.mcp_client import RawClient


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint():
        async with serving(), asyncio.timeout(20), http_client() as http:
            yield http


class Connection:
    """One request whose connection takes the end of its response when the test allows it."""

    def __init__(self, client: RawClient, method: str, log: list[str]) -> None:
        headers = {"host": "testserver", **client.headers(accept="text/event-stream")}
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "method": method,
            "path": "/mcp",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._log = log
        self.ending, self.may_end, self.started = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(
            MCPEndpoint.as_asgi("default")(self._scope, self.receive, self.send)
        )

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.started.set()
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ending.set()
            await self.may_end.wait()
            self._log.append(self._scope["method"])


@pytest.mark.protocol("H26")
async def test_the_answer_to_delete_leaves_after_the_streams_have_closed(http: httpx2.AsyncClient) -> None:
    client, log = await opened(http), list[str]()
    streams = [Connection(client, "GET", log) for _ in range(2)]
    for stream in streams:
        await stream.started.wait()
    delete = Connection(client, "DELETE", log)
    delete.may_end.set()
    for stream in streams:
        await stream.ending.wait()
    done, _ = await asyncio.wait([delete.task], timeout=0.1)
    assert not done
    for stream in streams:
        stream.may_end.set()
    await asyncio.gather(delete.task, *(stream.task for stream in streams))
    assert log == ["GET", "GET", "DELETE"]


async def test_the_answer_to_delete_does_not_wait_for_streams_that_have_closed(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, log = await opened(http), list[str]()
    streams = [Connection(client, "GET", log) for _ in range(2)]
    for stream in streams:
        stream.may_end.set()
        await stream.started.wait()

    async def end_and_announce(*arguments: Any, **options: Any) -> Any:
        """Redis takes long enough for the streams to close meanwhile."""
        ended = await aend_session(*arguments, **options)
        await asyncio.gather(*(stream.task for stream in streams))
        return ended

    monkeypatch.setattr(closing, "CLOSE_SECONDS", None)  # as long as it takes
    monkeypatch.setattr(closing, "aend_session", end_and_announce)
    delete = Connection(client, "DELETE", log)
    delete.may_end.set()
    await asyncio.wait_for(delete.task, 5)
    assert log == ["GET", "GET", "DELETE"]


async def test_the_answer_to_delete_does_not_wait_long_for_a_slow_reader(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "CLOSE_SECONDS", 0.05)
    client, log = await opened(http), list[str]()
    stream = Connection(client, "GET", log)
    await stream.started.wait()
    delete = Connection(client, "DELETE", log)
    delete.may_end.set()
    await delete.task
    stream.may_end.set()
    await stream.task
    assert log == ["DELETE", "GET"]


@pytest.mark.parametrize("resumes", [True, False])
async def test_who_asks_for_a_stream_of_a_session_that_ends_at_that_moment_gets_404(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, resumes: bool
) -> None:
    client = await opened(http)
    store = (await runtime_for("default")).context.store
    run = store.run

    async def run_after_an_end(work: Any, /) -> Any:
        if isinstance(work, Call) and work.script is streams.CLAIM:
            await run(sessions.end(client.fingerprint, principal=None, reason="deleted"))
        return await run(work)

    monkeypatch.setattr(store, "run", run_after_an_end)
    last = str(EventId.of(client.fingerprint, STANDALONE, 1)) if resumes else None
    headers = client.headers(accept="text/event-stream", content_type=None, last_event_id=last)
    assert (await http.get(url_of(), headers=headers)).status_code == 404
