"""The stream of one exchange: every message is logged before it is sent, unless the store is away for too long.

A stream is delivered through one connection at a time, and the store's newest claim decides through which. The writer
sends on the exchange's own connection while it holds the claim that the stream was opened with; after that a
`StreamReader`, in whichever process, delivers from the log.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from mcp_sessions.cluster.notifications import StreamChanged
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Appended, Claim
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import disconnect
from mcp_sessions.streams.retry import retry_while_unavailable
from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.event_ids import EventId
from mcp_sessions.transport.event_stream import EventStream

logger = logging.getLogger(__name__)

#: Bytes of messages that may wait to be logged before the handler waits, too.
MAX_UNLOGGED_BYTES: Final = 1024 * 1024
#: Streams of one session that ended and can still be resumed: a client may lose its network with many open.
KEPT_STREAMS: Final = 256
#: Bytes of those streams together, as a multiple of STREAM_MAX_BYTES.
KEPT_FULL_STREAMS: Final = 16
_late: Final = Repeats(logger, "Streams that were not logged in time")
_unlogged: Final = Repeats(logger, "Streams that were delivered unlogged")


class StreamWriter:
    """Logs the messages of one exchange in order, and sends them on its connection.

    `put` never blocks; `written` waits until everything is logged, `room` until most of it is. If the store stays away
    for too long, messages are sent before they are logged: better than late. The newest, as many as a stream keeps, are
    logged when the store is back, for whoever resumed the stream meanwhile. If the store has lost the session or the
    stream, the remaining messages are sent unlogged and without ids: better than lost.
    """

    def __init__(
        self, context: Context, fingerprint: str, *, request: str, primed: bool, logged: bool = True
    ) -> None:
        """Without `logged` it is delivered on its own connection only, without ids: nobody can resume it."""
        self.name = secrets.token_hex(8)
        self.event_stream = EventStream()
        self.claim: Claim | None = None
        #: When the log was renewed last, by the loop's clock; not when something was appended.
        self.kept = -inf
        #: Whether another node has ended this stream or runs the exchange again: no message is accepted any more.
        self.superseded = False
        self._context = context
        self._fingerprint = fingerprint
        self._request = request
        self._primed = primed
        self._unlogged: deque[bytes] = deque()
        self._unlogged_bytes = 0
        #: The positions of the last message that was put, and of the last that was sent or left to a reader.
        self._position = self._sent = 0
        self._ended = False
        self._disconnect = False
        self._logging = logged
        #: Whether the store has been away for too long: messages do not wait for it.
        self._ahead = False
        self._task: asyncio.Task[None] | None = None
        self._opened = not logged

    def put(self, message: Mapping[str, Any], *, last: bool = False) -> None:
        """Send a message; `last` for the response."""
        payload = jsonrpc.encode(message)
        self._unlogged.append(payload)
        self._unlogged_bytes += len(payload)
        self._position += 1
        self._ended = self._ended or last
        self._write()

    def open(self) -> None:
        """Open the log before the first message, so that the client has something to resume from."""
        self._write()

    def disconnect(self) -> None:
        """Close the connection after the messages so far; the exchange goes on, and its client may resume."""
        self._disconnect = True
        self._write()

    async def room(self) -> None:
        """Wait while more than MAX_UNLOGGED_BYTES are to be logged, and a moment for a reader that is behind."""
        while self._unlogged_bytes > MAX_UNLOGGED_BYTES and self._task is not None:
            await asyncio.wait([self._task])
        await self.event_stream.keep_up()

    async def written(self) -> None:
        """Wait until every message so far is logged, or sent while the store stays away."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _write(self) -> None:
        if self._ahead:
            self._send_ahead()
        elif self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        own = False
        try:
            if not self._opened:
                await self._open()
            await self._log(seconds=None)
            while self._disconnect:
                self._disconnect = False
                own = await self._close_resumed() or own
                await self._log(seconds=None)  # what was put meanwhile: nobody else logs it
            self._disconnect = own
            self._close_connection()
            if self._ended:
                await self._finish()
        except StoreUnavailable as error:
            _late.add("A stream of session %.12s is logged later: %s", self._fingerprint, error)
            self._ahead = True
            self._disconnect = self._disconnect or own
            self._send_ahead()
            self._context.spawn(self._catch_up())
        finally:
            self._task = None

    async def _close_resumed(self) -> bool:
        """Close the connection with which the client has resumed last. True: that of the exchange is to be closed.

        It is closed afterwards: a client that resumes at once must not lose its new connection, too. It stays open if
        the store has no such stream, or has lost it: nobody could resume it.
        """
        if not self._logging:
            return False
        try:
            claim = await disconnect(self._context, self._fingerprint, self.name)
        except StoreUnavailable as error:
            logger.debug("A connection of session %.12s may stay open: %s", self._fingerprint, error)
            return True
        return claim == self.claim

    async def _catch_up(self) -> None:
        """Log what waits when the store is back, however long that takes."""
        await self._log(seconds=inf)
        self._ahead = False
        if self._ended:
            await self._finish()

    def _close_connection(self) -> None:
        """Close the connection if the handler wants that, or after the response."""
        if self._disconnect:
            self._disconnect = False
            self.event_stream.put(sse.retry(self._context.conf().retry))
            self.event_stream.end()
        if self._ended:
            self.event_stream.end()

    def _send_ahead(self) -> None:
        """Send what is not logged yet, and keep no more of it than a stream keeps: the newest."""
        limits = self._context.conf().stream_limits
        self._send(self._unlogged, self._position - len(self._unlogged) + 1)
        self._close_connection()
        while len(self._unlogged) > 1 and (
            len(self._unlogged) > limits.max_events or self._unlogged_bytes > limits.max_bytes
        ):
            self._unlogged_bytes -= len(self._unlogged.popleft())

    async def _finish(self) -> None:
        """Tell the store that this log is complete: it keeps only the newest ones of a session."""
        limits = self._context.conf().stream_limits
        finish = streams.finish(
            self._fingerprint,
            self.name,
            kept=KEPT_STREAMS,
            kept_bytes=KEPT_FULL_STREAMS * limits.max_bytes,
            ttl_ms=limits.ttl_ms,
        )
        try:
            await self._context.store.run(finish)
        except StoreUnavailable as error:
            logger.debug("A stream of session %.12s is left to its TTL: %s", self._fingerprint, error)

    async def _open(self) -> None:
        self._opened = True
        context, conf = self._context, self._context.conf()
        opening = streams.open_stream(
            self._fingerprint,
            self.name,
            node=context.node.id,
            request_id=self._request,
            limits=conf.stream_limits,
        )
        try:
            self.claim = await retry_while_unavailable(lambda: context.store.run(opening))
        except StoreUnavailable as error:
            _unlogged.add("A stream of session %.12s is delivered unlogged: %s", self._fingerprint, error)
        self._logging = self.claim is not None
        if self._logging and self._primed:
            start = EventId.of(self._fingerprint, self.name, 0)
            self.event_stream.put(sse.priming(str(start), conf.retry))

    async def _log(self, *, seconds: float | None) -> None:
        """Log and send all that waits. Raises: StoreUnavailable if the store stays away for longer than `seconds`."""
        context = self._context
        while self._unlogged:
            payloads, last = list(self._unlogged), self._position
            first = last - len(payloads) + 1
            if self._logging:
                append = streams.append(
                    self._fingerprint,
                    self.name,
                    node=context.node.id,
                    first=first,
                    payloads=payloads,
                    last=self._ended,
                    limits=context.conf().stream_limits,
                )
                appended = await retry_while_unavailable(
                    lambda append=append: context.store.run(append),  # type: ignore[misc]
                    seconds=seconds,
                )
                self._logged(appended)
            self._send(payloads, first)
            while self._unlogged and self._position - len(self._unlogged) < last:
                self._unlogged_bytes -= len(self._unlogged.popleft())

    def _logged(self, appended: Appended | None) -> None:
        """Look who delivers what was appended, if it was."""
        if appended is None:
            self._logging = False
        elif appended.claim != self.claim or not appended.accepted:
            self.superseded = not appended.accepted
            self.event_stream.end()
            if appended.claim is not None:
                changed = StreamChanged(fingerprint=self._fingerprint, stream=self.name)
                self._context.node.notify(appended.claim.node, changed)

    def _send(self, payloads: Sequence[bytes], first: int) -> None:
        """Send on the exchange's connection what was not sent yet; `first` is the position of the first message."""
        for position, payload in enumerate(payloads, first):
            if position > self._sent:
                event_id = EventId.of(self._fingerprint, self.name, position) if self._logging else None
                self.event_stream.put(sse.event(payload, None if event_id is None else str(event_id)))
        self._sent = max(self._sent, first + len(payloads) - 1)
