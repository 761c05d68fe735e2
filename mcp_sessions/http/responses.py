"""Sends responses other than event streams."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.asgi import Message, Send
from mcp_sessions.transport.rejections import JSON_HEADERS, Rejection

Headers = tuple[tuple[bytes, bytes], ...]

#: The answer to OPTIONS, but for the headers that pages may send.
_PREFLIGHT: Final[Headers] = (
    (b"allow", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"access-control-request-headers"),
)
_ALLOWED_HEADERS: Final = (
    b"authorization, content-type, last-event-id, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"
)
#: The header of a tool's parameter, `x-mcp-header` in its schema: a token behind the prefix (RFC 9110, 5.6.2).
_PARAMETER: Final = re.compile(rb"mcp-param-[!#$%&'*+\-.^_`|~0-9a-z]+\Z")


def preflight(requested: bytes) -> Headers:
    """The answer to OPTIONS: what pages of allowed origins may send (Fetch Standard, CORS-preflight request).

    `requested` is `Access-Control-Request-Headers`. The headers of parameters are named by the tools of a server, so
    those that are asked for are allowed; a wildcard would not allow `Authorization`.
    """
    names = {name.strip().lower() for name in requested.split(b",")}
    allowed = b", ".join((_ALLOWED_HEADERS, *sorted(filter(_PARAMETER.match, names))))
    return (*_PREFLIGHT, (b"access-control-allow-headers", allowed))


async def reject(send: Send, rejection: Rejection) -> None:
    """Send a rejection as a whole response."""
    await send({"type": "http.response.start", "status": rejection.status, "headers": rejection.headers})
    await send({"type": "http.response.body", "body": rejection.body, "more_body": False})


async def send_message(
    send: Send,
    message: Mapping[str, Any],
    headers: Headers = (),
    *,
    status: int = 200,
    as_stream: bool = False,
) -> None:
    """Send one JSON-RPC message as a whole response: a JSON object, or an event stream that ends with it."""
    body = jsonrpc.encode(message)
    kind = sse.STREAM_HEADERS if as_stream else JSON_HEADERS
    if as_stream:
        body = sse.event(body)
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers, length]})
    await send({"type": "http.response.body", "body": body})


async def respond(send: Send, status: int, headers: Headers = ()) -> None:
    """Send a response without a body."""
    length = () if status == 204 else ((b"content-length", b"0"),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b""})


def with_cors(send: Send, origin: bytes) -> Send:
    """Let a page of an allowed origin read the answer and the session id (Fetch Standard, CORS protocol).

    Written by hand because Starlette's CORSMiddleware cannot know the endpoint's own origin, which is that of the
    request's Host, answers a preflight with 200 and 400 instead of 204 and 403, and takes 9 µs of each request, with
    an Origin or without.
    """

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
