"""Event streams on the wire: one open connection that sends messages as they come.

Written by hand because a process holds thousands of idle streams, and because what waits for a slow reader must be
bounded. An idle stream takes 4.7 kB and two tasks here, 26.6 kB and five tasks with sse-starlette 3.7, which has no
such bound.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from mcp_sessions.transport import sse
from mcp_sessions.transport.asgi import Receive, Scope, Send

#: Seconds of silence after which a comment line is sent. Common proxies end a silent connection after 30 s or more.
KEEP_ALIVE_SECONDS: Final = 25.0
#: Bytes that may wait for a slow reader before its stream is closed.
MAX_QUEUED_BYTES: Final = 4 * 1024 * 1024
#: When half as many wait, the handler waits, too: at most this many seconds, for the reader to take all of them.
CATCH_UP_SECONDS: Final = 1.0
#: Bytes sent in one part of the body, except for a single larger frame.
PART_BYTES: Final = 64 * 1024
#: Bytes of a stream sent on one connection of a server whose `send` does not wait: that many may pile up there.
MAX_UNPACED_BYTES: Final = 16 * 1024 * 1024
#: The ASGI extension by which a server says that its `send` waits for the reader.
PACED: Final = "mcp_sessions.paced"
#: The last frame for a client that was too slow, and for one whose connection is old enough: both may reconnect.
TOO_SLOW: Final = sse.retry(1.0)
RECONNECT: Final = sse.retry(0.1)


class EventStream:
    """One open event stream. Frames are put from the event loop; `run` writes them to the connection.

    Frames put before `run` are kept. After `end` the queued frames are still sent; after `close` none are.
    """

    __slots__ = (
        "_closed",
        "_drained",
        "_ended",
        "_frames",
        "_gone",
        "_last_frame",
        "_over",
        "_queued_bytes",
        "_running",
        "_sent_bytes",
        "_waker",
        "on_close",
    )

    def __init__(self) -> None:
        #: Called when the connection is gone, for whatever reason.
        self.on_close: Callable[[], None] | None = None
        self._frames: list[bytes] = []
        self._queued_bytes = 0
        self._sent_bytes = 0
        self._last_frame = b""
        self._ended = False
        self._closed = False
        self._running = False
        self._over = False
        self._waker: asyncio.Future[bool] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether frames put now can still be sent."""
        return not (self._closed or self._ended)

    def put(self, frame: bytes) -> None:
        """Queue a frame. It is dropped if the stream is closed; if the reader is too slow, the stream is closed."""
        if not self.open:
            return
        # This frame does not count: that it is large says nothing about the reader.
        if self._queued_bytes >= MAX_QUEUED_BYTES:
            self.close(TOO_SLOW)
            return
        self._queued_bytes += len(frame)
        self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        """Close after the queued frames."""
        self._ended = True
        self._wake()

    def close(self, last_frame: bytes = b"") -> None:
        """Close now: the queued frames are dropped, and only `last_frame` is sent."""
        self._closed = True
        self._last_frame = last_frame
        self._frames.clear()
        self._queued_bytes = 0
        self._set_drained()
        self._wake()

    async def wait_drained(self, seconds: float | None = None) -> bool:
        """Wait until nothing is queued, at most that long. False if something still is, or if the stream is closed.

        Before `run` has begun nobody is known to read, however little is queued.
        """
        if (self._frames or not self._running) and not self._closed:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=seconds)
        return self.open and not self._frames

    def gone(self) -> "asyncio.Future[None]":
        """Done when `run` has ended: the response is complete, or its client has left."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            if self._over:
                self._gone.set_result(None)
        return self._gone

    async def keep_up(self, seconds: float | None = CATCH_UP_SECONDS) -> None:
        """Wait a moment for a reader that is behind, and close the stream of one that is too slow.

        None waits as long as it takes.
        """
        if self._queued_bytes > MAX_QUEUED_BYTES // 2:
            await self.wait_drained(seconds)
            if self._frames:
                self.close(TOO_SLOW)

    async def run(self, receive: Receive, send: Send, *, max_seconds: float, max_bytes: float = inf) -> None:
        """Answer an HTTP request with this stream until it ends, is closed, or the client leaves.

        A comment is sent at once, because servers hold back headers until the first part of a body. After
        `max_seconds`, or after `max_bytes` with more to come, the stream is closed with `retry:`, and its client
        reconnects for the rest.
        """
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(sse.STREAM_HEADERS)})
            await send({"type": "http.response.body", "body": sse.OPENING, "more_body": True})
            watcher = asyncio.create_task(self._close_on_disconnect(receive))
            await asyncio.sleep(0)  # notice a client that has left already before anything is read for it
            self._running = True
            if not self._frames:
                self._set_drained()
            loop = asyncio.get_running_loop()
            timer = None if max_seconds == inf else loop.call_later(max_seconds, self.close, RECONNECT)
            try:
                await self._send_frames(send, max_bytes)
            finally:
                self._closed = True
                self._set_drained()
                if timer is not None:
                    timer.cancel()
                watcher.cancel()
                if self.on_close is not None:
                    self.on_close()
            await send({"type": "http.response.body", "body": self._last_frame, "more_body": False})
        finally:
            self._over = True
            if self._gone is not None:
                self._gone.set_result(None)

    async def _send_frames(self, send: Send, max_bytes: float) -> None:
        while not self._closed:
            if self._sent_bytes > max_bytes and not self._ended:
                self.close(RECONNECT)
            elif self._frames:
                await send({"type": "http.response.body", "body": self._next_part(), "more_body": True})
            elif self._ended:
                return
            elif not await self._wait_for_work():
                await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})

    def _next_part(self) -> bytes:
        """The next frames in one part; what waits for a slow reader stays in the queue, where it is counted."""
        count, size = 0, 0
        for frame in self._frames:
            if count and size + len(frame) > PART_BYTES:
                break
            count, size = count + 1, size + len(frame)
        part = b"".join(self._frames[:count])
        del self._frames[:count]
        self._queued_bytes -= size
        self._sent_bytes += size
        if not self._frames:
            self._set_drained()
        return part

    def _set_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    async def _wait_for_work(self) -> bool:
        """Wait until there is something to do. False when it is time for a keep-alive comment."""
        loop = asyncio.get_running_loop()
        waker: asyncio.Future[bool] = loop.create_future()
        self._waker = waker
        timer = loop.call_later(KEEP_ALIVE_SECONDS, self._wake, False)  # noqa: FBT003 - what the waker gives
        try:
            return await waker
        finally:
            timer.cancel()
            self._waker = None

    def _wake(self, work: bool = True) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(work)

    async def _close_on_disconnect(self, receive: Receive) -> None:
        """Close when the client leaves. Parts of a request body that are still to come are skipped."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.close()


def max_bytes(scope: Scope) -> float:
    """Bytes that a stream may send on the connection of this request.

    There is no limit where `send` waits for the reader: what is not read is queued and bounded here. The `send` of
    daphne returns at once; daphne is the one server that gives no `spec_version`.
    """
    waits = PACED in scope.get("extensions", ()) or "spec_version" in scope["asgi"]
    return inf if waits else MAX_UNPACED_BYTES
