"""daphne, mended and draining: `python -m mcp_sessions.daphne ARGS`, with every argument of the `daphne` command.

`startup.patch_daphne` puts the same server into the `daphne` command itself.

On SIGTERM or SIGINT it stops listening, tells the application (`lifecycle.on_drain`), lets the requests in flight
finish for `--drain-timeout` seconds, cancels what is left, runs `lifecycle.on_shutdown` and exits with 0. Requests that
still arrive on connections which are open already are served, and the connection is closed with the answer. A request
whose body is still arriving has not reached the application and is not waited for.

An application's `send` waits while its client does not read (`backpressure`); a client that reads nothing for
`--send-timeout` seconds is cut off.

Mended: an exception after the response has started no longer kills the loop that reaps applications; a half-sent
request no longer breaks the shutdown; an application that ends without a response no longer leaves its client waiting;
the header `Daphne-Root-Path`, which any client can send, is ignored; bodies are not parsed before the application gets
them.
"""

import argparse
import asyncio
import logging
import math
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

# First: importing it installs the asyncio reactor, which must happen before anything imports twisted's default one.
from mcp_sessions.daphne.backpressure import SEND_SECONDS, PacedServer  # isort: skip
from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server as DaphneServer
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.http import HTTPChannel

from mcp_sessions import lifecycle
from mcp_sessions.transport.rejections import FAILED, STOPPED, Rejection

DRAIN_SECONDS: Final = 10.0
#: Seconds for cancelled applications to end, and for the last bytes to leave.
CANCEL_SECONDS: Final = 2.0
FLUSH_SECONDS: Final = 2.0

reactor: Any = twisted_reactor  # a module that poses as an object; its hints mislead
logger = logging.getLogger(__name__)


class Server(PacedServer):
    """daphne's server with another end: of one application, and of the process."""

    def __init__(self, *args: Any, drain_seconds: float = DRAIN_SECONDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drain_seconds = drain_seconds
        self.draining = False
        self._ports: list[Any] = []

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        if self.verbosity <= 1:
            self.http_factory.log = _write_no_line
        super().listen_success(port)

    def protocol_connected(self, protocol: Any) -> None:
        """Leave a body to the application: what Twisted makes of a form goes nowhere, and costs every POST a seventh.

        The attribute is `parsePOSTFormSubmission` of Twisted's `Request`, which daphne does not let anybody give.
        """
        super().protocol_connected(protocol)
        protocol._parsePOSTFormSubmission = False  # noqa: SLF001 - see above

    # One application's end

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Start the application, and settle the request the moment it ends rather than up to a second later.

        The root path is what `--root-path` says: daphne believes a `Daphne-Root-Path` header of anybody.
        """
        scope["root_path"] = self.root_path
        queue = super().create_application(protocol, scope)
        if queue is not None and scope["type"] == "http":
            if self.draining:
                _close_after_response(protocol)
            application = self.connections[protocol]["application_instance"]
            application.add_done_callback(partial(self._settle, protocol))
        return queue

    def _settle(self, protocol: WebRequest, application: "asyncio.Future[None]") -> None:
        """See to it that an ended application's response has ended too, and forget both."""
        error = None if application.cancelled() else application.exception()
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return  # daphne's own loop stops the server.
        if error is not None:
            logger.error("Exception inside application: %s", error, exc_info=error)
        if protocol in self.connections and "disconnected" not in self.connections[protocol]:
            _end_response(protocol, STOPPED if application.cancelled() else FAILED)
        self.connections.pop(protocol, None)

    def protocol_disconnected(self, protocol: Any) -> None:
        # A connection that was settled before it is lost is no longer in the table, which daphne does not expect.
        if protocol in self.connections:
            super().protocol_disconnected(protocol)

    def application_checker(self) -> None:
        """daphne's loop, once a second. A WebSocket that cannot be told of its exception must not end it for all."""
        try:
            super().application_checker()
        except Exception:
            logger.exception("An ended application could not be reaped.")
            for details in self.connections.values():
                if "application_instance" in details and details["application_instance"].done():
                    del details["application_instance"]
            reactor.callLater(1, self.application_checker)

    # The process's end

    def kill_all_applications(self) -> "Deferred[None]":
        """What daphne calls before the reactor stops; the reactor goes on until the result is there."""
        ended: Deferred[None] = Deferred.fromFuture(asyncio.ensure_future(self._end()))
        return ended.addErrback(lambda failure: logger.error("The drain failed: %s", failure.getTraceback()))

    async def _end(self) -> None:
        """Drain, cancel, shut down."""
        deadline = time.monotonic() + self.drain_seconds
        await self._stop_listening()
        await lifecycle.drain(self.drain_seconds)
        await self._wait_for_requests(deadline)
        await self._cancel_applications()
        await lifecycle.shutdown()
        await _flush()

    async def _stop_listening(self) -> None:
        self.draining = True
        loop = asyncio.get_running_loop()
        for port in self._ports:
            await maybeDeferred(port.stopListening).asFuture(loop)
        for protocol in self.connections:
            if isinstance(protocol, WebRequest):
                _close_after_response(protocol)

    async def _wait_for_requests(self, deadline: float) -> None:
        while running := self._running(WebRequest):
            left = deadline - time.monotonic()
            if left <= 0:
                logger.warning("%d requests did not finish within %s s.", len(running), self.drain_seconds)
                return
            await asyncio.wait(running, timeout=left)

    async def _cancel_applications(self) -> None:
        running = self._running(object)
        for application in running:
            application.cancel()
        if running:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)

    def _running(self, kind: type) -> "list[asyncio.Future[None]]":
        """The applications that have not ended, of connections of that kind. A half-sent request has none."""
        applications = [
            details.get("application_instance")
            for protocol, details in self.connections.items()
            if isinstance(protocol, kind)
        ]
        return [
            application for application in applications if application is not None and not application.done()
        ]


