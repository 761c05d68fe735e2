"""Test tools inside the test's own process: the SDK's client, connected to an endpoint without a server in between.

    async with connect() as client:
        result = await client.call_tool("add", {"a": 1, "b": 2})

See docs/testing.md.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import anyio
import httpx2
from channels.routing import URLRouter
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_sessions import conf, lifecycle
from mcp_sessions.routing import mcp_urlpatterns
from mcp_sessions.transport.asgi import Application, Message, Scope

Era = Literal["handshake", "modern"]

#: Django's test environment allows this host.
ORIGIN: Final = "http://testserver"


@asynccontextmanager
async def connect(
    *,
    era: Era = "handshake",
    endpoint: str = "default",
    user: Any = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """Connect the SDK's client to an endpoint in MCP_SESSIONS, for the block of an `async with`.

    A client of the handshake era has a session, which ends with the block; one of the modern era has none. `user` is
    what authentication would put into the ASGI scope, `headers` go with every request, and the other options are those
    of `mcp.Client`. The last client of an event loop to disconnect stops the endpoints, as `serving` does.

    Raises: ImproperlyConfigured for a wrong setting; what the SDK's client raises when it cannot connect.
    """
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        async with serving(), http_client(user=user, headers=headers) as http:
            connection = streamable_http_client(url_of(endpoint), http_client=http)
            async with Client(
                connection, mode="legacy" if era == "handshake" else "auto", **options
            ) as client:
                _check_era(era, client)
                opened.set_result(client)
                await leave.wait()

    # A task of its own holds the client. The SDK's client must be left by the task that entered it, but pytest runs the
    # two halves of a fixture in two tasks; and its task groups would wrap what the block raises in an ExceptionGroup.
    holder = asyncio.create_task(hold())
    either: set[asyncio.Future[Any]] = {opened, holder}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if opened.done():
            yield opened.result()
    finally:
        leave.set()
        if not opened.done():
            holder.cancel()
        await _outcome(holder)


def http_client(*, user: Any = None, headers: Mapping[str, str] | None = None) -> httpx2.AsyncClient:
    """An HTTP client for `url_of(...)`, answered in this process, event streams included. Use it within `serving()`.

    For tests that look at status codes and headers.
    """
    # Who is given as the user needs no other credentials.
    patterns = mcp_urlpatterns(authenticate=None if user is None else lambda application: application)
    transport = _StreamingTransport(URLRouter(patterns), scope={} if user is None else {"user": user})
    return httpx2.AsyncClient(transport=transport, headers=headers)


def url_of(endpoint: str = "default") -> str:
    """The URL at which an endpoint answers an `http_client`."""
    return f"{ORIGIN}/{conf.endpoint(endpoint).path}"


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Stop the endpoints of this event loop when its last such block ends, as a server does when it stops."""
    blocks = _blocks.setdefault(asyncio.get_running_loop(), _Blocks())
    async with blocks.stopping:  # what is being stopped serves nobody
        blocks.count += 1
    try:
        yield
    finally:
        async with blocks.stopping:
            blocks.count -= 1
            if not blocks.count:
                await lifecycle.drain()
                await lifecycle.abort()
                await lifecycle.shutdown()


@dataclass(slots=True)
class _Blocks:
    """The `serving` blocks of one event loop."""

    count: int = 0
    #: Held while the endpoints are stopped.
    stopping: asyncio.Lock = field(default_factory=asyncio.Lock)


_blocks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Blocks] = WeakKeyDictionary()


class _StreamingTransport(httpx2.AsyncBaseTransport):
    """Hand requests to an ASGI application, and each part of its response to the client as it is sent.

    `httpx2.ASGITransport` returns a response when the application has ended, so that an event stream would never begin.
    `scope` is added to the scope of each request.
    """

    def __init__(self, application: Application, *, scope: Scope) -> None:
        self._application = application
        self._scope = scope
        self._running: set[asyncio.Task[None]] = set()

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
        elif message.get("body") and not self._left.is_set():
            try:
                await self._sink.send(message["body"])
            except anyio.BrokenResourceError:
                """The client left while it waited for this part."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._sink.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._source:
            yield part

    async def aclose(self) -> None:
        """The client has what it wants."""
        self._left.set()
        self._source.close()


def _check_era(era: Era, client: Client) -> None:
    """The SDK's client falls back to the handshake when a server refuses `server/discover`. Raises: RuntimeError."""
    if era == "modern" and client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise RuntimeError(
            f"The server negotiated {client.protocol_version}, not a version of the modern era."
        )


async def _outcome(task: asyncio.Task[None]) -> None:
    """Wait for a task, and raise the one error that the SDK's nested task groups have wrapped in groups."""
    try:
        await task
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            [error] = error.exceptions
        raise error from None
