"""What our daphne does with a connection when its application ends, in the test's own process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import daphne  # isort: skip  # first: it chooses Twisted's reactor
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server as DaphneServer
from daphne.ws_protocol import WebSocketProtocol

from mcp_sessions.daphne import Server
from tests.daphne.test_send import START, Connection, body, turns

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Harness:
    """A server with one connection, and an application that does what the test says."""

    def __init__(self, application: Callable[[Send], Awaitable[None]], **options: Any) -> None:
        self.server = Server(self._application, endpoints=["unused"], **options)
        self.server.connections = {}
        self.connection = Connection()
        self.scopes: list[Any] = []
        self._run = application
        self.channel = HTTPFactory(self.server).buildProtocol(None)
        self.channel.makeConnection(self.connection)

    async def _application(self, scope: Any, receive: Any, send: Send) -> None:
        self.scopes.append(scope)
        await self._run(send)

    async def asks(self, *headers: bytes) -> bytes:
        """Send a request; what is answered."""
        self.channel.dataReceived(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""]))
        await turns()
        return self.connection.written


async def answers(send: Send) -> None:
    await send(START)
    await send(body(b"fine", last=True))


async def says_nothing(_: Send) -> None:
    """Ends without a response."""


async def raises(_: Send) -> None:
    raise ZeroDivisionError("inside")


async def is_cancelled(_: Send) -> None:
    raise asyncio.CancelledError


async def raises_later(send: Send) -> None:
    await send(START)
    await send(body(b"chunk"))
    raise ZeroDivisionError("inside")


@pytest.mark.parametrize(
    ("application", "status", "is_logged"),
    [
        (answers, b"200", False),
        (says_nothing, b"500", False),
        (raises, b"500", True),
        (is_cancelled, b"503", False),
    ],
)
async def test_every_request_is_answered_once_and_forgotten(
    caplog: pytest.LogCaptureFixture, application: Any, status: bytes, *, is_logged: bool
) -> None:
    harness = Harness(application)
    answer = await harness.asks()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert harness.server.connections == {}
    assert ("Exception inside application: inside" in caplog.text) is is_logged
    assert [each.exc_info is not None for each in caplog.records if each.levelno == logging.ERROR] == (
        [True] * is_logged
    )


async def test_a_response_that_has_begun_is_cut_off() -> None:
    harness = Harness(raises_later)
    answer = await harness.asks()
    assert b"chunk" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert harness.connection.disconnecting


@pytest.mark.parametrize("draining", [False, True])
async def test_while_it_drains_a_connection_closes_after_its_answer(*, draining: bool) -> None:
    harness = Harness(answers)
    harness.server.draining = draining
    answer = await harness.asks()
    assert (b"connection: close" in answer.lower()) is draining
    assert harness.connection.disconnecting is draining


async def test_the_root_path_is_the_servers_and_no_clients() -> None:
    harness = Harness(answers, root_path="/app")
    await harness.asks(b"Daphne-Root-Path: /forged")
    assert [scope["root_path"] for scope in harness.scopes] == ["/app"]


async def test_a_form_is_left_to_the_application() -> None:
    """Twisted would parse it, and refuse what is none."""
    harness = Harness(answers)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
    harness.channel.dataReceived(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\nnot a part")
    await turns()
    assert harness.connection.written.startswith(b"HTTP/1.1 200")


def ended(error: BaseException | None = None) -> Any:
    """An application that has ended."""
    application = mock.Mock()
    application.cancelled.return_value = isinstance(error, asyncio.CancelledError)
    application.exception.return_value = error
    return application


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 1000), (ZeroDivisionError("inside"), 1011), (asyncio.CancelledError(), 1001)],
)
def test_a_websocket_is_closed_with_the_code_of_how_its_application_ended(
    monkeypatch: pytest.MonkeyPatch, error: Any, code: int
) -> None:
    closed: list[tuple[Any, int]] = []
    monkeypatch.setattr(daphne, "_close_websocket", lambda protocol, code: closed.append((protocol, code)))
    server, left = Server(None, endpoints=["unused"]), object()
    server.connections = {"open": {}, "gone": {"disconnected": 1.0}, left: {}}
    for protocol in ("open", "gone", "unknown"):
        server._finish(protocol, ended(error))
    assert closed == [("open", code)]
    assert server.connections == {left: {}}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_what_ends_the_server_is_left_to_daphne(error: BaseException) -> None:
    server = Server(None, endpoints=["unused"])
    server.connections = {"open": {}}
    server._finish("open", ended(error))
    assert server.connections == {"open": {}}


@pytest.mark.parametrize(("code", "status"), [(1001, 503), (1000, 500), (1011, 500)])
def test_a_websocket_is_closed_if_it_is_open_and_refused_if_it_waits(code: int, status: int) -> None:
    is_open = mock.Mock(state=3, STATE_OPEN=3)
    daphne._close_websocket(is_open, code)
    is_open.sendCloseFrame.assert_called_once_with(code=code)
    deferred = mock.Mock()
    waiting = mock.Mock(state=1, STATE_OPEN=3, handshake_deferred=deferred)
    daphne._close_websocket(waiting, code)
    [call] = deferred.errback.call_args_list
    assert call.args[0].code == status
    assert not hasattr(waiting, "handshake_deferred")
    waiting.server.protocol_disconnected.assert_called_once_with(waiting)
    closing = mock.Mock(state=2, STATE_OPEN=3, spec=["state", "STATE_OPEN", "sendCloseFrame", "server"])
    daphne._close_websocket(closing, code)
    assert not closing.sendCloseFrame.called
    assert not closing.server.protocol_disconnected.called


def test_the_drain_closes_every_websocket_and_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[tuple[Any, int]] = []
    sockets = [mock.Mock(spec=WebSocketProtocol) for _ in range(2)]
    server = Server(None, endpoints=["unused"])
    server.connections = {sockets[0]: {}, mock.Mock(spec=WebRequest): {}, sockets[1]: {}}

    def close(protocol: Any, code: int) -> None:
        closed.append((protocol, code))
        del server.connections[protocol]

    monkeypatch.setattr(daphne, "_close_websocket", close)
    server._close_websockets()
    assert closed == [(socket, 1001) for socket in sockets]


def test_the_end_of_a_connection_that_is_forgotten_already_is_no_error() -> None:
    server = Server(None, endpoints=["unused"])
    server.connections = {"open": {}}
    server.protocol_disconnected("forgotten")
    server.protocol_disconnected("open")
    assert "disconnected" in server.connections["open"]


def test_a_websocket_that_cannot_be_closed_does_not_end_the_loop_that_reaps_applications(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reactor = mock.Mock()
    monkeypatch.setattr(daphne, "reactor", reactor)
    monkeypatch.setattr(DaphneServer, "application_checker", mock.Mock(side_effect=ZeroDivisionError))
    runs, done = mock.Mock(), mock.Mock()
    runs.done.return_value, done.done.return_value = False, True
    server = Server(None, endpoints=["unused"])
    server.connections = {
        "half sent": {},
        "runs": {"application_instance": runs},
        "done": {"application_instance": done},
    }
    server.application_checker()
    assert server.connections == {"half sent": {}, "runs": {"application_instance": runs}, "done": {}}
    reactor.callLater.assert_called_once_with(1, server.application_checker)
    assert "Cannot reap an application that has ended." in caplog.text


async def test_ports_are_closed_after_all_that_waits_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(daphne, "reactor", SimpleNamespace(callLater=lambda *about: said.append(about)))
    monkeypatch.setattr(daphne, "_close_after_response", said.append)

    def stop_listening(name: str) -> Callable[[], None]:
        return lambda: said.append(f"{name} closes")

    ports = [
        SimpleNamespace(doRead=f"read {n}", stopListening=stop_listening(n), numberAccepts=1) for n in "ab"
    ]
    request = mock.Mock(spec=WebRequest)
    server = Server(None, endpoints=["unused"])
    server._ports, server.connections = ports, {request: {}, "websocket": {}}
    await server._stop_listening()
    assert said == [(0, "read a"), "a closes", (0, "read b"), "b closes", request]
    assert [port.numberAccepts for port in ports] == [10_000] * 2
    assert server.draining
