"""Our daphne's `send` over Twisted's own HTTP channel, with a connection that the test fills and empties."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions.daphne import Server  # isort: skip  # first: it chooses Twisted's reactor
from daphne.http_protocol import HTTPFactory
from daphne.server import Server as DaphneServer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mcp_sessions.daphne import backpressure
from mcp_sessions.daphne.backpressure import PART_BYTES
from mcp_sessions.transport.event_stream import PACED, max_bytes

#: Only half of its functions have type hints, and some of them are wrong.
Transport: Any = StringTransport
Send = Callable[[dict[str, Any]], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": []}
#: Turns of the event loop after which everything has happened that does not wait for a client.
TURNS = 20


class Connection(Transport):  # type: ignore[misc]  # see above
    """Holds what is written to it until it is told to pass it on; pauses its producer as Twisted's sockets do."""

    def __init__(self) -> None:
        super().__init__()
        self.producer: Any = None
        self.held = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.held += len(data)
        if self.held > PART_BYTES and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:  # noqa: N802 - Twisted's name
        self.write(b"".join(iovec))

    @property
    def written(self) -> bytes:
        return bytes(self.io.getvalue())

    def pass_on(self) -> None:
        self.held = 0
        self.producer.resumeProducing()

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        self.producer = None

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = True


