"""HTTP to an ASGI application in this process: parts of a response arrive as they are sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import anyio
import httpx2

from mcp_sessions.transport.asgi import Application, Message, Scope

_SESSION_ID: Final = b"mcp-session-id"


class StreamingTransport(httpx2.AsyncBaseTransport):
    """Hand requests to an ASGI application, and each part of its response to the client as it is sent.

    `httpx2.ASGITransport` returns a response when the application has ended, so that an event stream would never begin.
    `scope` is added to the scope of each request.
    """

    def __init__(self, application: Application, *, scope: Scope) -> None:
        self._application = application
        self._scope = scope
        self._running: set[asyncio.Task[None]] = set()
        #: The id of the last session that was opened.
        self.session_id: str | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response as soon as the application has started it. Raises: what the application raises before that."""
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(exchange.run(self._application, self._scope_of(request)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            status, headers = await exchange.started
        except BaseException:
            await exchange.aclose()
            raise
        session_id = dict(headers).get(_SESSION_ID)
        if session_id is not None:
            self.session_id = session_id.decode("latin-1")
        return httpx2.Response(status, headers=headers, stream=exchange)

    async def aclose(self) -> None:
        """Wait for the application to notice that its clients have left."""
        if self._running:
            await asyncio.wait(self._running)

    def _scope_of(self, request: httpx2.Request) -> Scope:
        return {
            "type": "http",
            # From 2.4 on, `send` may wait for the reader, and this one does.
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 0),
            "server": (request.url.host, request.url.port),
            **self._scope,
        }


class _Exchange(httpx2.AsyncByteStream):
    """One request, and the body of its response while it comes."""

    def __init__(self, body: bytes) -> None:
        self.started: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]]
        self.started = asyncio.get_running_loop().create_future()
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._left = asyncio.Event()
        self._sink, self._source = anyio.create_memory_object_stream[bytes](0)

    async def run(self, application: Application, scope: Scope) -> None:
        """Let the application answer."""
        with self._sink:
            try:
                await application(scope, self._receive, self._send)
            except BaseException as error:
                if self.started.done() or not isinstance(error, Exception):
                    self.started.cancel()
                    raise
                self.started.set_exception(error)
        if not self.started.done():
            self.started.set_exception(RuntimeError("The application ended without a response."))

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self.started.cancelled():
            self.started.set_result((message["status"], list(message.get("headers", ()))))
        elif message.get("body"):
            try:
                await self._sink.send(message["body"])
            except anyio.BrokenResourceError:
                """The client has left, or does while this part waits for it."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._sink.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._source:
            yield part

    async def aclose(self) -> None:
        """The client has what it wants."""
        self._left.set()
        self._source.close()
