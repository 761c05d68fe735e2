"""What the headers of a request decide."""

import pytest

from mcp_sessions.http import headers


@pytest.mark.protocol("H13")
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"application/json, text/event-stream", (True, True)),
        (b"text/event-stream,application/json;q=0.5", (True, True)),
        (b"*/*", (True, True)),
        (b"application/*, text/*", (True, True)),
        (b"APPLICATION/JSON", (True, False)),
        (b"text/event-stream", (False, True)),
        (b"text/html", (False, False)),
        (b"", (False, False)),
    ],
)
def test_accept_admits_json_and_event_streams(accept: bytes, expected: tuple[bool, bool]) -> None:
    assert headers.accepts(accept) == expected
