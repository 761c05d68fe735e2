"""Requests of the modern era, which the SDK answers."""

import asyncio
from math import inf
from typing import Final

from mcp_sessions.current import current_request
from mcp_sessions.http.access import seconds_left
from mcp_sessions.http.responses import reject
from mcp_sessions.http.sessionless import SessionlessRequest
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.transport import rejections
from mcp_sessions.transport.asgi import Message, Receive, Scope, Send
from mcp_sessions.transport.event_stream import RECONNECT

#: The SDK refuses a request whose `Mcp-Method` header is not its method.
_LISTEN: Final = (b"mcp-method", b"subscriptions/listen")


async def serve_modern(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request of the modern era to the SDK. Each may become a stream, and is counted as one.

    A stream that listens ends with the token of its client; a call goes on, because to end its stream is to cancel it.
    """
    if runtime.draining and _LISTEN in scope["headers"]:
        return await reject(send, rejections.STOPPED)
    if not runtime.admission.open_stream():
        return await reject(send, rejections.TOO_MANY_STREAMS)
    request = SessionlessRequest(runtime.context.conf(), runtime.context.store, scope.get("user"), receive)
    current_request.set(request)  # in the task of this HTTP request
    try:
        left = seconds_left(scope.get("user")) if _LISTEN in scope["headers"] else inf
        if left == inf:
            await runtime.server.serve_modern(scope, request.receive, send)
        else:
            await _Expiring(runtime, request.receive, send, left).serve(scope)
    finally:
        request.forget()
        runtime.admission.close_stream()


class _Expiring:
    """A stream of the SDK's that ends at a certain time, with `retry:`."""

    def __init__(self, runtime: Runtime, receive: Receive, send: Send, seconds: float) -> None:
        self._runtime = runtime
        self._receive = receive
        self._send = send
        self._ends = asyncio.get_running_loop().time() + seconds
        self._open = False

    async def serve(self, scope: Scope) -> None:
        await self._runtime.server.serve_modern(scope, self.receive, self.send)
        if self._open:
            await self._send({"type": "http.response.body", "body": RECONNECT, "more_body": False})

    async def receive(self) -> Message:
        """For the SDK, the client leaves when its time is over."""
        try:
            async with asyncio.timeout_at(self._ends):
                return await self._receive()
        except TimeoutError:
            return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self._send(message)
        # A response that has only started is for the SDK to end: its headers have not left.
        if message["type"] == "http.response.body":
            self._open = message.get("more_body", False)
