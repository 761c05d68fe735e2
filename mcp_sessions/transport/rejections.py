"""Answers that refuse a request: an HTTP status and a JSON-RPC error."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR

from mcp_sessions.documentation import page

#: A client that was told 503 may try again after so many seconds.
RETRY_AFTER: Final = 2
#: What somebody can do something about: a heading of the page about troubles, to which the error links.
_EXPLAINED: Final = frozenset({403, 404, 421, 503})

JSON_HEADERS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An answer that refuses: an HTTP status and a JSON-RPC error, without an id if it refuses before one is read."""

    status: int
    message: str
    code: int = INVALID_REQUEST
    #: The id of the request that is refused.
    request_id: str | int | None = None
    #: The error's `data`. Without it, an error that the documentation explains says where.
    data: Mapping[str, Any] | None = None
    #: Headers besides those of every JSON answer.
    extra: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        data = self.data
        if data is None and self.status in _EXPLAINED:
            data = {"see": page("troubleshooting", str(self.status))}
        if data is not None:
            error["data"] = data
        answer = {"jsonrpc": "2.0", "id": self.request_id, "error": error}
        return json.dumps(answer, separators=(",", ":")).encode("ascii")

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*JSON_HEADERS, *self.extra, (b"content-length", b"%d" % len(self.body))]


NO_SESSION_ID: Final = Rejection(status=400, message="Bad Request: the Mcp-Session-Id header is missing")
#: The same for unknown, malformed, expired, ended and foreign ids: a stranger learns nothing from it.
SESSION_NOT_FOUND: Final = Rejection(status=404, message="Session not found")
STORE_UNAVAILABLE: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="The session store cannot be reached, or refuses writes. No session is lost by that. Try again.",
    extra=((b"retry-after", str(RETRY_AFTER).encode()),),
)
TOO_MANY_SESSIONS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many open sessions. Try again later, or end sessions that are no longer used.",
    extra=((b"retry-after", b"30"),),
)
TOO_MANY_STREAMS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many open streams. Try again later.",
    extra=((b"retry-after", b"10"),),
)
TOO_MANY_REQUESTS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many requests are being answered. Try again later.",
    extra=((b"retry-after", b"10"),),
)
TOO_MANY_CANCELLATIONS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many requests were cancelled that this process does not answer. Try again later.",
    extra=((b"retry-after", b"60"),),
)
AUTHENTICATION_UNAVAILABLE: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Nobody can be authenticated at the moment. The credentials may be good: keep them, and try again.",
    extra=((b"retry-after", str(RETRY_AFTER).encode()),),
)
NOT_AWAITED: Final = Rejection(status=400, message="Bad Request: nobody waits for this response")
BLOCKED: Final = Rejection(status=403, message="Forbidden: an operator has blocked this client for a time")
BAD_ORIGIN: Final = Rejection(status=403, message="Forbidden: this Origin is not allowed")
BAD_HOST: Final = Rejection(status=421, message="Misdirected Request: this Host is not served here")
BAD_VERSION: Final = Rejection(status=400, message="Bad Request: unsupported MCP-Protocol-Version")
BAD_EVENT_ID: Final = Rejection(
    status=400, message="Bad Request: this Last-Event-ID names no event of this session"
)
REPEATED_HEADER: Final = Rejection(
    status=400, message="Bad Request: a header that must be unique is repeated"
)
NOT_ACCEPTABLE: Final = Rejection(
    status=406, message="Not Acceptable: Accept must list application/json and text/event-stream"
)
NOT_ACCEPTABLE_STREAM: Final = Rejection(
    status=406, message="Not Acceptable: Accept must list text/event-stream"
)
NOT_JSON: Final = Rejection(
    status=415, message="Unsupported Media Type: Content-Type must be application/json"
)
TOO_LARGE: Final = Rejection(status=413, message="Content Too Large: the request body exceeds the limit")
TOO_DEEP: Final = Rejection(status=400, code=PARSE_ERROR, message="Parse error: nested too deeply")
UNPARSABLE: Final = Rejection(status=400, code=PARSE_ERROR, message="Parse error: the body is not JSON")
BATCH: Final = Rejection(status=400, message="Bad Request: JSON-RPC batches are not supported")
NOT_JSONRPC: Final = Rejection(status=400, message="Bad Request: the body is not one JSON-RPC 2.0 message")
BAD_METHOD: Final = Rejection(
    status=405, message="Method Not Allowed", extra=((b"allow", b"GET, POST, DELETE, OPTIONS"),)
)
POST_ONLY: Final = Rejection(status=405, message="Method Not Allowed", extra=((b"allow", b"POST, OPTIONS"),))
#: For an application that gave no answer; the reason is in the log.
FAILED: Final = Rejection(status=500, code=INTERNAL_ERROR, message="Internal server error.")
STOPPED: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="The server stopped before it answered. Try again.",
    extra=((b"retry-after", b"1"),),
)
