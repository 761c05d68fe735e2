"""What a request is and what an answer looks like: headers, JSON-RPC bodies, event streams. Pure.

Everything here decides and returns; the consumer sends. Sections are those of the Model Context Protocol
specification, Basic → Transports → Streamable HTTP.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NoReturn, TypeGuard

import pydantic_core
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR

RawHeaders = Iterable[tuple[bytes, bytes]]

#: JSON nested deeper is refused before it is parsed.
MAX_DEPTH: Final = 64
#: Characters of a JSON-RPC id that is a string; one that is a number has 64 bits.
MAX_ID_CHARS: Final = 256
#: A client that was told 503 may try again after so many seconds.
RETRY_AFTER: Final = 2

SESSION_ID: Final = b"mcp-session-id"
PROTOCOL_VERSION: Final = b"mcp-protocol-version"
LAST_EVENT_ID: Final = b"last-event-id"

JSON_HEADERS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)

RequestId = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An answer that refuses: an HTTP status and a JSON-RPC error without an id."""

    status: int
    message: str
    code: int = INVALID_REQUEST
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        return encode({"jsonrpc": "2.0", "id": None, "error": {"code": self.code, "message": self.message}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A JSON-RPC request: it is owed a response."""

    id: RequestId
    method: str
    params: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A JSON-RPC notification: accepted or not, never answered."""

    method: str
    params: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A JSON-RPC response of the client to a request of the server: `result` or `error`, whichever is not None."""

    id: RequestId
    result: dict[str, Any] | None
    error: dict[str, Any] | None


Message = Request | Notification | Reply

NO_SESSION_ID: Final = Rejection(status=400, message="Bad Request: the Mcp-Session-Id header is missing")
#: The same for unknown, malformed, expired, ended and foreign ids: a stranger learns nothing from it.
SESSION_NOT_FOUND: Final = Rejection(status=404, message="Session not found")
STORE_UNAVAILABLE: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="The session store cannot be reached. No session is lost by that. Try again.",
    headers=((b"retry-after", str(RETRY_AFTER).encode()),),
)
TOO_MANY_SESSIONS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many open sessions. Try again later, or end sessions that are no longer used.",
    headers=((b"retry-after", b"30"),),
)
TOO_MANY_STREAMS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many open streams. Try again later.",
    headers=((b"retry-after", b"10"),),
)
TOO_MANY_REQUESTS: Final = Rejection(
    status=503,
    code=INTERNAL_ERROR,
    message="Too many requests are being answered. Try again later.",
    headers=((b"retry-after", b"10"),),
)
NOT_AWAITED: Final = Rejection(status=400, message="Bad Request: nobody waits for this response")
BAD_ORIGIN: Final = Rejection(status=403, message="Forbidden: this Origin is not allowed")
BAD_HOST: Final = Rejection(status=421, message="Misdirected Request: this Host is not served here")
BAD_VERSION: Final = Rejection(status=400, message="Bad Request: unsupported MCP-Protocol-Version")
BAD_EVENT_ID: Final = Rejection(
    status=400, message="Bad Request: this Last-Event-ID names no event of this session"
)
REPEATED_HEADER: Final = Rejection(
    status=400, message="Bad Request: a header that may be there once is there several times"
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
    status=405, message="Method Not Allowed", headers=((b"allow", b"GET, POST, DELETE, OPTIONS"),)
)


#: Headers that decide who is asked for what: of two, a proxy may have checked the other one (RFC 9110, 5.3).
_SINGLE: Final = (
    b"host",
    b"origin",
    b"authorization",
    b"content-type",
    SESSION_ID,
    PROTOCOL_VERSION,
    LAST_EVENT_ID,
)


def repetition(raw: Collection[tuple[bytes, bytes]]) -> Rejection | None:
    """Why headers are refused of which one that may be there once is there several times."""
    if len(raw) == len(dict(raw)):
        return None
    names = [name for name, _ in raw]
    return REPEATED_HEADER if any(names.count(name) > 1 for name in _SINGLE) else None


@lru_cache(maxsize=256)
def accepts(accept: bytes) -> tuple[bool, bool]:
    """Whether an Accept header admits JSON, and whether it admits event streams. Wildcards count (RFC 9110, 12.5.1)."""
    types = {part.split(b";")[0].strip().lower() for part in accept.split(b",")}
    anything = b"*/*" in types
    as_json = anything or bool(types & {b"application/json", b"application/*"})
    as_stream = anything or bool(types & {b"text/event-stream", b"text/*"})
    return as_json, as_stream


@lru_cache(maxsize=256)
def is_json(content_type: bytes) -> bool:
    return content_type.split(b";")[0].strip().lower() == b"application/json"


def post_rejection(headers: Mapping[bytes, bytes], *, json_only: bool) -> Rejection | None:
    """Why the headers of a POST are refused. An endpoint that only ever answers JSON does not need event streams."""
    if not is_json(headers.get(b"content-type", b"")):
        return NOT_JSON
    as_json, as_stream = accepts(headers.get(b"accept", b""))
    return None if as_json and (as_stream or json_only) else NOT_ACCEPTABLE


def get_rejection(headers: Mapping[bytes, bytes]) -> Rejection | None:
    """Why the headers of a GET are refused."""
    return None if accepts(headers.get(b"accept", b""))[1] else NOT_ACCEPTABLE_STREAM


def parse(body: bytes) -> Message | Rejection:
    """The one JSON-RPC message of a body (section Sending Messages to the Server), or why it is none."""
    if _too_deep(body):
        return TOO_DEEP
    try:
        value = _decoded(body)
    except (ValueError, RecursionError):
        return UNPARSABLE
    if isinstance(value, list):
        return BATCH
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return NOT_JSONRPC
    return _message(value)


def _decoded(body: bytes) -> Any:
    """The JSON value of UTF-8 text. The fast parser refuses lone surrogates, which JSON allows: then the other."""
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        return json.loads(body.decode(), parse_constant=_refuse_constant)


def _message(value: dict[str, Any]) -> Message | Rejection:
    params = value.get("params")
    if "method" in value:
        method = value["method"]
        if not isinstance(method, str) or not (isinstance(params, dict) or "params" not in value):
            return NOT_JSONRPC
        if "id" not in value:
            return Notification(method=method, params=params)
        if not is_request_id(value["id"]):
            return NOT_JSONRPC
        return Request(id=value["id"], method=method, params=params)
    return _reply(value)


def _reply(value: dict[str, Any]) -> Reply | Rejection:
    result, error = value.get("result"), value.get("error")
    one_of_both = isinstance(result, dict) != isinstance(error, dict) and ("result" in value) != (
        "error" in value
    )
    if not one_of_both or not is_request_id(value.get("id")):
        return NOT_JSONRPC
    return Reply(id=value["id"], result=result, error=error)


def is_request_id(value: Any) -> TypeGuard[RequestId]:
    """A string or an integer; True is neither (JSON-RPC 2.0, section 4). Bounded: it travels between processes."""
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: A string, also one that nobody ends: matched once from each opening quote, and never again from within.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = [1 if byte in b"[{" else -1 for byte in range(256)]


def _too_deep(body: bytes) -> bool:
    """Whether the body nests deeper than MAX_DEPTH, in linear time. Counting brackets settles nearly all bodies."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as compact ASCII JSON, NaN as null: no text or number that a handler returns can fail to encode.

    ASCII also because some clients split the lines of event streams at every line end that Unicode knows.
    """
    try:
        return pydantic_core.to_json(message, ensure_ascii=True, inf_nan_mode="null")
    except ValueError:  # a lone surrogate
        return json.dumps(message, separators=(",", ":")).encode("ascii")


def response(request_id: RequestId, result: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_response(request_id: RequestId | None, error: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def notification(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """A notification; absent params stay absent, since JSON-RPC forbids null."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    return message


def event(payload: bytes, event_id: str | None = None) -> bytes:
    """An encoded message as one event of an event stream (HTML Living Standard, section Server-sent events)."""
    head = (
        b"event: message\n"
        if event_id is None
        else b"event: message\nid: " + event_id.encode("ascii") + b"\n"
    )
    return head + b"data: " + payload + b"\n\n"


def priming(event_id: str, retry_seconds: float) -> bytes:
    """An event with an id and empty data, from which a client can resume (Sending Messages, rule 6)."""
    return b"id: " + event_id.encode("ascii") + b"\n" + retry(retry_seconds)[:-1] + b"data: \n\n"


def retry(seconds: float) -> bytes:
    """How long a client should wait before it resumes a stream that the server closes."""
    return b"retry: %d\n\n" % round(seconds * 1000)


#: What a stream begins with: it carries the headers to the client.
OPENING: Final = b":\n\n"
#: Keeps proxies from closing a silent stream; parsers skip it.
KEEP_ALIVE: Final = b": keep-alive\n\n"
