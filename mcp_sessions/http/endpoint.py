"""The endpoint as an ASGI application: one path that serves POST, GET, DELETE and OPTIONS.

A plain callable under Channels' URLRouter: it sees a client leave while it streams, which a consumer class does not.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp_types import INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.http import access
from mcp_sessions.http.guard import Guard
from mcp_sessions.http.headers import (
    LAST_EVENT_ID,
    PROTOCOL_VERSION,
    SESSION_ID,
    get_rejection,
    post_rejection,
    repetition,
)
from mcp_sessions.http.responses import PREFLIGHT, reject, respond, send_json, with_cors
from mcp_sessions.sdk import HANDSHAKE_VERSIONS, Refused
from mcp_sessions.serving.database import DatabaseScope
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.signals import session_created, session_ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.session import STANDALONE, Session, fingerprint, new_session_id
from mcp_sessions.streams.standalone import NoChannel
from mcp_sessions.streams.writer import Follower
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from mcp_sessions.transport.event_ids import EventId
from mcp_sessions.transport.event_stream import Delivery, max_bytes

logger = logging.getLogger(__name__)

Headers = dict[bytes, bytes]

_HANDSHAKE: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
_MODERN: Final = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)
#: Bytes of what `initialize` leaves in the store; more is refused.
MAX_HANDSHAKE_BYTES: Final = 16 * 1024


class MCPEndpoint:
    """One entry of MCP_SESSIONS as an ASGI application.

    `authenticate` wraps what runs behind authentication; it leaves a user in the scope.
    """

    def __init__(
        self, alias: str, *, authenticate: Callable[[Application], Application] | None = None
    ) -> None:
        self.alias = alias
        self._serve = self._dispatch if authenticate is None else authenticate(self._dispatch)

    @classmethod
    def as_asgi(cls, alias: str, **options: Any) -> Application:
        """The application for a URLRouter; nothing that goes wrong inside escapes into the server."""
        return Guard(cls(alias, **options))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        rejection = repetition(scope["headers"]) or access.rejection(headers, endpoint(self.alias))
        if rejection is not None:
            return await reject(send, rejection)
        origin = headers.get(b"origin")
        if origin is not None:
            send = with_cors(send, origin)
        if scope["method"] == "OPTIONS":
            return await respond(send, 204, PREFLIGHT)
        del headers  # a stream lives for hours, and what stands here with it
        await self._serve(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of either era, from an authenticated client."""
        headers: Headers = dict(scope["headers"])
        version, method = headers.get(PROTOCOL_VERSION), scope["method"]
        handler = _HANDLERS.get(method)
        if handler is None:
            return await reject(send, rejections.BAD_METHOD)
        if version is not None and version not in _HANDSHAKE | _MODERN and method != "POST":
            return await reject(send, rejections.BAD_VERSION)
        try:
            runtime = await runtime_for(self.alias)
            if version is not None and version not in _HANDSHAKE:
                return await _serve_modern(runtime, scope, receive, send)
            await handler(_Call(runtime, scope, headers, receive, send))
        except StoreUnavailable as error:
            logger.warning("The session store of endpoint %r cannot be reached: %s", self.alias, error)
            await reject(send, rejections.STORE_UNAVAILABLE)


