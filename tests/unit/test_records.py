"""The session record, ids and fingerprints."""

import hashlib
import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from mcp_sessions.records import (
    FINGERPRINT,
    FINGERPRINT_PREFIX,
    KEPT_HANDSHAKE_CHARS,
    KINDS,
    SHOWN_CHARS,
    WORDS,
    Handshake,
    Session,
    has_subject,
    parse_handshake,
    record_fingerprint,
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


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        *((7 * "a", False), (8 * "a", True), ("0123456789abcdef", True), (64 * "f", True), (65 * "f", False)),
        *((8 * "g", False), (8 * "A", False), ("a" * 8 + "\n", False)),
    ],
)
def test_the_beginning_of_a_fingerprint_is_enough_to_look_for(text: str, fits: bool) -> None:
    assert (FINGERPRINT_PREFIX.match(text) is not None) == fits


def test_principals_with_a_subject_are_users_and_the_subjects_of_tokens() -> None:
    principals = ["user:1", "oauth:x", "anonymous", "client:x", "", "a user:1", "users:1"]
    assert [each for each in principals if has_subject(each)] == ["user:1", "oauth:x"]


def test_the_fingerprint_of_a_record_stays_the_same_from_release_to_release() -> None:
    fingerprint = hashlib.sha256(b'handle\0"basket"\0"user:1"\0"\\u00e9"').hexdigest()
    assert record_fingerprint("handle", "basket", "user:1", "é") == fingerprint
    assert record_fingerprint("user") == hashlib.sha256(b"user").hexdigest()


def test_every_kind_of_record_has_words_for_one_and_for_several() -> None:
    assert list(WORDS) == list(KINDS)
    assert {words[1].removesuffix("s") for words in WORDS.values()} == {words[0] for words in WORDS.values()}


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
        ["1", {}, {}, "unheard of", "", ""],
        ["1", {}, {}, ["handle"], "", ""],
        ["1", {}, {}, "handle", 1, ""],
        ["1", {}, {}, "handle", "", None],
        ["1", {}, {}, "handle", ""],
        ["1", {}, {}, "handle", "", "", ""],
        [1, {}, {}, "handle", "", ""],
        ["1", [], {}, "handle", "", ""],
        ["1", {}, [], "handle", "", ""],
    ],
)
def test_other_json_is_not_a_handshake(values: object) -> None:
    with pytest.raises(ValueError, match="handshake"):
        parse_handshake(json.dumps(values))


def test_the_text_of_a_session_says_no_more_of_it_than_its_name() -> None:
    what = {"protocol_version": "1", "client_info": {"name": "x"}, "capabilities": {"roots": {}}}
    assert Handshake(**what).text == '["1",{"name":"x"},{"roots":{}}]'  # type: ignore[arg-type] # of the fields
    named = Handshake(**what, name="laptop")  # type: ignore[arg-type] # as above
    assert named.text == '["1",{"name":"x"},{"roots":{}},"session","","laptop"]'
    handle = Handshake(**what, kind="handle", label="basket", name="b-1")  # type: ignore[arg-type] # as above
    assert handle.text == '["1",{"name":"x"},{"roots":{}},"handle","basket","b-1"]'
    for each in (named, handle):
        again = parse_handshake(each.text)
        assert again == each
        assert (again.kind, again.label, again.name) == (each.kind, each.label, each.name)
    session = a_session(handshake=handle)
    assert (session.kind, session.label, session.name) == ("handle", "basket", "b-1")


def test_a_session_is_named_after_the_credential_that_it_was_opened_with() -> None:
    assert CLAUDE.opened_with("") is CLAUDE
    named = CLAUDE.opened_with("laptop")
    assert (named.kind, named.label, named.name) == ("session", "", "laptop")
    assert (named.protocol_version, named.client_info, named.capabilities) == (
        CLAUDE.protocol_version,
        CLAUDE.client_info,
        CLAUDE.capabilities,
    )


def test_a_record_keeps_the_beginning_of_what_a_client_says_of_itself() -> None:
    long = "x" * SHOWN_CHARS
    said = Handshake(
        protocol_version=long + "1",
        client_info={"name": long + "2", "version": long + "3", "title": "Claude"},
        capabilities={"roots": {}},
    )
    kept = said.for_record("handle", label="basket", name="b-1")
    assert kept.protocol_version == long
    assert kept.client_info == {"name": long, "version": long}
    assert (kept.kind, kept.label, kept.name, kept.capabilities) == ("handle", "basket", "b-1", {})
    assert said.for_record("caller").name == said.for_record("caller").label == ""
    assert said.for_record("caller", capable=True).capabilities == {"roots": {}}
    endless = Handshake(
        protocol_version="1", client_info={}, capabilities={"roots": "x" * KEPT_HANDSHAKE_CHARS}
    )
    assert endless.for_record("caller", capable=True).capabilities == {}


def test_what_a_handshake_gives_is_a_copy() -> None:
    CLAUDE.client_info["name"] = "somebody else"
    CLAUDE.capabilities.clear()
    assert (CLAUDE.client_info["name"], CLAUDE.capabilities) == ("claude-ai", {"sampling": {}})


def test_what_is_not_even_json_is_not_a_handshake() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        parse_handshake("broken")


def test_equal_handshakes_are_parsed_once() -> None:
    text = CLAUDE.text

    assert parse_handshake(text) is parse_handshake(text)


def handshake_of(chars: int) -> str:
    """The text of a handshake that is so long."""
    text = '["1",{"name":"","version":"1"},{}]'
    return text.replace('""', f'"{"x" * (chars - len(text))}"', 1)


def test_a_handshake_that_is_longer_than_any_real_one_is_not_kept() -> None:
    longest, longer = handshake_of(KEPT_HANDSHAKE_CHARS), handshake_of(KEPT_HANDSHAKE_CHARS + 1)
    assert parse_handshake(longest) is parse_handshake(longest)
    assert parse_handshake(longest).is_kept
    assert parse_handshake(longer) == parse_handshake(longer)
    assert parse_handshake(longer) is not parse_handshake(longer)
    assert not parse_handshake(longer).is_kept


def test_the_handshakes_of_handles_are_not_kept_because_each_is_used_once() -> None:
    assert not CLAUDE.for_record("handle").is_kept
    assert CLAUDE.for_record("user").is_kept


def test_a_session_is_stored_and_not_revived_unless_it_is_said() -> None:
    assert (a_session().is_stored, a_session().revived) == (True, False)


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
