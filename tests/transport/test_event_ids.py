"""Event ids: what is written can be read, and so can the ids of an older release."""

import pytest

from mcp_sessions.transport.event_ids import STANDALONE, EventId

SESSION = "0123456789abcdef" * 4
STREAM = "00112233445566aa"


@pytest.mark.parametrize("stream", [STREAM, STANDALONE])
@pytest.mark.parametrize("position", [0, 1, 57, 999_999_999_999_999, 1_800_000_000_000_001, 2**53])
def test_what_is_written_is_understood(stream: str, position: int) -> None:
    event_id = EventId.of(SESSION, stream, position)
    assert EventId.parse(str(event_id), fingerprint=SESSION) == event_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"01234567-{STANDALONE}",
        f"01234567-{STANDALONE}-",
        f"01234567-{STANDALONE}-01",
        f"01234567-{STANDALONE}--1",
        f"01234567-{STANDALONE}-1\n",
        f"01234567-{STANDALONE}-1e3",
        f"01234567-{STANDALONE}-{10**16}",
        f"01234567-{STANDALONE}-5-1",
        f"76543210-{STANDALONE}-1",
        f"01234567-{STREAM[1:]}-1",
        "01234567-other-1",
    ],
)
def test_what_is_not_an_id_of_this_session_gives_none(text: str) -> None:
    assert EventId.parse(text, fingerprint=SESSION) is None
