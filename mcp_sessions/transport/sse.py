"""Event streams as bytes (HTML Living Standard, section Server-sent events). Pure."""

from typing import Final

STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


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