class Harness:
    """A server with one connection, and an application that leaves `send` to the test."""

    def __init__(self, **options: Any) -> None:
        self.server = Server(self._application, endpoints=["unused"], **options)
        self.server.connections = {}
        self.connection = Connection()
        self.clock = Clock()
        self.channel = HTTPFactory(self.server).buildProtocol(None)
        self.channel.callLater = self.clock.callLater
        self.channel.makeConnection(self.connection)
        self.sends: list[Send] = []
        self.scopes: list[Any] = []

    async def _application(self, scope: Any, receive: Any, send: Send) -> None:
        self.scopes.append(scope)
        self.sends.append(send)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def asks(self, *headers: bytes) -> Send:
        """Send a request, and give its `send` with the response started."""
        self.channel.dataReceived(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""]))
        await turns()
        await self.sends[-1](START)
        return self.sends[-1]

    def hangs_up(self) -> None:
        self.channel.connectionLost(None)


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def body(data: bytes, *, last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": not last}


async def begun(sending: Awaitable[None]) -> "asyncio.Future[None]":
    """A send that got as far as it could."""
    task = asyncio.ensure_future(sending)
    await turns()
    return task


@pytest.fixture
def harness() -> Harness:
    return Harness()


async def test_a_client_that_keeps_up_is_not_waited_for(harness: Harness) -> None:
    send = await harness.asks()
    await send(body(b"x" * PART_BYTES))
    harness.connection.pass_on()
    await send(body(b"end", last=True))
    assert harness.connection.written.endswith(b"end\r\n0\r\n\r\n")


async def test_a_large_body_leaves_part_by_part(harness: Harness) -> None:
    send = await harness.asks(b"Connection: close")
    sending = await begun(send(body(b"x" * 5 * PART_BYTES, last=True)))
    for parts in range(1, 6):
        assert not sending.done()
        assert harness.connection.written.count(b"x") == parts * PART_BYTES
        harness.connection.pass_on()
        await turns()
    assert sending.done()
    assert harness.connection.written.endswith(b"0\r\n\r\n")
    assert not harness.connection.aborted, "it reads, if slowly"


async def test_the_next_request_of_a_connection_waits_for_the_last_answer(harness: Harness) -> None:
    send = await harness.asks()
    sending = await begun(send(body(b"x" * 2 * PART_BYTES, last=True)))
    harness.channel.dataReceived(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    harness.connection.pass_on()
    await turns()
    assert len(harness.sends) == 1
    harness.connection.pass_on()
    await turns()
    assert sending.done()
    assert len(harness.sends) == 2


async def test_all_senders_that_wait_for_one_connection_are_released_together(harness: Harness) -> None:
    send = await harness.asks()
    await send(body(b"x" * PART_BYTES))
    first, second = await begun(send(body(b"one"))), await begun(send(body(b"two")))
    given_up = await begun(send(body(b"three")))
    given_up.cancel()
    await turns()
    assert not first.done()
    assert not second.done()
    harness.connection.pass_on()
    await turns()
    assert harness.connection.written.endswith(b"one\r\n3\r\ntwo\r\n")


async def test_a_client_that_hangs_up_releases_waiting_senders_and_leaves_nothing(harness: Harness) -> None:
    send = await harness.asks()
    waiting = await begun(send(body(b"x" * 5 * PART_BYTES)))
    harness.hangs_up()
    await turns()
    assert waiting.done()
    assert not harness.connection.aborted
    assert harness.server.connections == {}
    assert harness.clock.getDelayedCalls() == []
    await send(body(b"late", last=True))


async def test_a_client_that_takes_nothing_in_time_is_cut_off() -> None:
    harness = Harness(send_seconds=0)
    send = await harness.asks()
    waiting = asyncio.ensure_future(send(body(b"x" * 5 * PART_BYTES)))
    async with asyncio.timeout(10):
        while not harness.connection.aborted:
            await asyncio.sleep(0)
    harness.hangs_up()
    async with asyncio.timeout(10):
        await waiting
    assert harness.connection.written.count(b"x") == PART_BYTES


@pytest.mark.parametrize(("header", "cut_off"), [(b"Connection: close", True), (b"Accept: */*", False)])
async def test_a_connection_that_is_to_close_gets_the_same_time_for_its_last_bytes(
    header: bytes, *, cut_off: bool
) -> None:
    harness = Harness(send_seconds=5)
    send = await harness.asks(header)
    await send(body(b"all", last=True))
    harness.clock.advance(4)
    assert not harness.connection.aborted
    harness.clock.pump([1, 0])
    assert harness.connection.aborted is cut_off
    assert (harness.channel._channel.abortTimeout == 0) is cut_off, "at once then"


async def test_a_response_that_has_not_ended_may_take_its_time() -> None:
    harness = Harness(send_seconds=5)
    send = await harness.asks(b"Connection: close")
    for _ in range(2):
        harness.clock.pump([5, 5])
        await send(body(b"not all"))
        assert not harness.connection.aborted
    await send(body(b"all", last=True))
    harness.clock.pump([5, 0])
    assert harness.connection.aborted


@pytest.mark.parametrize("size", [3, 2 * PART_BYTES])
async def test_a_body_that_does_not_say_that_more_follows_is_the_last(size: int) -> None:
    harness = Harness(send_seconds=5)
    send = await harness.asks(b"Connection: close")
    sending = await begun(send({"type": "http.response.body", "body": b"x" * size}))
    while not sending.done():
        harness.connection.pass_on()
        await turns()
    assert harness.connection.written.endswith(b"0\r\n\r\n")
    assert harness.connection.written.count(b"x") == size
    harness.clock.pump([5, 0])
    assert harness.connection.aborted


async def test_a_connection_that_is_gone_or_of_another_protocol_is_not_behind_and_not_limited(
    harness: Harness,
) -> None:
    for protocol in (SimpleNamespace(), SimpleNamespace(channel=None), SimpleNamespace(channel=object())):
        assert not backpressure.is_behind(protocol)
        harness.server._bound_the_end(protocol)


async def test_the_application_is_told_that_send_waits(harness: Harness) -> None:
    await harness.asks()
    assert PACED in harness.scopes[0]["extensions"]


# HTTP/2, whose transport in Twisted is another one


@pytest.mark.parametrize(
    ("scope", "paced"),
    [
        ({"type": "http", "http_version": "1.1"}, True),
        ({"type": "http", "http_version": "2"}, False),
        ({"type": "websocket"}, False),
    ],
)
async def test_only_http_1_says_that_send_waits(
    harness: Harness, scope: dict[str, Any], *, paced: bool
) -> None:
    protocol = object()
    harness.server.connections[protocol] = {}
    harness.server.create_application(protocol, scope)
    application = harness.server.connections[protocol]["application_instance"]
    await turns()
    assert (PACED in harness.scopes[-1].get("extensions", {})) is paced
    assert (max_bytes(harness.scopes[-1]) == inf) is paced
    harness.server.connections[protocol]["disconnected"] = 0.0
    application.cancel()
    await turns()


@pytest.mark.parametrize(
    ("endpoint", "enabled", "warns"),
    [("ssl:8443", True, True), ("ssl:8443", False, False), ("tcp:80", True, False)],
)
def test_a_server_that_speaks_http_2_warns_at_its_start(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    endpoint: str,
    *,
    enabled: bool,
    warns: bool,
) -> None:
    monkeypatch.setattr(backpressure, "H2_ENABLED", enabled)
    monkeypatch.setattr(DaphneServer, "run", lambda _: None)
    Server(None, endpoints=[endpoint]).run()
    assert ("HTTP/2 is enabled" in caplog.text) is warns
