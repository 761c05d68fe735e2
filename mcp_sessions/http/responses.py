"""How the endpoint's whole answers are written: refusals, JSON, empty ones, and what browsers must be told."""

from typing import Any, Final

from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.asgi import Message, Send
from mcp_sessions.transport.rejections import JSON_HEADERS, Rejection

Headers = tuple[tuple[bytes, bytes], ...]

#: Answer to OPTIONS: what pages of allowed origins may send (Fetch Standard, CORS-preflight request).
PREFLIGHT: Final[Headers] = (
    (b"allow", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, last-event-id, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name",
    ),
    (b"access-control-max-age", b"86400"),
)


async def reject(send: Send, rejection: Rejection) -> None:
    """Send a rejection as a whole response."""
    await send({"type": "http.response.start", "status": rejection.status, "headers": rejection.headers})
    await send({"type": "http.response.body", "body": rejection.body, "more_body": False})


async def send_json(send: Send, message: dict[str, Any], headers: Headers = ()) -> None:
    await respond(send, 200, (*JSON_HEADERS, *headers), jsonrpc.encode(message))


async def respond(send: Send, status: int, headers: Headers = (), body: bytes = b"") -> None:
    length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


def with_cors(send: Send, origin: bytes) -> Send:
    """Let a page of an allowed origin read the answer and the session id (Fetch Standard, CORS protocol)."""

    async def cors_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", ()),
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", b"mcp-session-id, www-authenticate"),
                (b"vary", b"origin"),
            ]
        await send(message)

    return cors_send
