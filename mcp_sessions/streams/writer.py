"""Streams: what an exchange says is logged before it leaves, and whoever delivers a stream reads the log.

A stream is delivered through one connection at a time. The store's newest claim decides which: an exchange's own
connection while it holds the claim it was born with, else a follower, on any process, that took the stream over.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Appended, Batch, Claim, Taken
from mcp_sessions.store.session import STANDALONE
from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.event_ids import EventId
from mcp_sessions.transport.event_stream import Delivery

if TYPE_CHECKING:
    from mcp_sessions.serving.runtime import Runtime

logger = logging.getLogger(__name__)

#: Bytes that `read` returns at most, but for a single larger event.
BATCH_BYTES: Final = 256 * 1024
#: Bytes that a handler may say before it waits for the log.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: Streams that ended and can still be resumed, of one session: a client whose network goes may have had many open.
KEPT_STREAMS: Final = 256
#: And their bytes together, as a multiple of what one may have.
KEPT_FULL_STREAMS: Final = 16
#: Seconds for which a store that cannot be asked is asked again before a message leaves unlogged.
PATIENCE_SECONDS: Final = 30.0
#: The first and the longest pause between two such attempts, in seconds.
PAUSES: Final = (0.05, 1.0)


class ExchangeStream:
    """The stream of one exchange: a writer that logs messages in order, and the connection that waits for them.

    `put` never blocks; `settled` waits until what was put is logged, `room` until most of it is. If the session ends,
    or the store stays away for longer than PATIENCE_SECONDS, what is left goes to the connection unlogged and without
    ids: better than lost.
    """

    def __init__(self, runtime: "Runtime", fingerprint: str, *, request: str, primed: bool) -> None:
        self.name = secrets.token_hex(8)
        self.delivery = Delivery()
        self.claim: Claim | None = None
        self._runtime = runtime
        self._fingerprint = fingerprint
        self._request = request
        self._primed = primed
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._position = 0
        self._ended = False
        self._disconnect = False
        self._logged = True
        self._writer: asyncio.Task[None] | None = None
        self._opened = False

    def put(self, message: Mapping[str, Any], *, last: bool = False) -> None:
        """Say something; `last` for the response."""
        payload = jsonrpc.encode(message)
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
        self._ended = self._ended or last
        self._write()

    def open(self) -> None:
        """Make the log, if nothing was said yet: the client gets something to resume from."""
        self._write()

    def disconnect(self) -> None:
        """Close the connection after what was said so far; the exchange goes on, and its client may resume."""
        self._disconnect = True
        self._write()

    async def room(self) -> None:
        """Wait while more than MAX_WAITING_BYTES are to be logged, and a moment for a reader who is behind."""
        while self._waiting_bytes > MAX_WAITING_BYTES and self._writer is not None:
            await asyncio.wait([self._writer])
        await self.delivery.keep_up()

    async def settled(self) -> None:
        """Wait until everything said so far is logged or given up."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def _write(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            if not self._opened:
                await self._open()
            while self._waiting:
                payloads, self._waiting, self._waiting_bytes = self._waiting, [], 0
                await self._log(payloads, last=self._ended)
            if self._disconnect:
                self._disconnect = False
                self.delivery.put(sse.retry(self._runtime.conf.retry))
                self.delivery.end()
            if self._ended:
                self.delivery.end()
                await self._finish()
        finally:
            self._writer = None

    async def _finish(self) -> None:
        """Tell the store that this log is complete: of a session it keeps the newest ones only."""
        try:
            await self._runtime.store.run(
                streams.finish(
                    self._fingerprint,
                    self.name,
                    kept=KEPT_STREAMS,
                    kept_bytes=KEPT_FULL_STREAMS * self._runtime.conf.stream_max_bytes,
                )
            )
        except StoreUnavailable as error:
            logger.info("A stream of session %.12s is left to its TTL: %s", self._fingerprint, error)

    async def _open(self) -> None:
        self._opened = True
        store, limits = self._runtime.store, self._runtime.conf.stream_limits
        try:
            self.claim = await patiently(
                lambda: store.run(
                    streams.open_stream(
                        self._fingerprint,
                        self.name,
                        node=self._runtime.bus.node,
                        request_id=self._request,
                        limits=limits,
                    )
                )
            )
        except StoreUnavailable as error:
            logger.warning("A stream of session %.12s is delivered unlogged: %s", self._fingerprint, error)
        self._logged = self.claim is not None
        if self._logged and self._primed:
            start = EventId.of(self._fingerprint, self.name, 0)
            self.delivery.put(sse.priming(str(start), self._runtime.conf.retry))

    async def _log(self, payloads: Sequence[bytes], *, last: bool) -> None:
        first = self._position + 1
        self._position += len(payloads)
        if not self._logged:
            return self._deliver(payloads, None)
        try:
            appended = await self._append(first, payloads, last=last)
        except StoreUnavailable as error:
            logger.warning("A stream of session %.12s is delivered unlogged: %s", self._fingerprint, error)
            self._logged = False
            return self._deliver(payloads, None)
        if appended is None:  # the session ended, or another process ended this stream
            self.delivery.end()
        elif appended.claim == self.claim:
            self._deliver(payloads, first)
        elif appended.claim is not None:
            self.delivery.end()
            self._runtime.ring_for(appended.claim.node, self._fingerprint, self.name)

    async def _append(self, first: int, payloads: Sequence[bytes], *, last: bool) -> Appended | None:
        store, limits = self._runtime.store, self._runtime.conf.stream_limits
        appended: Appended | None = await patiently(
            lambda: store.run(
                streams.append(
                    self._fingerprint, self.name, first=first, payloads=payloads, last=last, limits=limits
                )
            )
        )
        return appended

    def _deliver(self, payloads: Sequence[bytes], first: int | None) -> None:
        for offset, payload in enumerate(payloads):
            event_id = None
            if first is not None:
                event_id = str(EventId.of(self._fingerprint, self.name, first + offset))
            self.delivery.put(sse.event(payload, event_id))


