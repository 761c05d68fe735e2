"""What one endpoint does in the phases of a process's end, in the test's own process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.server.lowlevel.server import Server
from mcp_types import EmptyResult, NotificationParams, RequestParams

from mcp_sessions import lifecycle
from mcp_sessions.http import lookup
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.serving.runtime import runtime_for
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.transport.asgi import Message
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import META, MODERN, answer_of

#: Seconds that anything may take.
BOUND = 10
#: Seconds after which a drain that is not over waits.
WAITS = 0.1

server: Server[Any] = Server("drained")


class Handler:
    """Of a notification."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.outcome = "none"

    async def __call__(self, _: Any, __: Any) -> None:
        self.began.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "finished"


async def agree(_: Any, __: Any) -> EmptyResult:
    return EmptyResult()


server.add_request_handler("custom/agree", RequestParams, agree)


@pytest.fixture
def handler() -> Handler:
    handler = Handler()
    server.add_notification_handler("notifications/custom", NotificationParams, handler)
    return handler


@pytest.fixture
async def http(handler: Handler) -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.serving.test_drain.server"):
        async with serving(), asyncio.timeout(BOUND), http_client() as http:
            yield http
            handler.may_end.set()


async def test_the_drain_waits_for_the_handlers_of_notifications(
    http: httpx2.AsyncClient, handler: Handler
) -> None:
    client = await opened(http)
    await post(http, client, {"jsonrpc": "2.0", "method": "notifications/custom"})
    await handler.began.wait()
    draining = asyncio.create_task(lifecycle.drain(BOUND))
    done, _ = await asyncio.wait([draining], timeout=WAITS)
    assert not done
    handler.may_end.set()
    await draining
    assert handler.outcome == "finished"


async def test_what_outlasts_the_drain_is_cancelled(http: httpx2.AsyncClient, handler: Handler) -> None:
    client = await opened(http)
    await post(http, client, {"jsonrpc": "2.0", "method": "notifications/custom"})
    await handler.began.wait()
    await lifecycle.drain(0)
    assert handler.outcome == "none"
    await lifecycle.abort(BOUND)
    assert handler.outcome == "cancelled"


async def test_while_it_drains_a_process_answers_requests_and_opens_no_stream_that_listens(
    http: httpx2.AsyncClient,
) -> None:
    client = await opened(http)
    await lifecycle.drain(BOUND)
    assert answer_of(await post(http, client, client.request("custom/agree")))["result"] == {}
    listening = await http.get(
        url_of(), headers=client.headers(accept="text/event-stream", content_type=None)
    )
    assert (listening.status_code, listening.headers["retry-after"]) == (503, "1")
    wanted = client.request("subscriptions/listen", {"notifications": {}, "_meta": META})
    headers = client.headers(
        mcp_protocol_version=MODERN, mcp_method="subscriptions/listen", mcp_session_id=None
    )
    modern = await http.post(url_of(), json=wanted, headers=headers)
    assert (modern.status_code, modern.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("how", ["stopped", "drained by an operator"])
@pytest.mark.parametrize("away", [False, True])
async def test_a_stream_that_is_being_opened_when_the_drain_begins_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, how: str, away: bool
) -> None:
    """The drain closes the streams that are open; the client waited for the store meanwhile."""

    async def drain() -> None:
        if how == "stopped":
            await lifecycle.drain(BOUND)
        else:
            (await runtime_for("default")).operating.drain(drains=True, by="somebody")

    async def take_over(open_streams: OpenStreams, *about: Any, **more: Any) -> Any:
        reader = await taking_over(open_streams, *about, **more)
        await drain()
        return reader

    async def touch(*about: Any, **more: Any) -> Any:
        session: Any = await touching(*about, **more)
        await drain()
        return session._replace(is_stored=False)

    taking_over, touching = OpenStreams.take_over, lookup.touch
    with endpoint(SERVER="tests.serving.test_drain.server"):
        async with serving(), http_client() as http:
            client = await opened(http)
            if away:
                monkeypatch.setattr(lookup, "touch", touch)
            else:
                monkeypatch.setattr(OpenStreams, "take_over", take_over)
            headers = client.headers(accept="text/event-stream", content_type=None)
            try:
                async with asyncio.timeout(BOUND / 4):
                    answer = await http.get(url_of(), headers=headers)
            finally:
                lifecycle.take_on_nothing(drains=False)
            assert answer.status_code == 200
            assert "retry:" in answer.text, "the client is to come back"


async def test_a_client_of_the_modern_era_that_does_not_read_holds_up_no_answer_of_an_abort(
    http: httpx2.AsyncClient,
) -> None:
    began, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def hold(_: Any, __: Any) -> EmptyResult:
        began.release()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # as a handler in a thread
                await may_end.wait()
        return EmptyResult()

    async def receive() -> Message:
        return messages.pop() if messages else await asyncio.Future()

    async def send(_: Message) -> None:
        await may_end.wait()

    server.add_request_handler("custom/hold", RequestParams, hold)
    client = await opened(http)
    message = client.request("custom/hold", {"_meta": META})
    messages: list[Message] = [{"type": "http.request", "body": json.dumps(message).encode()}]
    headers = client.headers(mcp_protocol_version=MODERN, mcp_method="custom/hold", mcp_session_id=None)
    scope = {
        "type": "http",
        "method": "POST",
        "asgi": {"version": "3.0"},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()]
        + [(b"host", b"testserver")],
    }
    modern = asyncio.ensure_future(MCPEndpoint.as_asgi("default")(scope, receive, send))
    handshake = asyncio.create_task(post(http, client, client.request("custom/hold")))
    for _ in range(2):
        await began.acquire()
    aborting = asyncio.create_task(lifecycle.abort(BOUND))
    await asyncio.wait([handshake], timeout=BOUND / 2)
    may_end.set()
    await aborting
    assert "error" in answer_of(handshake.result())
    await asyncio.wait([modern])
