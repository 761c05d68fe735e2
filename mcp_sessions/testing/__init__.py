"""Test tools inside the test's own process: the SDK's client, connected to an endpoint without a server in between.

    async with connect() as client:
        result = await client.call_tool("add", {"a": 1, "b": 2})

See docs/testing.md.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import httpx2
from channels.routing import URLRouter
from django.urls import re_path
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_sessions import conf, lifecycle
from mcp_sessions.ids import fingerprint
from mcp_sessions.routing import applications
from mcp_sessions.state import State
from mcp_sessions.store.factory import store_for
from mcp_sessions.testing import stores
from mcp_sessions.testing.stores import travel, user_state
from mcp_sessions.testing.transport import StreamingTransport

__all__ = ["Era", "InProcessClient", "connect", "http_client", "serving", "travel", "url_of", "user_state"]

Era = Literal["handshake", "modern"]

#: Django's test environment allows this host.
ORIGIN: Final = "http://testserver"


@asynccontextmanager
async def connect(
    *,
    era: Era = "handshake",
    endpoint: str = "default",
    user: Any = None,
    state: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator["InProcessClient"]:
    """Connect the SDK's client to an endpoint in MCP_SESSIONS, for the block of an `async with`.

    A client of the handshake era has a session, which ends with the block; one of the modern era has none. `user` is
    what authentication would put into the ASGI scope, `state` is what the session's state begins with, `headers` go
    with every request, and the other options are those of `mcp.Client`. The last client of an event loop to disconnect
    stops the endpoints, as `serving` does.

    Raises: ImproperlyConfigured for a wrong setting; ValueError for a state without a session; what the SDK's client
    raises when it cannot connect.
    """
    if era == "modern" and state is not None:
        raise ValueError(
            "The modern era has no session that could have a state. user_state() works in both eras."
        )
    opened: asyncio.Future[InProcessClient] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        async with _connected(era, endpoint, user, state or {}, headers, options) as client:
            opened.set_result(client)
            await leave.wait()

    # A task of its own holds the client. The SDK's client must be left by the task that entered it, but pytest runs the
    # two halves of a fixture in two tasks; and its task groups would wrap what the block raises in an ExceptionGroup.
    holder = asyncio.create_task(hold())
    either: set[asyncio.Future[Any]] = {opened, holder}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # Whoever gives up is told that, and not what the SDK's client raises when it is cancelled.
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        raise
    try:
        if opened.done():
            yield opened.result()
    finally:
        leave.set()
        await _outcome(holder)


@asynccontextmanager
async def _connected(
    era: Era,
    endpoint: str,
    user: Any,
    state: Mapping[str, Any],
    headers: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> AsyncIterator["InProcessClient"]:
    """As `connect`, which says why a task of its own runs this."""
    transport = _transport(user)
    async with serving(), httpx2.AsyncClient(transport=transport, headers=headers) as http:
        connection = streamable_http_client(url_of(endpoint), http_client=http)
        client = InProcessClient(connection, mode="legacy" if era == "handshake" else "auto", **options)
        client.endpoint, client.transport = endpoint, transport
        async with client:
            _check_era(era, client)
            if era == "handshake":
                # The session is in use from here on: FIRST_TTL is for clients that never come back.
                await client.session.send_ping()
                await client.state.update(state)
            yield client


class InProcessClient(Client):
    """The SDK's client, of an endpoint in this process."""

    #: The key in MCP_SESSIONS.
    endpoint: str
    transport: StreamingTransport

    @property
    def state(self) -> State:
        """What its tools have as `current_session().state`.

        Its methods raise SessionGone when the session has ended. Raises: RuntimeError in the modern era.
        """
        if self.transport.session_id is None:
            raise RuntimeError("This client has no session: it speaks the modern era.")
        digest = fingerprint(self.transport.session_id)
        max_bytes = conf.endpoint(self.endpoint).state_max_bytes
        return State(store_for(self.endpoint), digest, max_bytes=max_bytes)


def http_client(*, user: Any = None, headers: Mapping[str, str] | None = None) -> httpx2.AsyncClient:
    """An HTTP client for `url_of(...)`, answered in this process, event streams included. Use it within `serving()`.

    For tests that look at status codes and headers.
    """
    return httpx2.AsyncClient(transport=_transport(user), headers=headers)


def _transport(user: Any) -> StreamingTransport:
    """Leads to all endpoints. Raises: as `routing.with_mcp`."""
    # Who is given as the user needs no other credentials.
    found = applications(None if user is None else lambda application: application).items()
    # Channels puts ASGI applications in the place of views.
    patterns = [re_path(rf"^{re.escape(path)}/?$", served) for path, served in found]  # type: ignore[arg-type]
    return StreamingTransport(URLRouter(patterns), scope={} if user is None else {"user": user})


def url_of(endpoint: str = "default") -> str:
    """The URL at which an endpoint answers an `http_client`."""
    return f"{ORIGIN}/{conf.endpoint(endpoint).path}"


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Stop the endpoints of this event loop when its last such block ends, as a server does when it stops.

    Within, sessions are in memory, unless MCP_SESSIONS_TEST_REDIS is set. Raises: ImproperlyConfigured without lupa.
    """
    blocks = _blocks.setdefault(asyncio.get_running_loop(), _Blocks())
    async with blocks.stopping:  # what is being stopped serves nobody
        stores.enter()
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
            stores.leave()


@dataclass(slots=True)
class _Blocks:
    """The `serving` blocks of one event loop."""

    count: int = 0
    #: Held while the endpoints are stopped.
    stopping: asyncio.Lock = field(default_factory=asyncio.Lock)


_blocks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Blocks] = WeakKeyDictionary()


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
