"""Requests of the modern era: which of them are answered here, and which by the SDK's own HTTP application."""

from math import inf
from typing import Final

from mcp_sessions import counting
from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import NOBODY, identity_of
from mcp_sessions.authentication.recheck import ended_with
from mcp_sessions.conf import Endpoint
from mcp_sessions.current import current_request
from mcp_sessions.errors import TooManySessions
from mcp_sessions.http.headers import accepts, post_rejection
from mcp_sessions.http.responses import reject, send_message
from mcp_sessions.http.sessionless import SessionlessRequest
from mcp_sessions.sdk.channel import NoChannel
from mcp_sessions.sdk.envelope import client_info_of, read_as_the_sdk, status_of
from mcp_sessions.sdk.listening import LISTEN
from mcp_sessions.serving.limits import counted_as
from mcp_sessions.serving.modern import ModernExchange
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Message, Receive, Scope, Send
from mcp_sessions.transport.event_stream import max_bytes
from mcp_sessions.transport.rejections import Rejection

#: A request whose `Mcp-Method` header is not its method is refused.
_LISTENS: Final = (b"mcp-method", LISTEN.encode())


async def serve_modern(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of the modern era. Each may become a stream, and is counted as one.

    Whoever answers, handlers run in this task or in children of it: context variables that are set here are theirs.
    """
    if runtime.ends_listening and _LISTENS in scope["headers"]:
        return await reject(send, rejections.STOPPED)
    if not runtime.admission.open_stream():
        return await reject(send, rejections.TOO_MANY_STREAMS)
    try:
        await _answer(runtime, scope, receive, send)
    finally:
        runtime.admission.close_stream()


async def _answer(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of good form here; the SDK answers what is no request, and what is malformed.

    A stream that listens ends with the token of its client; a call goes on, because to end its stream is to cancel it.
    """
    conf, headers = runtime.context.conf(), dict(scope["headers"])
    json_only, accept = conf.response == "json", headers.get(b"accept", b"")
    if scope["method"] != "POST" or _is_refused_by_headers(headers, conf, json_only=json_only):
        return await runtime.server.serve_modern(scope, receive, send)
    received = await _received(receive, conf.max_body)
    if received[-1]["type"] == "http.disconnect":
        return None  # nobody waits for an answer, and the SDK would raise an error about that
    message = _message(received, conf.max_body)
    if not isinstance(message, jsonrpc.Request | jsonrpc.Notification):
        return await runtime.server.serve_modern(scope, _Again(received, receive), send)
    identity = identity_of(scope) if "user" in scope else NOBODY
    current = SessionlessRequest(conf, runtime.context.store, identity, message)
    if (runtime.blocks.any or conf.rates) and (refusal := await _refusal(runtime, message, current, scope)):
        return await reject(send, refusal)
    listens = isinstance(message, jsonrpc.Request) and message.method == LISTEN
    if (
        isinstance(message, jsonrpc.Request)
        and listens
        and runtime.listeners.accepts
        and accepts(accept)[1]
        # One of any length would stay in memory for as long as its client listens.
        and jsonrpc.is_request_id(message.id)
    ):
        listening = _listen(runtime, message, current, scope, receive, send)
        # A listener stays for hours, and the locals of this frame with it.
        del received, message, current, headers, conf
        return await listening
    current_request.set(current)  # in the task of this HTTP request, which runs the handler
    if not isinstance(message, jsonrpc.Request) or (listens and not accepts(accept)[1]):
        return await runtime.server.serve_modern(scope, _Again(received, receive), send)
    del received  # a request lives as long as its handler
    await _call(runtime, message, current, scope, receive, send)


async def _call(
    runtime: Runtime,
    message: jsonrpc.Request,
    current: SessionlessRequest,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Run the handler of a request, and send its answer."""
    listens = message.method == LISTEN
    runtime.callers.count(current.principal, current.meta, jsonrpc.call_name(message))
    exchange = ModernExchange(
        request=message,
        scope=scope,
        receive=receive,
        send=send,
        kernel=runtime.server.kernel,
        principal=current.principal,
        trusted_proxies=current.conf.trusted_proxies,
        meta=current.meta,
        note=runtime.observing.note,
        json_only=current.conf.response == "json" and not listens,
        max_seconds=current.identity.seconds_left() if listens else inf,
    )
    runtime.modern.add(exchange)
    try:
        if listens:
            await _run_listener(runtime, exchange, current, scope)
        else:
            await exchange.run()
    finally:
        runtime.modern.discard(exchange)


def _is_refused_by_headers(headers: dict[bytes, bytes], conf: Endpoint, *, json_only: bool) -> bool:
    """Whether the SDK refuses a POST by its headers."""
    content_type, accept = headers.get(b"content-type", b""), headers.get(b"accept", b"")
    # As the SDK compares it. What it does not refuse is answered here, where all that bounds requests is.
    if content_type.lower().startswith(b"application/json"):
        content_type = b"application/json"
    declared = headers.get(b"content-length", b"0")
    too_large = declared.isdigit() and int(declared) > conf.max_body
    return too_large or post_rejection(content_type, accept, json_only=json_only) is not None


async def _run_listener(
    runtime: Runtime, exchange: ModernExchange, current: SessionlessRequest, scope: Scope
) -> None:
    """Run a handler of the server's own that lets a client listen, until the client may listen no longer."""

    if runtime.ends_listening:  # it has been told to stop since the headers came
        return await reject(exchange.send, rejections.STOPPED)

    def end() -> None:
        runtime.spawn(exchange.abort())

    asker = _asker(current, client_address(scope, current.conf.trusted_proxies))
    with ended_with(current.identity, end), runtime.blocks.ending(asker, end):
        await exchange.run()


async def _refusal(
    runtime: Runtime, message: jsonrpc.Message, current: SessionlessRequest, scope: Scope
) -> Rejection | None:
    """Why a request is refused: its client is blocked, or it is beyond RATE_LIMITS.

    While the store is away, these refuse nothing.
    """
    if runtime.blocks.any and runtime.blocks.refuse(_asker(current)):
        return rejections.BLOCKED
    current.address = client_address(scope, current.conf.trusted_proxies)
    if not current.conf.rates:
        return None
    return await runtime.limits.refusal(counted_as(message), Who(current.principal, None, current.address))


def _asker(current: SessionlessRequest, address: str | None = None) -> Asker:
    """Who sends a request, as far as it says so."""
    return Asker(current.principal, str(client_info_of(current.meta).get("name", "")), address)


async def _listen(
    runtime: Runtime,
    request: jsonrpc.Request,
    current: SessionlessRequest,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Let the server accept a listener, and keep it until it leaves, or its token expires."""
    token = current_request.set(current)
    response = await runtime.server.kernel.answer_modern(request, scope, NoChannel())
    current_request.reset(token)
    if "error" in response:
        return await send_message(send, response, status=status_of(response))
    if runtime.ends_listening:  # it has been told to stop since the headers came
        return await reject(send, rejections.STOPPED)
    serving = runtime.listeners.serve(
        request,
        response,
        receive,
        send,
        identity=current.identity,
        asker=_asker(current, client_address(scope, current.conf.trusted_proxies)),
        handshake=current.handshake,
        max_bytes=max_bytes(scope),
    )
    del request, response, scope, current, token
    try:
        await serving
    except TooManySessions:
        counting.count_limited(runtime.context.conf().alias, "MAX_LISTENERS_PER_PRINCIPAL")
        await reject(send, rejections.TOO_MANY_STREAMS)


async def _received(receive: Receive, most: int) -> list[Message]:
    """The parts of a body: all, or those until it was too large or the client left."""
    messages: list[Message] = []
    more, size = True, 0
    while more and size <= most:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return messages


def _message(received: list[Message], most: int) -> jsonrpc.Message | None:
    """The message in a whole body, if there is one that the SDK would not refuse."""
    if received[-1].get("more_body", False):
        return None
    body = b"".join(part.get("body", b"") for part in received)
    if len(body) > most:
        return None
    message = jsonrpc.parse(body)
    return read_as_the_sdk(body) if isinstance(message, Rejection) else message


class _Again:
    """What was received already, once more, and then what follows."""

    def __init__(self, received: list[Message], receive: Receive) -> None:
        self._received = iter(received)
        self._receive = receive

    async def __call__(self) -> Message:
        message = next(self._received, None)
        return await self._receive() if message is None else message
