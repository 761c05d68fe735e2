"""What the headers of a request decide: whether it is refused before its body is read. Pure."""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

from mcp_sessions.transport.rejections import (
    NOT_ACCEPTABLE,
    NOT_ACCEPTABLE_STREAM,
    NOT_JSON,
    REPEATED_HEADER,
    Rejection,
)

SESSION_ID: Final = b"mcp-session-id"
PROTOCOL_VERSION: Final = b"mcp-protocol-version"
LAST_EVENT_ID: Final = b"last-event-id"
#: What a page is going to send, in a preflight.
REQUESTED_HEADERS: Final = b"access-control-request-headers"
#: Of two of these, a proxy may have checked the one that is not used here. All others that are used are lists: several
#: lines of one say the same as one line with all of their members (RFC 9110, 5.3).
_SINGLE: Final = (
    b"host",
    b"origin",
    b"authorization",
    b"content-type",
    b"content-length",
    b"access-control-request-method",
    SESSION_ID,
    PROTOCOL_VERSION,
    LAST_EVENT_ID,
)
_LISTS: Final = (b"accept", REQUESTED_HEADERS)

Raw = Collection[tuple[bytes, bytes]]


def repetition(raw: Raw) -> Rejection | None:
    """Reject repeated headers that must be unique."""
    names = [name for name, _ in raw]
    return REPEATED_HEADER if any(names.count(name) > 1 for name in _SINGLE) else None


def combined(raw: Raw) -> list[tuple[bytes, bytes]]:
    """The headers with one line for each list that is used here. What else is repeated stays repeated."""
    headers = [(name, value) for name, value in raw if name not in _LISTS]
    for name in _LISTS:
        values = [value for each, value in raw if each == name]
        if values:
            headers.append((name, b", ".join(values)))
    return headers


def accepts(accept: bytes) -> tuple[bool, bool]:
    """Whether an Accept header admits JSON, and whether it admits event streams. Wildcards count (RFC 9110, 12.5.1)."""
    types = {part.split(b";")[0].strip().lower() for part in accept.split(b",")}
    anything = b"*/*" in types
    as_json = anything or bool(types & {b"application/json", b"application/*"})
    as_stream = anything or bool(types & {b"text/event-stream", b"text/*"})
    return as_json, as_stream


# Clients send few different values, and parsing them takes ten times as long as finding what was parsed.
@lru_cache(maxsize=256)
def post_rejection(content_type: bytes, accept: bytes, *, json_only: bool) -> Rejection | None:
    """Why the headers of a POST are refused. An endpoint that answers only with JSON needs no event streams."""
    if content_type.split(b";")[0].strip().lower() != b"application/json":
        return NOT_JSON
    as_json, as_stream = accepts(accept)
    return None if as_json and (as_stream or json_only) else NOT_ACCEPTABLE


def get_rejection(accept: bytes) -> Rejection | None:
    """Why the headers of a GET are refused."""
    return None if accepts(accept)[1] else NOT_ACCEPTABLE_STREAM
