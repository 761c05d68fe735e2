"""The endpoint as an ASGI application: one path that serves POST, GET, DELETE and OPTIONS.

A plain callable under Channels' URLRouter: it sees a client leave while it streams, which a consumer class does not.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.authentication.blocking import Asker, blocks_of
from mcp_sessions.authentication.identity import NOBODY, Identity, identity_of
from mcp_sessions.authentication.loading import Wrap, authenticators_for, gated
from mcp_sessions.authentication.recheck import ended_with
from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.conf.rates import REQUESTS, STREAMS
from mcp_sessions.conf.rules import HANDSHAKE, MODERN
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import access, browser, lookup
from mcp_sessions.http.accepting import accept
from mcp_sessions.http.closing import delete
from mcp_sessions.http.eras import era_refusal
from mcp_sessions.http.headers import (
    LAST_EVENT_ID,
    PROTOCOL_VERSION,
    REQUESTED_HEADERS,
    SESSION_ID,
    combined,
    get_rejection,
    post_rejection,
    repetition,
)
from mcp_sessions.http.middleware import guarded
from mcp_sessions.http.modern import serve_modern
from mcp_sessions.http.opening import initialize
from mcp_sessions.http.responses import preflight, reject, respond, with_cors
from mcp_sessions.records import Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk.server import HANDSHAKE_VERSIONS
from mcp_sessions.serving.limits import counted_as
from mcp_sessions.serving.runtime import Runtime, runtime_for, served
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from mcp_sessions.transport.event_ids import STANDALONE, EventId
from mcp_sessions.transport.event_stream import RECONNECT, EventStream, max_bytes
from mcp_sessions.transport.rejections import JSON_HEADERS

logger = logging.getLogger(__name__)

_HANDSHAKE: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
_KNOWN: Final = _HANDSHAKE | {version.encode() for version in MODERN_PROTOCOL_VERSIONS}
#: Bytes of a body that is parsed only for a session that exists; `initialize` needs fewer.
LARGE_BODY_BYTES: Final = 64 * 1024


class MCPEndpoint:
    """One entry of MCP_SESSIONS as an ASGI application, behind the authenticators that AUTHENTICATION names.

    `authenticate` is put around these. The user whom it leaves in the scope counts for requests without other
    credentials.
    """

    def __init__(self, alias: str, *, authenticate: Wrap | None = None) -> None:
        """Raises: ImproperlyConfigured for a setting that is wrong."""
        self.alias = alias
        self._unavailable = Repeats(logger, f"Requests to endpoint {alias!r} refused without the store")
        conf = endpoint(alias)
        served.add(alias)
        self.authenticators = authenticators_for(conf)
        self._blocks = blocks_of(alias)
        self._serve = gated(conf, self._dispatch, self.authenticators, authenticate)

    @classmethod
    def as_asgi(cls, alias: str, *, authenticate: Wrap | None = None) -> Application:
        """The application for a URLRouter, within MIDDLEWARE; no exception escapes from it into the server."""
        return guarded(endpoint(alias), cls(alias, authenticate=authenticate))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["headers"]
        headers = dict(raw)
        if len(headers) < len(raw):
            repeated = repetition(raw)
            if repeated is not None:
                return await reject(send, repeated)
            scope = {**scope, "headers": combined(raw)}
            headers = dict(scope["headers"])
        rejection = access.rejection(headers, endpoint(self.alias))
        if rejection is not None:
            return await reject(send, rejection)
        origin = headers.get(b"origin")
        if origin is not None:
            send = with_cors(send, origin)
        method = scope["method"]
        if method == "OPTIONS":
            return await respond(send, 204, preflight(headers.get(REQUESTED_HEADERS, b"")))
        blocks = self._blocks
        if not blocks.known:
            await blocks.load()
        # Before authentication, which may ask a database.
        if blocks.any and blocks.refuse(Asker(address=self._address(scope))):
            return await reject(send, rejections.BLOCKED)
        if method == "GET" and browser.wants_page(headers):
            return await browser.send_page(send, scope, endpoint(self.alias), self.authenticators)
        del raw, headers, blocks  # a stream lives for hours, and the locals of this frame with it
        await self._serve(scope, receive, send)

    def _address(self, scope: Scope) -> str | None:
        return client_address(scope, endpoint(self.alias).trusted_proxies)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of either era, from an authenticated client."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        version, method = headers.get(PROTOCOL_VERSION), scope["method"]
        handler = _HANDLERS.get(method)
        if handler is None:
            return await reject(send, rejections.BAD_METHOD)
        if version is not None and version not in _KNOWN and method != "POST":
            return await reject(send, rejections.BAD_VERSION)
        conf, modern = endpoint(self.alias), version is not None and version not in _HANDSHAKE
        if (MODERN if modern else HANDSHAKE) not in conf.eras:
            body = await _body(headers, receive, LARGE_BODY_BYTES) if method == "POST" else None
            return await reject(send, era_refusal(method, version, body, modern=modern))
        if self._blocks.any and self._blocks.refuse(Asker(principal=identity_of(scope).principal)):
            return await reject(send, rejections.BLOCKED)
        try:
            runtime = await runtime_for(self.alias)
            if modern:
                return await serve_modern(runtime, scope, receive, send)
            # What authenticates leaves a user, be it None.
            identity = identity_of(scope) if "user" in scope else NOBODY
            await handler(_HandshakeRequest(runtime, conf, scope, headers, identity, receive, send))
        except StoreUnavailable as error:
            self._unavailable.add("The session store of endpoint %r cannot be reached: %s", self.alias, error)
            await reject(send, rejections.STORE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class _HandshakeRequest:
    """One HTTP request of the handshake era."""

    runtime: Runtime
    conf: Endpoint
    scope: Scope
    headers: dict[bytes, bytes]
    identity: Identity
    receive: Receive
    send: Send

    async def post(self) -> None:
        """Sending Messages to the Server."""
        headers = self.headers
        rejection = post_rejection(
            headers.get(b"content-type", b""),
            headers.get(b"accept", b""),
            json_only=self.conf.response == "json",
        )
        if rejection is not None:
            return await reject(self.send, rejection)
        body = await _body(headers, self.receive, self.conf.max_body)
        if body is not None and len(body) > LARGE_BODY_BYTES:
            rejection = await self._large_body_rejection()
            if rejection is not None:
                return await reject(self.send, rejection)
        message = rejections.TOO_LARGE if body is None else jsonrpc.parse(body)
        del body  # a request lives as long as its handler
        if isinstance(message, rejections.Rejection):
            return await reject(self.send, message)
        admission = self.runtime.admission
        if not admission.may_wait(runs=isinstance(message, jsonrpc.Request)):
            return await reject(self.send, rejections.TOO_MANY_REQUESTS)
        admission.waiting += 1
        try:
            if isinstance(message, jsonrpc.Request) and message.method == "initialize":
                return await initialize(self.runtime, message, self.identity, self.scope, self.send)
            session = await lookup.touch(
                self.runtime,
                headers.get(SESSION_ID),
                self.identity,
                call=jsonrpc.call_name(message),
                initialized=isinstance(message, jsonrpc.Notification)
                and message.method == "notifications/initialized",
                counts=self._counts(counted_as(message)) if self.conf.rates else None,
            )
        finally:
            admission.waiting -= 1
        if isinstance(session, rejections.Rejection):
            await reject(self.send, session)
        elif isinstance(message, jsonrpc.Request):
            await self._answer(message, session)
        elif isinstance(message, jsonrpc.Notification):
            await accept(self.runtime, message, session, self.scope, self.send)
        elif await self.runtime.client_requests.answer(session.fingerprint, message):
            await respond(self.send, 202)
        else:
            await reject(self.send, rejections.NOT_AWAITED)

    async def _answer(self, request: jsonrpc.Request, session: Session) -> None:
        """Send one JSON object if the handler ends soon and sends nothing before, else an event stream.

        Where there may be no stream, send one JSON object however long that takes.
        """
        runtime, mode = self.runtime, self.conf.response
        touched = asyncio.get_running_loop().time()
        if not runtime.admission.may_run(session.fingerprint):
            return await reject(self.send, rejections.TOO_MANY_REQUESTS)
        may_stream = mode != "json" and runtime.admission.open_stream()
        try:
            exchange = runtime.new_exchange(
                context=runtime.context if session.is_stored else runtime.outage.context,
                request=request,
                scope=self.scope,
                session=session,
                may_stream=may_stream,
            )
            runtime.admission.run(exchange)
            if mode == "sse" and may_stream:
                exchange.open()
            else:
                await exchange.settled(self.conf.grace)
            if exchange.response is None:
                exchange.keeps_session = True
                runtime.deadlines.watch(session, touched=touched)
                if not may_stream:
                    await exchange.settled(None)
            if exchange.response is not None and exchange.stream is None:
                await self._send_json(exchange.response)
            else:
                await self._send_stream(exchange.open().event_stream, session.handshake.client_name)
        finally:
            if may_stream:
                runtime.admission.close_stream()

    async def _send_json(self, message: dict[str, Any]) -> None:
        body = jsonrpc.encode(message)
        length = (b"content-length", b"%d" % len(body))
        await self.send({"type": "http.response.start", "status": 200, "headers": [*JSON_HEADERS, length]})
        await self.send({"type": "http.response.body", "body": body})

    async def _send_stream(self, event_stream: EventStream, client: str) -> None:
        """Send a stream that ends with the credentials of its request, and when its client is blocked."""
        asker = Asker(self.identity.principal, client, client_address(self.scope, self.conf.trusted_proxies))
        end = partial(event_stream.close, RECONNECT)
        with ended_with(self.identity, end), self.runtime.blocks.ending(asker, end):
            await event_stream.run(
                self.receive,
                self.send,
                max_seconds=min(self.conf.stream_max_age, self.identity.seconds_left()),
                max_bytes=max_bytes(self.scope),
            )

    async def get(self) -> None:
        """Listening for Messages from the Server, and Resumability and Redelivery."""
        rejection = get_rejection(self.headers.get(b"accept", b""))
        if rejection is not None:
            return await reject(self.send, rejection)
        runtime = self.runtime
        # Before the session is looked up: what waits for the store counts, too.
        if (rejection := runtime.listen()) is not None:
            return await reject(self.send, rejection)
        try:
            session = await lookup.touch(
                runtime,
                self.headers.get(SESSION_ID),
                self.identity,
                call="GET",
                counts=self._counts((REQUESTS, STREAMS)) if self.conf.rates else None,
            )
            if isinstance(session, rejections.Rejection):
                return await reject(self.send, session)
            if not session.is_stored:
                if LAST_EVENT_ID in self.headers:
                    return await reject(self.send, rejections.STORE_UNAVAILABLE)
                return await self._send_stream(runtime.listen_without_store(), session.handshake.client_name)
            runtime.deadlines.watch(session)
            reader = await self._take_over(session)
            if reader is None:
                return await self._no_stream(session.fingerprint)
            client = session.handshake.client_name
            del session  # it would live as long as the stream
            task = runtime.deliver(reader)
            try:
                await self._send_stream(reader.event_stream, client)
            finally:
                runtime.open_streams.stop(reader, task)
        finally:
            runtime.admission.close_stream()

    async def _take_over(self, session: Session) -> StreamReader | None:
        """The stream that the client wants: the standalone one, or the one of its `Last-Event-ID`."""
        stream, after = STANDALONE, None
        header = self.headers.get(LAST_EVENT_ID)
        if header is not None:
            event_id = EventId.parse(header.decode("latin-1"), fingerprint=session.fingerprint)
            if event_id is None:
                return None
            stream, after = event_id.stream, event_id.position
        return await self.runtime.open_streams.take_over(session, stream, after=after, scope=self.scope)

    async def _no_stream(self, digest: str) -> None:
        """The client's event id is unknown, or its session has ended since it was looked up."""
        if await self.runtime.context.store.run(sessions.get(digest)) is None:
            await reject(self.send, lookup.not_found(digest))
        else:
            await reject(self.send, rejections.BAD_EVENT_ID)

    async def delete(self) -> None:
        """Session Management, rule 5: the client ends its session."""
        await delete(self.runtime, self.headers.get(SESSION_ID), self.identity.principal, self.send)

    def _counts(self, whats: Sequence[str]) -> lookup.Counts:
        return lookup.Counts(whats, client_address(self.scope, self.conf.trusted_proxies))

    async def _large_body_rejection(self) -> rejections.Rejection | None:
        """Why a body that takes long to parse is refused: only sessions that exist may send one."""
        admission = self.runtime.admission
        if not admission.may_wait(runs=False):
            return rejections.TOO_MANY_REQUESTS
        admission.waiting += 1
        try:
            return await lookup.refusal(self.runtime, self.headers.get(SESSION_ID), self.identity, self.scope)
        finally:
            admission.waiting -= 1


_HANDLERS: Final[dict[str, Callable[[_HandshakeRequest], Awaitable[None]]]] = {
    "POST": _HandshakeRequest.post,
    "GET": _HandshakeRequest.get,
    "DELETE": _HandshakeRequest.delete,
}


async def _body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes | None:
    """The whole request body; None if it exceeds the limit."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        return None
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= limit:
        message = await receive()
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
    return b"".join(parts) if size <= limit else None
