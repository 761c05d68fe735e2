"""daphne, patched and draining: `python -m mcp_sessions.daphne ARGS`, with every argument of the `daphne` command.

`startup.patch_daphne` puts the same server into the `daphne` command itself. When it listens, it runs start hooks.

On SIGTERM or SIGINT it is no longer ready, stops listening, closes WebSockets with code 1001, runs the
`lifecycle.on_drain` hooks, waits up to `--drain-timeout` seconds for these and for the requests in flight, closes idle
connections, runs the `lifecycle.on_abort` hooks, which answer what is left, waits for those answers, cancels the rest,
runs the `lifecycle.on_shutdown` hooks and exits with 0. Requests that still arrive on open connections are served, and
the connection is closed after the response. A request whose body is still arriving has not reached the application and
is not waited for.

What runs in a thread cannot be cancelled, and Python waits for it. If the process has not ended HARD_END_SECONDS after
the drain, it is ended with 1, and a line in the log says so.

An application's `send` waits while its client does not read (see `backpressure`). A client that reads nothing for
`--send-timeout` seconds is cut off.

What is patched:

- An exception after the response has started no longer kills the loop that reaps applications.
- A half-sent request no longer breaks the shutdown.
- An application that ends without a response, or without closing its WebSocket, no longer leaves its client waiting.
- The header `Daphne-Root-Path`, which any client can send, is ignored.
- Bodies are not parsed before the application receives them.
"""

import argparse
import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

# First: this installs the asyncio reactor, which must happen before anything imports Twisted's default reactor.
from mcp_sessions.daphne.backpressure import SEND_SECONDS, PacedServer  # isort: skip
from autobahn.websocket.types import ConnectionDeny
from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server as DaphneServer
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.http import HTTPChannel

from mcp_sessions import lifecycle
from mcp_sessions.daphne.idle import close_idle_connections
from mcp_sessions.daphne.starting import begin
from mcp_sessions.transport.rejections import FAILED, STOPPED, Rejection

DRAIN_SECONDS: Final = 10.0
#: More connections than may wait to be accepted.
MOST_ACCEPTED: Final = 10_000
#: Seconds in which a connection that was just accepted may send its request.
ARRIVAL_SECONDS: Final = 0.1
#: Seconds after the drain for the abort hooks, for their answers to leave, for cancelled applications to end, for the
#: shutdown hooks, and for the last bytes to leave.
ABORT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 1.0
CANCEL_SECONDS: Final = 1.0
SHUTDOWN_SECONDS: Final = 4.0
FLUSH_SECONDS: Final = 1.0
#: Seconds after the drain when a process that has not ended is ended: more than all of them together.
HARD_END_SECONDS: Final = 10.0
#: WebSocket close codes (RFC 6455, section 7.4.1): the application is done, the server stops, the application failed.
NORMAL, GOING_AWAY, INTERNAL_ERROR = 1000, 1001, 1011

reactor: Any = twisted_reactor  # an object in place of a module; its type hints are wrong
logger = logging.getLogger(__name__)


