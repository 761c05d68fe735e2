"""The session record, ids and fingerprints."""

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from mcp_sessions.records import (
    FINGERPRINT,
    KEPT_HANDSHAKE_CHARS,
    SHOWN_CHARS,
    Handshake,
    Session,
    parse_handshake,
    shown,
)

CLAUDE = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "claude-ai", "version": "0.1.0"},
    capabilities={"sampling": {}},
)


def a_session(**changes: object) -> Session:
    values: dict[str, object] = {
        "fingerprint": "0" * 64,
        "handshake": CLAUDE,
        "principal": "anonymous",
        "created_ms": 1_000,
        "deadline_ms": 86_401_000,
        "last_activity_ms": 2_500,
        "expires_ms": 3_602_500,
        "active": True,
        "initialized": True,
        "requests": 1,
        "last_call": "ping",
        "log_level": None,
        "tools": frozenset(),
    }
    return Session(**{**values, **changes})  # type: ignore[arg-type] # each has the type of its field


@pytest.mark.parametrize("text", ["0" * 63, "0" * 65, "0" * 64 + "\n", "G" * 64, "A" * 64, ""])
def test_what_is_not_a_fingerprint_does_not_match(text: str) -> None:
    assert FINGERPRINT.match(text) is None


def test_a_handshake_survives_a_round_trip_through_json() -> None:
    assert parse_handshake(CLAUDE.text) == CLAUDE


def test_the_json_of_a_handshake_is_one_line_of_ascii() -> None:
    handshake = Handshake(protocol_version="1", client_info={"name": "é\n☃\ud800"}, capabilities={})

    text = handshake.text

    assert text.isascii()
    assert text.isprintable()
    assert parse_handshake(text) == handshake


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        None,
        1,
        ["1", {}],
        ["1", {}, {}, {}],
        [1, {}, {}],
        ["1", [], {}],
        ["1", {}, None],
    ],
)
def test_other_json_is_not_a_handshake(values: object) -> None:
    with pytest.raises(ValueError, match="handshake"):
        parse_handshake(json.dumps(values))


def test_what_is_not_even_json_is_not_a_handshake() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        parse_handshake("broken")


def test_equal_handshakes_are_parsed_once() -> None:
    text = CLAUDE.text

    assert parse_handshake(text) is parse_handshake(text)


def test_a_handshake_that_is_longer_than_any_real_one_is_not_kept() -> None:
    text = json.dumps(["2025-11-25", {"name": "x" * KEPT_HANDSHAKE_CHARS, "version": "1"}, {}])
    assert parse_handshake(text) == parse_handshake(text)
    assert parse_handshake(text) is not parse_handshake(text)
    assert not parse_handshake(text).is_kept
    assert parse_handshake(CLAUDE.text).is_kept


def test_handshakes_of_one_client_differ_in_their_hashes() -> None:
    texts = [json.dumps(["2025-11-25", {"name": "x", "version": "1"}, {"n": n}]) for n in range(100)]
    assert len({hash(parse_handshake(text)) for text in texts}) == 100
    assert hash(parse_handshake(CLAUDE.text)) == hash(CLAUDE)


def test_the_name_and_version_of_a_client_are_text_whatever_it_sent() -> None:
    odd = Handshake(protocol_version="1", client_info={"name": 5, "version": None}, capabilities={})

    assert (CLAUDE.client_name, CLAUDE.client_version) == ("claude-ai", "0.1.0")
    assert (odd.client_name, odd.client_version) == ("5", "None")
    assert Handshake(protocol_version="1", client_info={}, capabilities={}).client_name == ""
    assert Handshake(protocol_version="1", client_info={}, capabilities={}).client_version == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("claude-ai", "'claude-ai'"),
        ("x" * SHOWN_CHARS, f"'{'x' * SHOWN_CHARS}'"),
        ("x" * (SHOWN_CHARS + 1), f"'{'x' * SHOWN_CHARS}\\u2026'"),
        ("x" * (10 * SHOWN_CHARS), f"'{'x' * SHOWN_CHARS}\\u2026'"),
        ("a\nb\x1b[0mé", "'a\\nb\\x1b[0m\\xe9'"),
    ],
)
def test_what_a_client_sent_is_logged_in_short_printable_ascii(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_times_are_aware_utc() -> None:
    session = a_session()

    assert session.created == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert session.last_activity == datetime(1970, 1, 1, 0, 0, 2, 500_000, tzinfo=UTC)
    assert session.expires == datetime(1970, 1, 1, 1, 0, 2, 500_000, tzinfo=UTC)
    assert session.deadline == datetime(1970, 1, 2, 0, 0, 1, tzinfo=UTC)


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        a_session().requests = 2  # type: ignore[misc] # that is the point
    with pytest.raises(FrozenInstanceError):
        CLAUDE.protocol_version = "1"  # type: ignore[misc] # likewise
