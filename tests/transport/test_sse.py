"""Event streams as bytes."""

from mcp_sessions.transport import jsonrpc, sse


def test_an_event_carries_its_message_on_one_line() -> None:
    frame = sse.event(jsonrpc.encode({"text": "a\nb\r\n\u2028"}), "s-1")
    assert frame == b'event: message\nid: s-1\ndata: {"text":"a\\nb\\r\\n\\u2028"}\n\n'


def test_the_priming_event_has_an_id_a_retry_and_empty_data() -> None:
    assert sse.priming("s-0", 1.5) == b"id: s-0\nretry: 1500\ndata: \n\n"


def test_an_event_that_nobody_can_resume_from_has_no_id() -> None:
    assert sse.event(b"{}") == b"event: message\ndata: {}\n\n"


def test_a_client_is_told_whole_milliseconds() -> None:
    assert sse.retry(0.1) == b"retry: 100\n\n"
    assert sse.retry(1.0006) == b"retry: 1001\n\n"