class _Call:
    """One HTTP request of the handshake era."""

    __slots__ = ("conf", "headers", "principal", "receive", "runtime", "scope", "send")

    def __init__(
        self, runtime: Runtime, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        self.runtime = runtime
        self.conf: Endpoint = runtime.conf
        self.scope = scope
        self.headers = headers
        self.receive = receive
        self.send = send
        self.principal = access.principal_of(scope.get("user"))

    async def post(self) -> None:
        """Sending Messages to the Server."""
        rejection = post_rejection(self.headers, json_only=self.conf.response == "json")
        if rejection is not None:
            return await reject(self.send, rejection)
        body = await self._body()
        message = rejections.TOO_LARGE if body is None else jsonrpc.parse(body)
        if isinstance(message, rejections.Rejection):
            return await reject(self.send, message)
        if isinstance(message, jsonrpc.Request) and message.method == "initialize":
            return await self._initialize(message)
        session = await self._touch(_call_name(message), initialized=_says_initialized(message))
        if session is not None:
            await self._receive_message(message, session)

    async def _receive_message(self, message: jsonrpc.Message, session: Session) -> None:
        if isinstance(message, jsonrpc.Request):
            await self._answer(message, session)
        elif isinstance(message, jsonrpc.Notification):
            await self._pass_on(message, session)
            self.runtime.spawn(self._notify(message, session))
            await respond(self.send, 202)
        elif await self.runtime.questions.answer(session.fingerprint, message):
            await respond(self.send, 202)
        else:
            await reject(self.send, rejections.NOT_AWAITED)

    async def _initialize(self, request: jsonrpc.Request) -> None:
        """Lifecycle → Initialization. The session exists for every process before the response leaves."""
        try:
            async with DatabaseScope():
                response, handshake = await self.runtime.binding.initialize(request, self.scope, NoChannel())
        except Refused as refused:
            return await send_json(self.send, refused.message)
        if len(handshake.to_json()) > MAX_HANDSHAKE_BYTES:
            error = {
                "code": INVALID_PARAMS,
                "message": f"clientInfo and capabilities exceed {MAX_HANDSHAKE_BYTES} bytes",
            }
            return await send_json(self.send, jsonrpc.error_response(request.id, error))
        session_id = new_session_id()
        try:
            session = await self.runtime.store.run(
                sessions.create(
                    fingerprint(session_id) or "",
                    principal=self.principal,
                    handshake=handshake,
                    limits=self.conf.limits,
                )
            )
        except TooManySessions as error:
            logger.warning("Refused a new session on endpoint %r: %s", self.conf.alias, error)
            return await reject(self.send, rejections.TOO_MANY_SESSIONS)
        logger.info("Session %.12s initialized by %r.", session.fingerprint, handshake.client_name)
        await session_created.asend_robust(sender=Session, alias=self.conf.alias, session=session)
        await send_json(self.send, response, ((SESSION_ID, session_id.encode("ascii")),))

    async def _touch(self, call: str, *, initialized: bool = False) -> Session | None:
        """The session of this request, slid and counted. None: the request was refused."""
        digest = await self._fingerprint()
        if digest is None:
            return None
        session = await self.runtime.store.run(
            sessions.touch(
                digest, principal=self.principal, limits=self.conf.limits, call=call, initialized=initialized
            )
        )
        if session is None:
            await self._miss(digest)
        return session

    async def _fingerprint(self) -> str | None:
        """The fingerprint of the session id in the headers. None: the request was refused."""
        session_id = self.headers.get(SESSION_ID)
        if session_id is None:
            await reject(self.send, rejections.NO_SESSION_ID)
            return None
        digest = fingerprint(session_id.decode("latin-1"))
        if digest is None:
            await self._miss("malformed")
        return digest

    async def _miss(self, digest: str) -> None:
        """The client re-initializes when it reads 404 (Session Management, rule 4)."""
        logger.info("Session %.12s is unknown, over, or another principal's: answered 404.", digest)
        await reject(self.send, rejections.SESSION_NOT_FOUND)

    async def _answer(self, request: jsonrpc.Request, session: Session) -> None:
        """One JSON object if the handler ends soon and silently, or where no stream may be; else an event stream."""
        runtime, response = self.runtime, self.conf.response
        if not runtime.may_run(session.fingerprint):
            return await reject(self.send, rejections.TOO_MANY_REQUESTS)
        may_stream = response != "json" and runtime.followers.admit()
        try:
            exchange = Exchange(
                request, self.scope, runtime=runtime, session=session, json_only=not may_stream
            )
            runtime.run(exchange)
            if response == "sse" and may_stream:
                exchange.open()
            else:
                await exchange.settled(self.conf.grace)
            if exchange.response is None:
                runtime.hold_while_running(exchange)
                if not may_stream:
                    await exchange.settled(None)
            if exchange.response is not None and exchange.stream is None:
                await send_json(self.send, exchange.response)
            else:
                await self._deliver(exchange.open().delivery)
        finally:
            if may_stream:
                runtime.followers.leave()

    def _deliver(self, delivery: Delivery) -> Awaitable[None]:
        return delivery.run(
            self.receive,
            self.send,
            max_seconds=self.conf.stream_max_age,
            max_bytes=max_bytes(self.scope),
        )

    async def _pass_on(self, notification: jsonrpc.Notification, session: Session) -> None:
        """What the client says in passing, to those who wait for it: accepted when it is where they find it."""
        runtime, params = self.runtime, notification.params or {}
        if notification.method == "notifications/cancelled":
            await runtime.cancel(session, params)
        elif notification.method == "notifications/progress":
            await runtime.questions.progress(session.fingerprint, params)

    async def _notify(self, notification: jsonrpc.Notification, session: Session) -> None:
        """The same, to the server's own handler."""
        runtime = self.runtime
        async with DatabaseScope():
            await runtime.binding.notify(notification, self.scope, session, runtime.standalone(session))

    async def get(self) -> None:
        """Listening for Messages from the Server, and Resumability and Redelivery."""
        rejection = get_rejection(self.headers)
        if rejection is not None:
            return await reject(self.send, rejection)
        session = await self._touch("GET")
        if session is None:
            return None
        followers = self.runtime.followers
        if not followers.admit():
            return await reject(self.send, rejections.TOO_MANY_STREAMS)
        try:
            follower = await self._take_over(session)
            del session  # it would live as long as the stream
            if follower is None:
                return await reject(self.send, rejections.BAD_EVENT_ID)
            task = followers.follow(follower)
            try:
                await self._deliver(follower.delivery)
            finally:
                followers.unfollow(follower, task)
                self.runtime.hand_back(follower)
        finally:
            followers.leave()

    async def _take_over(self, session: Session) -> Follower | None:
        """The stream that the client wants: the standalone one, or the one of its `Last-Event-ID`."""
        header = self.headers.get(LAST_EVENT_ID)
        if header is None:
            return await self.runtime.take_over(session, STANDALONE, after=None, scope=self.scope)
        event_id = EventId.parse(header.decode("latin-1"), fingerprint=session.fingerprint)
        if event_id is None:
            return None
        return await self.runtime.take_over(
            session, event_id.stream, after=event_id.position, scope=self.scope
        )

    async def delete(self) -> None:
        """Session Management, rule 5: the client ends its session."""
        digest = await self._fingerprint()
        if digest is None:
            return None
        session = await self.runtime.store.run(
            sessions.end(digest, principal=self.principal, reason="deleted")
        )
        if session is None:
            return await self._miss(digest)
        logger.info("Session %.12s was ended by its client.", digest)
        await session_ended.asend_robust(
            sender=Session, fingerprint=digest, alias=self.conf.alias, reason="deleted"
        )
        await self.runtime.end(digest)
        await respond(self.send, 204)

    async def _body(self) -> bytes | None:
        """The whole request body; None if it exceeds MAX_BODY."""
        limit = self.conf.max_body
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            return None
        body: bytes = b""
        while True:
            message = await self.receive()
            body += message.get("body", b"")
            if len(body) > limit:
                return None
            if not message.get("more_body", False):
                return body


_HANDLERS: Final[dict[str, Callable[[_Call], Awaitable[None]]]] = {
    "POST": _Call.post,
    "GET": _Call.get,
    "DELETE": _Call.delete,
}


async def _serve_modern(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request of the modern era to the SDK. Each may become a stream, and is counted as one."""
    if not runtime.followers.admit():
        return await reject(send, rejections.TOO_MANY_STREAMS)
    try:
        await runtime.binding.serve_modern(scope, receive, send)
    finally:
        runtime.followers.leave()


def _call_name(message: jsonrpc.Message) -> str:
    """What the admin shows as the last call."""
    if isinstance(message, jsonrpc.Reply):
        return "response"
    if message.method == "tools/call" and message.params is not None:
        return f"tools/call:{message.params.get('name')}"
    return message.method


def _says_initialized(message: jsonrpc.Message) -> bool:
    return isinstance(message, jsonrpc.Notification) and message.method == "notifications/initialized"
