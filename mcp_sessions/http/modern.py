"""Requests of the modern era, which the SDK answers."""

from typing import Final

from mcp_sessions.http.responses import reject
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.transport import rejections
from mcp_sessions.transport.asgi import Receive, Scope, Send

#: The SDK refuses a request whose `Mcp-Method` header is not its method.
_LISTEN: Final = (b"mcp-method", b"subscriptions/listen")


async def serve_modern(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request of the modern era to the SDK. Each may become a stream, and is counted as one."""
    if runtime.draining and _LISTEN in scope["headers"]:
        return await reject(send, rejections.STOPPED)
    if not runtime.admission.open_stream():
        return await reject(send, rejections.TOO_MANY_STREAMS)
    try:
        await runtime.server.serve_modern(scope, receive, send)
    finally:
        runtime.admission.close_stream()
