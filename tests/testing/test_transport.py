"""The transport between a client and an application in one process."""

import asyncio
from typing import Any

import httpx2
import pytest

from mcp_sessions.testing.transport import StreamingTransport, _Exchange
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send

URL = "http://testserver:8000/mcp%20x?a=1"
#: Seconds that anything may take.
BOUND = 10


def start(**headers: str) -> Message:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": pairs}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def client(application: Application, **scope: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=StreamingTransport(application, scope=scope))


async def test_a_request_arrives_as_a_server_would_pass_it_on() -> None:
    scopes: list[Scope] = []
    messages: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        messages.append(await receive())
        await send(start())
        await send(body(b"fine"))

    async with client(application, user="ada") as http:
        answer = await http.post(URL, content=b"{}", headers={"X-Word": "Ann"})
    assert (answer.status_code, answer.text) == (200, "fine")
    [scope] = scopes
    assert (b"x-word", b"Ann") in scope.pop("headers")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp x",
        "raw_path": b"/mcp%20x",
        "query_string": b"a=1",
        "root_path": "",
        "client": ("127.0.0.1", 0),
        "server": ("testserver", 8000),
        "user": "ada",
    }
    assert messages == [{"type": "http.request", "body": b"{}", "more_body": False}]


async def test_the_last_session_that_was_opened_is_known() -> None:
    answers = [start(mcp_session_id="one"), start(), start(mcp_session_id="two"), start()]

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(answers.pop(0))
        await send(body(b""))

    transport = StreamingTransport(application, scope={})
    known: list[str | None] = [transport.session_id]
    async with httpx2.AsyncClient(transport=transport) as http:
        for _ in range(4):
            await http.get(URL)
            known.append(transport.session_id)
    assert known == [None, "one", "one", "two", "two"]


async def test_parts_arrive_as_they_are_sent_and_a_client_that_leaves_is_noticed() -> None:
    heard: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        for part in (b"one", b"", b"two"):
            await send(body(part, more=True))
        heard.append(await receive())
        await send(body(b"nobody hears that", more=True))
        await send(body(b"nor that"))
        heard.append({"type": "answered"})

    async with asyncio.timeout(BOUND), client(application) as http, http.stream("GET", URL) as answer:
        parts = answer.aiter_raw()
        assert [await anext(parts), await anext(parts)] == [b"one", b"two"]
        assert heard == []
    assert heard == [{"type": "http.disconnect"}, {"type": "answered"}]


async def test_a_part_waits_for_its_reader() -> None:
    sent: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for part in ("one", "two"):
            await send(body(part.encode(), more=True))
            sent.append(part)

    async with asyncio.timeout(BOUND), client(application) as http, http.stream("GET", URL) as answer:
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == []
        parts = answer.aiter_raw()
        await anext(parts)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == ["one"]


async def test_a_client_that_leaves_while_a_part_waits_for_it_holds_nothing_up() -> None:
    ended: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"unread", more=True))
        ended.append("application")

    async with asyncio.timeout(BOUND), client(application) as http, http.stream("GET", URL):
        await asyncio.sleep(0)
    assert ended == ["application"]


async def test_a_body_ends_with_its_last_part_although_the_application_goes_on() -> None:
    may_end = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"all"))
        await may_end.wait()

    async with asyncio.timeout(BOUND), client(application) as http:
        assert (await http.get(URL)).text == "all"
        may_end.set()


async def test_what_an_application_raises_before_its_response_is_raised() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with client(application) as http:
        with pytest.raises(ZeroDivisionError):
            await http.get(URL)


async def test_what_an_application_raises_after_the_start_of_its_response_is_its_own_and_ends_the_body() -> (
    None
):
    exchange = _Exchange(b"")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await exchange.run(application, {})
    assert await exchange.started == (204, [])
    assert [part async for part in exchange] == []
    await exchange.aclose()


async def test_nobody_waits_for_an_application_that_is_cancelled_before_its_response() -> None:
    exchange = _Exchange(b"")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await exchange.run(application, {})
    assert exchange.started.cancelled()
    await exchange.aclose()


async def test_a_part_that_says_nothing_of_another_one_is_the_last() -> None:
    may_end = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"all"})
        await may_end.wait()

    async with asyncio.timeout(BOUND), client(application) as http:
        assert (await http.get(URL)).text == "all"
        may_end.set()


async def test_an_application_without_a_response_is_an_error() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        """Says nothing."""

    async with client(application) as http:
        with pytest.raises(RuntimeError, match="ended without a response"):
            await http.get(URL)


async def test_a_client_that_gives_up_before_the_response_is_noticed() -> None:
    heard: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        heard.append(await receive())
        await send(start())
        await send(body(b"nobody hears that"))
        heard.append("answered")

    async with asyncio.timeout(BOUND), client(application) as http:
        asking = asyncio.create_task(http.get(URL))
        while len(asyncio.all_tasks()) < 3:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert heard == [{"type": "http.disconnect"}, "answered"]
