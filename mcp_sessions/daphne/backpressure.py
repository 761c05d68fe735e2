"""Back-pressure for daphne: `send` waits while the client is slow to read, as it does under other servers.

daphne's own `send` returns at once, and what the client does not read accumulates in its connection without a limit.
Here a body is sent in parts, and each part waits until the connection has passed on the previous one. So at most twice
PART_BYTES wait in a connection, whatever the application sends. A client that reads nothing in time is cut off.

HTTP/2, which daphne speaks over TLS if `h2` is installed, has another transport: there `send` returns at once, the
scope does not say otherwise, and a warning is logged at the start.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final

# First: this installs the asyncio reactor, which must happen before anything imports Twisted's default reactor.
from daphne import server as daphne_server  # isort: skip

from twisted.web.http import H2_ENABLED

from mcp_sessions.transport.event_stream import PACED

#: Bytes written at once. A connection is behind when this many wait in it (Twisted's `bufferSize`).
PART_BYTES: Final = 64 * 1024
#: The `http_version` of a scope.
HTTP_2: Final = "2"
#: Seconds in which a client must read what waits in its connection.
SEND_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class Room:
    """Waits for one connection that is behind: a push producer in Twisted's terms, registered until it may resume."""

    __slots__ = ("_protocol", "given")

    def __init__(self, protocol: Any) -> None:
        #: Done when everything written was passed on, or the connection is gone.
        self.given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol = protocol
        protocol.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Nothing to do: `send` is already waiting."""

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._protocol.unregisterProducer()
        self.stopProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        if not self.given.done():
            self.given.set_result(None)

    async def within(self, seconds: float) -> bool:
        """Whether there is room in time. Several tasks may wait."""
        done, _ = await asyncio.wait([self.given], timeout=seconds)
        return bool(done)


class PacedServer(daphne_server.Server):  # type: ignore[misc]  # daphne has no type hints
    """daphne's server with a `send` that waits for the reader; the scope says that it does."""

    def __init__(self, *args: Any, send_seconds: float = SEND_SECONDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.send_seconds = send_seconds

    def run(self) -> None:
        if H2_ENABLED and any(str(endpoint).startswith("ssl:") for endpoint in self.endpoints):
            logger.warning(
                "HTTP/2 is enabled. Its clients are not waited for: what they do not read accumulates in this process. "
                "Uninstall h2, or end TLS in a proxy that speaks HTTP/1.1 to this server."
            )
        super().run()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "http" and scope["http_version"] != HTTP_2:
            scope["extensions"] = {PACED: {}}
        return super().create_application(protocol, scope)

    def handle_reply(self, protocol: Any, message: dict[str, Any]) -> Awaitable[None]:
        """The application's `send`. A short body is sent at once to a client that keeps up."""
        if message.get("type") == "http.response.body":
            if is_behind(protocol) or len(message.get("body", b"")) > PART_BYTES:
                return self._reply_in_parts(protocol, message)
            if not message.get("more_body", False):
                self._bound_the_end(protocol)
        reply: Awaitable[None] = super().handle_reply(protocol, message)
        return reply

    async def _reply_in_parts(self, protocol: Any, message: dict[str, Any]) -> None:
        """Send a body in parts. Its end also waits for room, so that the next request is not read before."""
        reply, part = super().handle_reply, {"type": "http.response.body", "more_body": True}
        body = message.get("body", b"")
        for start in range(0, len(body) or 1, PART_BYTES):
            await self._room(protocol)
            await reply(protocol, {**part, "body": body[start : start + PART_BYTES]})
        if not message.get("more_body", False):
            await self._room(protocol)
            self._bound_the_end(protocol)
            await reply(protocol, {**part, "more_body": False})

    async def _room(self, protocol: Any) -> None:
        """Wait until the connection is no longer behind, or is gone."""
        while is_behind(protocol) and self._is_connected(protocol):
            details = self.connections[protocol]
            room: Room | None = details.get("room")
            if room is None or room.given.done():
                room = details["room"] = Room(protocol)
            if not await room.within(self.send_seconds) and self._is_connected(protocol):
                logger.info("A client that read nothing for %g s was cut off.", self.send_seconds)
                protocol.channel.transport.abortConnection()

    def _is_connected(self, protocol: Any) -> bool:
        return "disconnected" not in self.connections.get(protocol, {"disconnected": None})

    def _bound_the_end(self, protocol: Any) -> None:
        """Limit how long a closing connection may take: Twisted limits only idle connections that stay open."""
        channel = getattr(protocol, "channel", None)
        if channel is not None and not getattr(channel, "persistent", True):
            channel.setTimeout(self.send_seconds)
            channel.abortTimeout = 0  # it was asked to close and had time to

    def protocol_disconnected(self, protocol: Any) -> None:
        room: Room | None = self.connections.get(protocol, {}).get("room")
        if room is not None:
            room.stopProducing()
        super().protocol_disconnected(protocol)


def is_behind(protocol: Any) -> bool:
    """Whether more than PART_BYTES were written to the connection that the client has not read yet.

    The flag is Twisted's own, set and cleared by its transport. Registering a producer with every request, to be told
    of it, would cost each request more than this look.
    """
    channel = getattr(protocol, "channel", None)  # Twisted deletes it when the response ends
    return getattr(channel, "_waitingForTransport", False)