class Server(PacedServer):
    """daphne's server with another way to end an application, and to end the process."""

    def __init__(self, *args: Any, drain_seconds: float = DRAIN_SECONDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drain_seconds = drain_seconds
        self.draining = False
        self._ports, self._starting = list[Any](), list[Any]()

    def listen_success(self, port: Any) -> None:
        if not self._ports:
            reactor.callWhenRunning(lambda: self._starting.append(begin(reactor, self.stop)))
        self._ports.append(port)
        if self.verbosity <= 1:
            self.http_factory.log = _write_no_line
        super().listen_success(port)

    def protocol_connected(self, protocol: Any) -> None:
        """Leave the body to the application: nothing uses the form that Twisted parses, and parsing takes a seventh
        of the time of every POST.

        This sets the parameter `parsePOSTFormSubmission` of Twisted's `Request`, which daphne gives no way to pass.
        """
        super().protocol_connected(protocol)
        protocol._parsePOSTFormSubmission = False  # noqa: SLF001 - see above

    # One application's end

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Start the application, and finish its request as soon as it ends instead of up to a second later.

        The root path is that of `--root-path`; daphne would accept it from any client's `Daphne-Root-Path` header.
        """
        scope["root_path"] = self.root_path
        queue = super().create_application(protocol, scope)
        if queue is not None:
            if self.draining and scope["type"] == "http":
                _close_after_response(protocol)
            application = self.connections[protocol]["application_instance"]
            application.add_done_callback(partial(self._finish, protocol))
        return queue

    def _finish(self, protocol: Any, application: "asyncio.Future[None]") -> None:
        """End the response, or close the WebSocket, of an application that has ended, and forget both."""
        error = None if application.cancelled() else application.exception()
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return  # daphne's own loop stops the server
        if error is not None:
            logger.error("Exception inside application: %s", error, exc_info=error)
        if protocol in self.connections and "disconnected" not in self.connections[protocol]:
            if isinstance(protocol, WebRequest):
                _end_response(protocol, STOPPED if application.cancelled() else FAILED)
            elif application.cancelled():
                _close_websocket(protocol, GOING_AWAY)
            else:
                _close_websocket(protocol, NORMAL if error is None else INTERNAL_ERROR)
        self.connections.pop(protocol, None)

    def protocol_disconnected(self, protocol: Any) -> None:
        # daphne does not expect that `_finish` has already removed the connection.
        if protocol in self.connections:
            super().protocol_disconnected(protocol)

    def application_checker(self) -> None:
        """daphne's loop, once a second. A WebSocket that fails while being closed must not end the loop."""
        try:
            super().application_checker()
        except Exception:
            logger.exception("Cannot reap an application that has ended.")
            for details in self.connections.values():
                if "application_instance" in details and details["application_instance"].done():
                    del details["application_instance"]
            reactor.callLater(1, self.application_checker)

    # The process's end

    def kill_all_applications(self) -> "Deferred[None]":
        """daphne calls this before the reactor stops; the reactor runs on until the result is available."""
        ended: Deferred[None] = Deferred.fromFuture(asyncio.ensure_future(self._end()))
        return ended.addErrback(lambda failure: logger.error("The drain failed: %s", failure.getTraceback()))

    async def _end(self) -> None:
        """Drain, abort, cancel and shut down."""
        lifecycle.stop_soon()
        _end_hard_after(self.drain_seconds + HARD_END_SECONDS)
        deadline = time.monotonic() + self.drain_seconds
        await self._stop_listening()
        self._close_websockets()
        await lifecycle.drain(self.drain_seconds)
        if left := await self._wait_for_requests(deadline):
            logger.warning("%d requests did not finish within %s s.", left, self.drain_seconds)
        await lifecycle.abort(ABORT_SECONDS)
        await self._wait_for_applications(time.monotonic() + ANSWER_SECONDS)
        await self._cancel_applications()
        await lifecycle.shutdown(SHUTDOWN_SECONDS)
        await _flush()

    async def _stop_listening(self) -> None:
        self.draining = True
        loop = asyncio.get_running_loop()
        for port in self._ports:
            # Connections that wait to be accepted would be reset. Twisted closes the port in its next round, after this
            port.numberAccepts = MOST_ACCEPTED
            reactor.callLater(0, port.doRead)
            await maybeDeferred(port.stopListening).asFuture(loop)
        for protocol in self.connections:
            if isinstance(protocol, WebRequest):
                _close_after_response(protocol)

    def _close_websockets(self) -> None:
        """WebSockets never end by themselves. The application gets `websocket.disconnect` when its client answers."""
        for protocol in tuple(self.connections):
            if isinstance(protocol, WebSocketProtocol):
                _close_websocket(protocol, GOING_AWAY)

    async def _wait_for_requests(self, deadline: float) -> int:
        """Wait until no request is left and none can come any more. The number of those that still run then."""
        await self._wait_for_applications(deadline)
        await asyncio.sleep(ARRIVAL_SECONDS)
        while close_idle_connections(reactor) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)  # the reactor reads what has begun to arrive
        return await self._wait_for_applications(deadline)

    async def _wait_for_applications(self, deadline: float) -> int:
        """Wait for all applications until then. The number of those that still run."""
        while running := self._running():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            await asyncio.wait(running, timeout=left)
        return len(running)

    async def _cancel_applications(self) -> None:
        running = self._running()
        for application in running:
            application.cancel()
        if running:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)

    def _running(self) -> "list[asyncio.Future[None]]":
        """The applications still running. A half-sent request has none."""
        applications = [details.get("application_instance") for details in self.connections.values()]
        return [
            application for application in applications if application is not None and not application.done()
        ]


def _write_no_line(request: Any) -> None:
    """Replaces Twisted's access log, which daphne discards; daphne's own access log stays."""


