"""Event streams on the wire: one open connection that delivers messages as they come."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from mcp_sessions.transport import sse
from mcp_sessions.transport.asgi import Receive, Scope, Send

#: A silent stream carries a comment line every so many seconds.
KEEP_ALIVE_SECONDS: Final = 15.0
#: Bytes that may wait for a slow reader before its stream is closed.
MAX_QUEUED_BYTES: Final = 4 * 1024 * 1024
#: When half as many wait, the handler waits too: so many seconds for the reader to take them all.
CATCH_UP_SECONDS: Final = 1.0
#: Bytes that leave together, but for a single larger frame.
PART_BYTES: Final = 64 * 1024
#: Bytes that a stream sends on one connection of a server whose `send` does not wait: so many may pile up there.
MAX_UNPACED_BYTES: Final = 16 * 1024 * 1024
#: The ASGI extension by which a server says that its `send` waits for the reader.
PACED: Final = "mcp_sessions.paced"
#: What a client reads that was too slow, or had its stream for long enough: it may come back.
TOO_SLOW: Final = sse.retry(1.0)
COME_BACK: Final = sse.retry(0.1)


class Delivery:
    """One open event stream. Frames are put from the event loop; `run` writes them to the connection.

    Frames put before `run` are kept. After `end` what is queued still leaves; after `close` nothing does.
    """

    __slots__ = (
        "_begun",
        "_closed",
        "_ended",
        "_farewell",
        "_frames",
        "_hunger",
        "_queued",
        "_sent",
        "_waker",
        "on_close",
    )

    def __init__(self) -> None:
        #: Called when the connection is gone, however that came.
        self.on_close: Callable[[], None] | None = None
        self._frames: list[bytes] = []
        self._queued = 0
        self._sent = 0
        self._farewell = b""
        self._ended = False
        self._closed = False
        self._begun = False
        self._waker: asyncio.Future[None] | None = None
        self._hunger: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether frames put now can still be delivered."""
        return not (self._closed or self._ended)

    def put(self, frame: bytes) -> None:
        """Queue a frame. Dropped if the stream is closed; if the reader is too slow, the stream is closed."""
        if not self.open:
            return
        # Without this frame: that one is large says nothing about the reader.
        if self._queued >= MAX_QUEUED_BYTES:
            self.close(TOO_SLOW)
            return
        self._queued += len(frame)
        self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        """Close after what is queued."""
        self._ended = True
        self._wake()

    def close(self, farewell: bytes = b"") -> None:
        """Close now; what is queued is dropped, and the farewell takes its place."""
        self._closed = True
        self._farewell = farewell
        self._frames.clear()
        self._queued = 0
        self._feed()
        self._wake()

    async def hungry(self, seconds: float | None = None) -> bool:
        """Wait until nothing is queued, at most so long. False if something still is, or if the stream is closed.

        Before `run` has begun nobody is known to read, however little is queued.
        """
        if (self._frames or not self._begun) and not self._closed:
            if self._hunger is None:
                self._hunger = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._hunger], timeout=seconds)
        return self.open and not self._frames

    async def keep_up(self) -> None:
        """Wait for a reader who is behind, but not for long: close the stream of one who is too slow."""
        if self._queued > MAX_QUEUED_BYTES // 2:
            await self.hungry(CATCH_UP_SECONDS)
            if self._frames:
                self.close(TOO_SLOW)

    async def run(self, receive: Receive, send: Send, *, max_seconds: float, max_bytes: float = inf) -> None:
        """Answer an HTTP request with this stream until it ends, is closed, or the client leaves.

        A comment leaves at once, since servers hold back headers until the first part of a body. After `max_seconds`,
        or `max_bytes` with more to come, the stream is closed with `retry:`, and its client comes back for the rest.
        """
        await send({"type": "http.response.start", "status": 200, "headers": list(sse.STREAM_HEADERS)})
        await send({"type": "http.response.body", "body": sse.OPENING, "more_body": True})
        watcher = asyncio.create_task(self._watch(receive))
        await asyncio.sleep(0)  # a client that has left already is noticed before anything is read for it
        self._begun = True
        if not self._frames:
            self._feed()
        timer = asyncio.get_running_loop().call_later(max_seconds, self.close, COME_BACK)
        try:
            await self._pump(send, max_bytes)
        finally:
            self._closed = True
            self._feed()
            timer.cancel()
            watcher.cancel()
            if self.on_close is not None:
                self.on_close()
        await send({"type": "http.response.body", "body": self._farewell, "more_body": False})

    async def _pump(self, send: Send, max_bytes: float) -> None:
        while not self._closed:
            if self._sent > max_bytes and not self._ended:
                self.close(COME_BACK)
            elif self._frames:
                await send({"type": "http.response.body", "body": self._take(), "more_body": True})
            elif self._ended:
                return
            elif not await self._woken():
                await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})

    def _take(self) -> bytes:
        """The next frames in one part; what waits for a slow reader stays in the queue, where it is counted."""
        count, size = 0, 0
        for frame in self._frames:
            if count and size + len(frame) > PART_BYTES:
                break
            count, size = count + 1, size + len(frame)
        part = b"".join(self._frames[:count])
        del self._frames[:count]
        self._queued -= size
        self._sent += size
        if not self._frames:
            self._feed()
        return part

    def _feed(self) -> None:
        if self._hunger is not None:
            self._hunger.set_result(None)
            self._hunger = None

    async def _woken(self) -> bool:
        """Wait for something to do. False when it is time for a sign of life."""
        loop = asyncio.get_running_loop()
        self._waker = waker = loop.create_future()
        timer = loop.call_later(KEEP_ALIVE_SECONDS, waker.cancel)
        try:
            await asyncio.wait([waker])
            return not waker.cancelled()
        finally:
            timer.cancel()
            self._waker = None

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _watch(self, receive: Receive) -> None:
        """Close when the client leaves. Parts of a request body that are still to come are skipped."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.close()


def max_bytes(scope: Scope) -> float:
    """Bytes that a stream may send on the connection of this request.

    No limit where `send` waits for the reader, so that what is not read is queued here and bounded here. daphne's
    returns at once; it is the one server that names no version of the specification.
    """
    waits = PACED in scope.get("extensions", ()) or "spec_version" in scope["asgi"]
    return inf if waits else MAX_UNPACED_BYTES
