"""Back-pressure for daphne: `send` waits while the client is behind with reading, as it does under other servers.

daphne's own `send` returns at once, and what a client does not read piles up in its connection without a limit. Here a
body leaves in parts, and each part waits until the connection has passed on what was written before: at most twice
PART_BYTES wait in a connection, whatever the application sends. A client that takes none of it in time is cut off.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final

# First: importing it installs the asyncio reactor, which must happen before anything imports twisted's default one.
from daphne import server as daphne_server  # isort: skip

from mcp_sessions.transport.event_stream import PACED

#: Bytes that are written at once. A connection counts as behind when as many wait in it (Twisted's `bufferSize`).
PART_BYTES: Final = 64 * 1024
#: Seconds for a client to read what waits in its connection.
SEND_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class Room:
    """Waits for one connection that is behind: Twisted's push producer, registered until it is told to resume."""

    __slots__ = ("_protocol", "given")

    def __init__(self, protocol: Any) -> None:
        #: Done when everything written has left, or the connection is gone.
        self.given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol = protocol
        protocol.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Nothing to do: whoever waits for room waits already."""

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._protocol.unregisterProducer()
        self.stopProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        if not self.given.done():
            self.given.set_result(None)

    async def within(self, seconds: float) -> bool:
        """Whether there is room in time. Several may wait."""
        done, _ = await asyncio.wait([self.given], timeout=seconds)
        return bool(done)


class PacedServer(daphne_server.Server):  # type: ignore[misc]  # daphne has no type hints
    """daphne's server with a `send` that waits for the reader, and says so in the scope."""

    def __init__(self, *args: Any, send_seconds: float = SEND_SECONDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.send_seconds = send_seconds

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "http":
            scope["extensions"] = {PACED: {}}
        return super().create_application(protocol, scope)

    def handle_reply(self, protocol: Any, message: dict[str, Any]) -> Awaitable[None]:
        """The application's `send`. A short body to a client that keeps up leaves at once."""
        if message.get("type") == "http.response.body":
            if is_behind(protocol) or len(message.get("body", b"")) > PART_BYTES:
                return self._reply_in_parts(protocol, message)
            if not message.get("more_body", False):
                self._bound_the_end(protocol)
        reply: Awaitable[None] = super().handle_reply(protocol, message)
        return reply

    async def _reply_in_parts(self, protocol: Any, message: dict[str, Any]) -> None:
        """Also the end waits for room: the next request on this connection is not read before."""
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
        """Wait until the connection is not behind, or gone."""
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
        """Twisted gives up an idle connection that stays open, but waits for ever until one that closes is read."""
        channel = getattr(protocol, "channel", None)
        if channel is not None and not getattr(channel, "persistent", True):
            channel.setTimeout(self.send_seconds)
            channel.abortTimeout = 0  # it was asked to close, and had its time

    def protocol_disconnected(self, protocol: Any) -> None:
        room: Room | None = self.connections.get(protocol, {}).get("room")
        if room is not None:
            room.stopProducing()
        super().protocol_disconnected(protocol)


def is_behind(protocol: Any) -> bool:
    """Whether more than PART_BYTES were written to the connection that the client's side has not taken yet.

    The flag is Twisted's own, raised and lowered by its transport; to be told of it by registering a producer with
    every request would cost each of them more than to look.
    """
    channel = getattr(protocol, "channel", None)  # Twisted deletes it when the response has ended
    return getattr(channel, "_waitingForTransport", False)
