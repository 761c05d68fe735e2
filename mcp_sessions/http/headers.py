"""What the headers of a request decide: whether it is refused before its body is read. Pure."""

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final

from mcp_sessions.transport.rejections import (
    NOT_ACCEPTABLE,
    NOT_ACCEPTABLE_STREAM,
    NOT_JSON,
    REPEATED_HEADER,
    Rejection,
)

RawHeaders = Iterable[tuple[bytes, bytes]]
SESSION_ID: Final = b"mcp-session-id"
PROTOCOL_VERSION: Final = b"mcp-protocol-version"
LAST_EVENT_ID: Final = b"last-event-id"
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
