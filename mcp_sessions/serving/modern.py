"""One request of the modern era being answered, in one process, without a session and without the store."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.sdk.channel import NoChannel
from mcp_sessions.sdk.envelope import client_info_of, status_of
from mcp_sessions.sdk.kernel import Kernel
from mcp_sessions.serving.exchange import INTERRUPTED
from mcp_sessions.serving.observing import REQUEST_CANCELLED, TELL, Begun, Ended, next_number
from mcp_sessions.store.calls.reading import CALL_LENGTH
from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.asgi import Receive, Scope, Send
from mcp_sessions.transport.event_stream import EventStream
from mcp_sessions.transport.rejections import JSON_HEADERS

#: Seconds after which a request is watched for its client leaving. Most are answered before, and to watch costs a task.
WATCHED_AFTER: Final = 0.05
#: Seconds of silence after which the answer becomes an event stream, so that no proxy closes the connection.
SILENT_SECONDS: Final = 15.0


@dataclass(eq=False, slots=True, kw_only=True)
class ModernExchange(NoChannel):
    """Runs the handler of a request and sends the answer: one JSON object, or an event stream.

    It becomes a stream with the first notification, or when the handler is silent for long. When its client leaves, the
    handler is cancelled: nobody can come back for the answer.
    """

    request: jsonrpc.Request
    #: The HTTP request, its body read.
    scope: Scope
    receive: Receive
    send: Send
    kernel: Kernel
    principal: str
    #: TRUSTED_PROXIES of the endpoint.
    trusted_proxies: Sequence[str]
    #: The request's `_meta`.
    meta: Mapping[str, Any]
    #: Called when the request has been answered, or its client has left.
    note: Callable[[Ended], None]
    #: Whether the answer is always one JSON object. What the handler sends before is dropped then.
    json_only: bool
    #: Seconds after which its stream ends, with `retry:`. Those of calls have no limit: nobody can resume them.
    max_seconds: float
    #: The JSON-RPC response, once there is one.
    response: dict[str, Any] | None = field(default=None, init=False)
    #: What tells it from the other requests of this process.
    number: int = field(default_factory=next_number, init=False)
    #: When it was begun, by `time.monotonic()`.
    began: float = field(default_factory=time.monotonic, init=False)
    _stream: EventStream | None = field(default=None, init=False)
    #: What sends the stream, and what waits for the client to leave before there is a stream.
    _sender: "asyncio.Task[None] | None" = field(default=None, init=False)
    _watcher: "asyncio.Task[None] | None" = field(default=None, init=False)
    #: What runs the handler: the HTTP request's own task, because one more would cost a tenth of a call.
    _task: "asyncio.Task[Any] | None" = field(default=None, init=False)
    _left: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Answer the request. Cancellation from outside is raised again."""
        self._task = task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(WATCHED_AFTER, self._outlast)
        try:
            response = await self.kernel.answer_modern(self.request, self.scope, self)
        except asyncio.CancelledError:
            if not self._left or task is None or task.uncancel():
                raise
        else:
            await self._respond(response)
        finally:
            if self.response is None:
                self._note(CONNECTION_CLOSED)
            self._task = None  # nobody may cancel what is left to send
            timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            if self._stream is not None and self._sender is not None:
                self._stream.end()
                await self._sender

    async def _respond(self, response: dict[str, Any]) -> None:
        """Send the response, as JSON or as the stream's last event. Only the first one counts."""
        if self.response is not None:
            return
        self.response = response
        error, result = response.get("error"), response.get("result")
        self._note(error and error["code"], failed=result is not None and result.get("isError", False))
        body = jsonrpc.encode(response)
        if self._stream is not None:
            self._stream.put(sse.event(body))
            return
        headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status_of(response), "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def _note(self, code: int | None, *, failed: bool = False) -> None:
        """Tell whoever wants to know how the request ended."""
        self.note(ended := Ended(self.begun, time.monotonic(), code, failed))
        if TELL in self.scope:
            self.scope[TELL](ended, client_address(self.scope, self.trusted_proxies))

    @property
    def begun(self) -> Begun:
        """The request, as observers are told of it."""
        info = client_info_of(self.meta)
        return Begun(
            self.number,
            "caller",
            "",
            jsonrpc.call_name(self.request)[:CALL_LENGTH],
            self.principal,
            str(info.get("name", "")),
            str(info.get("version", "")),
            self.began,
        )

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification on the request's stream, and wait for a reader that is far behind."""
        if self.json_only or self.response is not None:
            return
        stream = self._open()
        stream.put(sse.event(jsonrpc.encode(jsonrpc.notification(method, params))))
        await stream.keep_up(None)

    def _open(self) -> EventStream:
        """The stream; from now on the answer is one."""
        if self._stream is None:
            if self._watcher is not None:
                self._watcher.cancel()
            self._stream = EventStream()
            self._stream.on_close = self._leave
            sending = self._stream.run(self.receive, self.send, max_seconds=self.max_seconds)
            self._sender = asyncio.create_task(sending)
            self._sender.add_done_callback(self._leave)  # also if the server's `send` raised at once
        return self._stream

    def _outlast(self) -> None:
        if self._stream is None and self.response is None:
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Wait for the client to leave, until the silence has lasted so long that the answer becomes a stream."""
        try:
            async with asyncio.timeout(None if self.json_only else SILENT_SECONDS - WATCHED_AFTER):
                while (await self.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            self._open()
        else:
            self._leave()

    def _leave(self, _: object = None) -> None:
        """The client has left, and that is how it cancels its request (Transports → Cancellation)."""
        if self.response is None and not self._left and self._task is not None:
            self._left = True
            self._task.cancel()

    async def abort(self) -> None:
        """Answer with a JSON-RPC error, and cancel the handler: the process ends.

        A response that is being written is left to be cut off.
        """
        await self._end(CONNECTION_CLOSED, INTERRUPTED)

    async def cancel(self) -> None:
        """The same for an operator."""
        await self._end(REQUEST_CANCELLED, "Request cancelled")

    async def _end(self, code: int, message: str) -> None:
        if self.response is not None or self._left or self._task is None:
            return
        task, error = self._task, {"code": code, "message": message}
        await self._respond(jsonrpc.error_response(self.request.id, error))
        if self._stream is not None:
            self._stream.end()
        task.cancel()
