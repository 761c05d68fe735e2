"""Delivers a logged stream through one connection: first what was missed, then new messages as they are logged."""

import asyncio
import logging
from collections.abc import Mapping
from math import inf
from typing import Any, Final

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Batch, Claim, Taken
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_ids import STANDALONE, EventId
from mcp_sessions.transport.event_stream import EventStream

logger = logging.getLogger(__name__)

#: Bytes of messages that are read from the log at once, except for a single larger one.
BATCH_BYTES: Final = 256 * 1024


class StreamReader:
    """Reads a stream's log no faster than its client does: what a slow client has not taken stays in the log.

    It ends with the stream, or when a newer claim takes over. The connection of a standalone stream then stays open and
    silent, because a client that holds several must not lose one; it delivers again when it gets the stream back. The
    claim stays the same, and each read asks whether it is valid.
    """

    __slots__ = (
        "_context",
        "_nudge",
        "_nudged",
        "after",
        "claim",
        "event_stream",
        "fingerprint",
        "holder",
        "kept",
        "origin",
        "request",
        "scope",
        "stream",
    )

    def __init__(
        self,
        context: Context,
        fingerprint: str,
        stream: str,
        *,
        taken: Taken,
        primed: bool,
        scope: Mapping[str, Any],
    ) -> None:
        self.event_stream = EventStream()
        self.event_stream.on_close = self.nudge
        self.fingerprint = fingerprint
        self.stream = stream
        self.claim = taken.claim
        #: The claim that delivers the stream, as far as is known here; None for nobody's.
        self.holder: Claim | None = taken.claim
        #: The node that runs the exchange, and the request; "" for a standalone stream.
        self.origin = taken.origin
        self.request = taken.request_id
        #: The HTTP request that is answered with the stream.
        self.scope = scope
        #: The position of the last message that was put on this connection.
        self.after = taken.after
        #: When the log of a standalone stream was renewed last, by the loop's clock.
        self.kept = -inf
        self._context = context
        if primed:
            start = EventId.of(fingerprint, stream, taken.after)
            self.event_stream.put(sse.priming(str(start), context.conf().retry))
        # Not an asyncio.Event: that takes three times the memory, on each of thousands of idle streams.
        self._nudged = False
        self._nudge: asyncio.Future[None] | None = None

    @property
    def is_current(self) -> bool:
        """Whether this connection delivers the stream, as far as is known here."""
        return self.holder == self.claim

    def nudge(self) -> None:
        """Read the log again: there may be new messages, or another connection delivers from now on."""
        self._nudged = True
        if self._nudge is not None and not self._nudge.done():
            self._nudge.set_result(None)

    def disconnect(self) -> None:
        """Close the connection after what was read so far. Its client may resume, here or elsewhere."""
        self.event_stream.put(sse.retry(self._context.conf().retry))
        self.event_stream.end()

    async def run(self) -> None:
        """Read and deliver until nothing more will come."""
        while await self.event_stream.wait_drained():
            self._nudged = False
            if await self._read():
                continue
            if not self._nudged:
                self._nudge = asyncio.get_running_loop().create_future()
                await self._nudge

    async def _read(self) -> bool:
        """Deliver what is in the log; whether there may be more at once."""
        read = streams.read(
            self.fingerprint, self.stream, claim=self.claim, after=self.after, max_bytes=BATCH_BYTES
        )
        try:
            batch = await self._context.store.run(read)
        except StoreUnavailable as error:
            logger.debug("A stream of session %.12s cannot be read: %s", self.fingerprint, error)
            return False
        return self._deliver(batch)

    def _deliver(self, batch: Batch | None) -> bool:
        """Whether there may be more to read at once."""
        if batch is None:
            self.event_stream.end()
            return True
        self.holder = batch.holder
        if not batch.valid and self.stream != STANDALONE:
            self.event_stream.end()
        for event in batch.events:
            event_id = EventId.of(self.fingerprint, self.stream, event.position)
            self.event_stream.put(sse.event(event.payload, str(event_id)))
            self.after = event.position
        if batch.ended:
            self.event_stream.end()
        return bool(batch.events)