def _end_response(protocol: WebRequest, rejection: Rejection) -> None:
    """Answer if nothing was sent yet. Otherwise close the connection, so that the response is seen to be incomplete."""
    if protocol._response_started:  # noqa: SLF001 - Twisted's public flags say only whether headers were sent
        protocol.channel.loseConnection()
        return
    protocol.handle_reply(
        {"type": "http.response.start", "status": rejection.status, "headers": rejection.headers}
    )
    protocol.handle_reply({"type": "http.response.body", "body": rejection.body})


def _close_websocket(protocol: WebSocketProtocol, code: int) -> None:
    """Close an open WebSocket, or refuse one that waits to be accepted; one that is closing is left to it."""
    if protocol.state == protocol.STATE_OPEN:
        protocol.sendCloseFrame(code=code)
    # daphne deletes this attribute when the WebSocket is accepted or refused.
    elif hasattr(protocol, "handshake_deferred"):
        status = 503 if code == GOING_AWAY else 500
        denial = ConnectionDeny(status, "Not accepted")  # type: ignore[no-untyped-call]  # autobahn has few type hints
        protocol.handshake_deferred.errback(denial)
        del protocol.handshake_deferred
        protocol.server.protocol_disconnected(protocol)


def _close_after_response(protocol: WebRequest) -> None:
    """Close the connection after this response, and tell the client so if the headers were not sent yet."""
    channel = getattr(protocol, "channel", None)  # Twisted deletes it when the response ends
    if not isinstance(channel, HTTPChannel):
        return
    channel.persistent = False
    if not protocol.startedWriting:
        protocol.responseHeaders.setRawHeaders(b"connection", [b"close"])


def _end_hard_after(seconds: float) -> None:
    """End the process then, if it is still there: from a thread, because Python waits for other threads at its end."""
    timer = threading.Timer(seconds, _end_hard)
    timer.daemon = True
    timer.start()


def _end_hard() -> None:
    threads = [
        each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()
    ]
    logger.critical(
        "The process has not ended by itself and is ended now. Threads that still run: %s.", threads
    )
    logging.shutdown()
    os._exit(1)


async def _flush() -> None:
    """Wait until the sockets have accepted everything written. Twisted has no event for it."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while reactor.getWriters() and time.monotonic() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)


def seconds(text: str) -> float:
    """A finite number of seconds, 0 or more. Raises: argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


class CommandLineInterface(DaphneCommandLineInterface):  # type: ignore[misc]  # daphne has no type hints
    """The `daphne` command with our server and two more options."""

    description = "Django HTTP/WebSocket server that drains on SIGTERM and waits for slow readers"

    def __init__(self) -> None:
        super().__init__()
        self.parser.prog = "mcp-sessions-daphne"
        self.parser.add_argument(
            "--drain-timeout",
            type=seconds,
            help="Seconds to wait for requests in flight after SIGTERM (MCP_DRAIN_TIMEOUT, default %(default)s)",
            default=_from_environment("MCP_DRAIN_TIMEOUT", DRAIN_SECONDS),
        )
        self.parser.add_argument(
            "--send-timeout",
            type=seconds,
            help="Seconds after which a client that reads nothing is cut off (MCP_SEND_TIMEOUT, default %(default)s)",
            default=_from_environment("MCP_SEND_TIMEOUT", SEND_SECONDS),
        )

    def run(self, args: Sequence[str]) -> None:
        chosen = self.parser.parse_args(args)
        _serve_with(drain_seconds=chosen.drain_timeout, send_seconds=chosen.send_timeout)
        super().run(args)


def patch_command() -> None:
    """Put this server into the `daphne` command, for which `startup.patch_daphne` is the public way.

    Raises: SystemExit with a message for an environment variable that is not a number of seconds.
    """
    if DaphneCommandLineInterface.server_class is not DaphneServer:
        return  # our command is running, or somebody else has replaced the server
    _serve_with(
        drain_seconds=_seconds_from_environment("MCP_DRAIN_TIMEOUT", DRAIN_SECONDS),
        send_seconds=_seconds_from_environment("MCP_SEND_TIMEOUT", SEND_SECONDS),
    )


def _serve_with(**options: float) -> None:
    """Set the attribute from which daphne's command, and ours, create their server."""
    DaphneCommandLineInterface.server_class = staticmethod(partial(Server, **options))


def _from_environment(name: str, default: float) -> str:
    """The variable, or the default if it is empty or not set."""
    return os.environ.get(name) or str(default)


def _seconds_from_environment(name: str, default: float) -> float:
    try:
        return seconds(_from_environment(name, default))
    except argparse.ArgumentTypeError as problem:
        raise SystemExit(f"The environment variable {name} is wrong: {problem}.") from None