class Follower:
    """Delivers a logged stream through one connection: what was missed, then what comes, as doorbells say.

    It reads no further than its client does: what a slow reader has not taken stays in the log.
    It ends with the stream, or when a newer claim takes over; a standalone stream's connection then stays open and
    silent, since a client that holds several must not lose one, and delivers again when it gets the stream back.
    """

    __slots__ = (
        "_after",
        "_nudged",
        "_resting",
        "_runtime",
        "claim",
        "delivery",
        "fingerprint",
        "origin",
        "replaced",
        "request",
        "scope",
        "stream",
        "valid",
    )

    def __init__(
        self,
        runtime: "Runtime",
        fingerprint: str,
        stream: str,
        *,
        taken: Taken,
        primed: bool,
        scope: Mapping[str, Any],
    ) -> None:
        self.delivery = Delivery()
        self.delivery.on_close = self.nudge
        self.fingerprint = fingerprint
        self.stream = stream
        self.claim = taken.claim
        #: Whose turn it was before.
        self.replaced = taken.replaced
        #: The node that runs the exchange, and what it asked; "" for a standalone stream.
        self.origin = taken.origin
        self.request = taken.request_id
        #: The HTTP request that this follower answers.
        self.scope = scope
        #: Whether this follower still delivers, as far as it knows.
        self.valid = True
        self._runtime = runtime
        self._after = taken.after
        if primed:
            start = EventId.of(fingerprint, stream, taken.after)
            self.delivery.put(sse.priming(str(start), runtime.conf.retry))
        # No asyncio.Event: it weighs three times as much, on each of thousands of idle streams.
        self._nudged = False
        self._resting: asyncio.Future[None] | None = None

    def take_back(self, taken: Taken) -> None:
        """Deliver from here on, by another claim; what this connection was given already is not said again."""
        self.claim, self.replaced, self._after = taken.claim, taken.replaced, max(self._after, taken.after)
        self.valid = True
        self.nudge()

    def nudge(self) -> None:
        """Look at the log again: something was said, or a heartbeat has passed."""
        self._nudged = True
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    async def run(self) -> None:
        """Read and deliver until there is nothing more to come."""
        while await self.delivery.hungry():
            self._nudged = False
            if self.valid and await self._read():
                continue
            await self._rest()

    async def _read(self) -> bool:
        """Deliver what the log has; whether there may be more at once."""
        claim = self.claim
        try:
            batch = await self._runtime.store.run(
                streams.read(
                    self.fingerprint,
                    self.stream,
                    token=claim.token,
                    after=self._after,
                    max_bytes=BATCH_BYTES,
                )
            )
        except StoreUnavailable as error:
            logger.warning("A stream of session %.12s cannot be read: %s", self.fingerprint, error)
            return False
        return claim is not self.claim or self._deliver(batch)

    async def _rest(self) -> None:
        """Wait for a nudge, unless there was one since the log was last read."""
        if not self._nudged:
            self._resting = asyncio.get_running_loop().create_future()
            await self._resting

    def _deliver(self, batch: Batch | None) -> bool:
        """Whether there may be more to read at once."""
        if batch is None:
            self.delivery.end()
            return True
        if not batch.valid:
            self.valid = False
            if self.stream != STANDALONE:
                self.delivery.end()
            return True
        for event in batch.events:
            event_id = EventId.of(self.fingerprint, self.stream, event.position)
            self.delivery.put(sse.event(event.payload, str(event_id)))
            self._after = event.position
        if batch.ended:
            self.delivery.end()
        return bool(batch.events)


async def patiently(act: Callable[[], Any]) -> Any:
    """Do something in the store, again if it cannot be asked. Only for acts that may be repeated.

    Raises: StoreUnavailable if it stays away for PATIENCE_SECONDS.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    pause, longest = PAUSES
    while True:
        try:
            return await act()
        except StoreUnavailable:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
