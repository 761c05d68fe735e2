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


def test_the_lines_of_a_list_are_combined_and_others_are_left() -> None:
    raw = [(b"accept", b"text/html"), (b"via", b"a"), (b"accept", b"*/*"), (b"via", b"b"), (b"host", b"x")]
    assert headers.combined(raw) == [
        (b"via", b"a"),
        (b"via", b"b"),
        (b"host", b"x"),
        (b"accept", b"text/html, */*"),
    ]
