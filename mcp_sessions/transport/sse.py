"""Event streams as bytes (HTML Living Standard, section Server-sent events). Pure."""

from typing import Final

STREAM_TYPE: Final = (b"content-type", b"text/event-stream")
STREAM_HEADERS: Final = (
    STREAM_TYPE,
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


#: From this protocol version on, clients understand an event without data, and resume from it.
PRIMED_SINCE: Final = "2025-11-25"


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


#: The first part of a stream: servers send the headers with it.
OPENING: Final = b":\n\n"
#: Keeps proxies from closing a silent stream; clients skip it.
KEEP_ALIVE: Final = b": keep-alive\n\n"