def _write_no_line(request: Any) -> None:
    """Instead of Twisted's access log: daphne sends that nowhere and has one of its own, which stays."""


def _end_response(protocol: WebRequest, rejection: Rejection) -> None:
    """Answer if nothing was sent yet; else cut the connection, so that the client knows the response is incomplete."""
    if protocol._response_started:  # noqa: SLF001 - Twisted's own flags say only whether headers have left
        protocol.channel.loseConnection()
        return
    protocol.handle_reply(
        {"type": "http.response.start", "status": rejection.status, "headers": rejection.headers}
    )
    protocol.handle_reply({"type": "http.response.body", "body": rejection.body})


def _close_after_response(protocol: WebRequest) -> None:
    """Let the connection end with this response, and tell the client so if its headers have not left yet."""
    channel = getattr(protocol, "channel", None)  # Twisted deletes it when the response has ended
    if not isinstance(channel, HTTPChannel):
        return
    channel.persistent = False
    if not protocol.startedWriting:
        protocol.responseHeaders.setRawHeaders(b"connection", [b"close"])


async def _flush() -> None:
    """Wait until the sockets have taken what was written. Twisted has no event for it."""
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
    """The `daphne` command with this server and two more options."""

    description = "Django HTTP/WebSocket server that drains on SIGTERM and waits for slow readers"

    def __init__(self) -> None:
        super().__init__()
        self.parser.prog = "mcp-sessions-daphne"
        self.parser.add_argument(
            "--drain-timeout",
            type=seconds,
            help="Seconds that requests in flight may take after SIGTERM (MCP_DRAIN_TIMEOUT, default %(default)s)",
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


def mend_command() -> None:
    """Put this server into the `daphne` command, for which `startup.patch_daphne` is the public way.

    Raises: SystemExit with a sentence for what the environment says and is no number of seconds.
    """
    if DaphneCommandLineInterface.server_class is not DaphneServer:
        return  # this command runs, or one of somebody else's
    _serve_with(
        drain_seconds=_seconds_from_environment("MCP_DRAIN_TIMEOUT", DRAIN_SECONDS),
        send_seconds=_seconds_from_environment("MCP_SEND_TIMEOUT", SEND_SECONDS),
    )


def _serve_with(**options: float) -> None:
    """daphne makes its server by an attribute of its command: where our own command and a mended one meet."""
    DaphneCommandLineInterface.server_class = staticmethod(partial(Server, **options))


def _from_environment(name: str, default: float) -> str:
    """What is set to nothing is not set."""
    return os.environ.get(name) or str(default)


def _seconds_from_environment(name: str, default: float) -> float:
    try:
        return seconds(_from_environment(name, default))
    except argparse.ArgumentTypeError as problem:
        raise SystemExit(f"The environment variable {name} is wrong: {problem}.") from None
