"""What fits a key of MCP_SESSIONS, exactly, and how it is said what does not."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_sessions import conf
from mcp_sessions.conf import rules
from mcp_sessions.conf.rules import problem_with

COUNTS = (
    *("MAX_SESSIONS", "MAX_SESSIONS_PER_PRINCIPAL", "MAX_BODY", "STATE_MAX_BYTES", "MAX_HANDLES"),
    *("STREAM_MAX_EVENTS", "STREAM_MAX_BYTES", "MAX_STREAMS", "MAX_STREAMS_PER_SESSION", "MAX_REQUESTS"),
    *("MAX_REQUESTS_PER_SESSION", "MAX_LISTENERS_PER_PRINCIPAL", "MAX_SUBSCRIPTIONS"),
)
DURATIONS = (
    *("IDLE_TTL", "MAX_AGE", "FIRST_TTL", "REQUEST_TIMEOUT", "RETRY", "STREAM_TTL", "STREAM_MAX_AGE"),
    "AUDIT_RETENTION",
)
FLAGS = ("INVENTORY", "RERUN_LOST_CALLS", "REQUIRE_USER", "REVOKE_ENDS_SESSIONS", "VALIDATE_TOKEN_RESOURCE")
LISTS = (
    *("ALLOWED_ORIGINS", "AUTHENTICATION", "CONVERSATION_KEYS", "JWT_AUDIENCES", "MIDDLEWARE"),
    "REQUIRED_SCOPES",
)
TEXTS = ("SERVER", "PATH", "CACHE", "TOKEN_VERIFIER", "ISSUER_URL", "RESOURCE_URL")
NOT_TEXT: Sequence[object] = ("", 3, b"text", ["text"])


def fitting(key: str, values: Sequence[object]) -> list[object]:
    return [value for value in values if problem_with(key, value) is None]


@pytest.mark.parametrize(
    ("keys", "fits", "others", "expected"),
    [
        (COUNTS, [1, 10**15], [0, -1, True, 1.0, "1"], "an integer above 0"),
        (
            DURATIONS,
            [0.001, 1, 1e9, timedelta(milliseconds=1), timedelta(seconds=1e9)],
            [0, 0.0009, 1e9 + 1, timedelta(microseconds=999), timedelta(seconds=1e9 + 1), True, "1"],
            "seconds above 0 or a timedelta",
        ),
        (FLAGS, [True, False], [0, 1, "yes"], "True or False"),
        (
            LISTS,
            [[], ["a", ""], ("a",), {"a"}, frozenset({"a"})],
            ["a", [1], ["a", None], {"a": "b"}],
            "a list of strings",
        ),
        (TEXTS, ["a"], NOT_TEXT, "a string that is not empty"),
    ],
)
def test_keys_of_one_kind_take_the_same(
    keys: Sequence[str], fits: Sequence[object], others: Sequence[object], expected: str
) -> None:
    for key in keys:
        assert fitting(key, [*fits, *others]) == list(fits), key
        assert problem_with(key, others[0]) == f"must be {expected}, not {others[0]!r}."


@pytest.mark.parametrize(
    ("key", "fits", "others", "expected"),
    [
        ("GRACE", [0, 0.5, timedelta(0), 1e9], [-0.001, 1e9 + 1, False, None], "seconds or a timedelta"),
        (
            "USER_STATE_TTL",
            [0.001, timedelta(days=365)],
            [0, timedelta(days=365, microseconds=1)],
            "seconds above 0 or a timedelta, at most 365 days",
        ),
        ("RECENT_REQUESTS", [0, 100], [-1, 101, False, 1.0, None], "an integer from 0 to 100"),
        ("INDEX_SHARDS", [1, 256, None], [0, 257, True, 1.0], "an integer from 1 to 256, or None"),
        (
            "SUBJECT_TO_USER",
            ["username", "_x", "shop.users.find", "A1.b_2", None],
            ["", "1a", "a.", ".a", "a..b", "profile__name", "a.b\n", "a b", 1],
            "the name of a field of the user model, or a dotted path",
        ),
        (
            "JWKS_URL",
            [
                *("https://id.example.com/keys", "http://127.0.0.1/keys", "http://[::1]:8080/", None),
                "http://localhost",
            ],
            ["http://id.example.com", "ftp://localhost", "https:///keys", "http:///keys", "localhost", "", 1],
            "an https URL, or an http URL of 127.0.0.1, [::1] or localhost",
        ),
        (
            "JWT_ALGORITHMS",
            [["RS256"], ("EdDSA", "ES512"), {"PS384"}],
            [[], ["HS256"], ["RS256", "none"], "RS256", [1], None],
            "a list of some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA",
        ),
        (
            "RATE_LIMITS",
            [{}, {"requests per principal": "600/m"}],
            [{"requests per principal": "600"}, [], None],
            'a dictionary such as {"requests per principal": "600/m", "tool search per address": "100/10s"}; what may '
            'be counted is "requests" and "streams" per principal, session or address, "initialize" and "handles" per '
            'principal or address, and "tool NAME" per any of the three',
        ),
        (
            "TRUSTED_PROXIES",
            [[], ["10.0.0.1", "10.0.0.0/8"], ("fd00::/8",)],
            [["10.0.0.1/8"], ["proxy"], ["10.0.0.1", ""], "10.0.0.1", [1], None],
            "a list of IP addresses and networks",
        ),
        (
            "PROXY_USER_HEADER",
            ["X-Forwarded-User", "a", "9"],
            ["", "X_User", "X User", "X-User\n", "X-User:", 1, None],
            "the name of a header",
        ),
        (
            "NAMESPACE",
            ["shop", "a.b:c_d-1", "größe"],
            ["", "two words", "{shop}", "shop\n", "a/b", 1, None],
            "letters, digits and any of _ . : -",
        ),
        (
            "END_ON",
            [[], ["logout"], ("password-change", "deactivation", "deletion")],
            [["login"], ["logout", "login"], "logout", [1], None],
            "a list of some of logout, password-change, deactivation, deletion",
        ),
        (
            "ERAS",
            [["handshake"], ("modern",), {"handshake", "modern"}],
            [[], ["modern", "legacy"], "modern", None],
            'a list of "handshake", "modern", or both',
        ),
        ("ON_STORE_DOWN", ["503", "serve"], ["404", 503, None, ""], "one of 503, serve"),
        ("ON_MISS", ["404", "revive"], ["503", 404, None, ""], "one of 404, revive"),
        ("RESPONSE", ["auto", "sse", "json"], ["stream", None, ["auto"], ""], "one of auto, sse, json"),
        (
            "MIN_CREATED",
            [datetime(2026, 11, 26, tzinfo=UTC), None],
            [datetime(2026, 11, 26), "2026-11-26T00:00:00Z", 1.0],  # noqa: DTZ001 - without an offset
            "an aware datetime",
        ),
    ],
)
def test_a_key_takes_what_fits_it_and_nothing_else(
    key: str, fits: Sequence[object], others: Sequence[object], expected: str
) -> None:
    assert fitting(key, [*fits, *others]) == list(fits)
    assert problem_with(key, others[0]) == f"must be {expected}, not {others[0]!r}."


def test_keys_for_encryption_are_long_and_no_message_repeats_them() -> None:
    fits: list[Any] = [[], ["k" * 32], ("k" * 32, "l" * 40)]
    others: list[Any] = [["k" * 31], ["k" * 32, "l" * 31], "k" * 32, [b"k" * 32], None]
    assert fitting("ENCRYPTION_KEYS", [*fits, *others]) == fits
    for wrong in others:
        assert problem_with("ENCRYPTION_KEYS", wrong) == (
            "must be a list of random texts of at least 32 characters."
        )


def test_none_fits_the_keys_that_it_turns_off_and_no_other() -> None:
    assert {key for key in conf.KEYS if problem_with(key, None) is None} == {
        *("MAX_SESSIONS", "MAX_SESSIONS_PER_PRINCIPAL", "INDEX_SHARDS", "MAX_HANDLES"),
        *("MAX_LISTENERS_PER_PRINCIPAL", "MIN_CREATED", "TOKEN_VERIFIER", "ISSUER_URL", "RESOURCE_URL"),
        *("JWKS_URL", "REQUIRE_USER", "SUBJECT_TO_USER"),
    }


def test_every_duration_may_be_a_timedelta() -> None:
    assert rules.seconds(timedelta(minutes=1.5)) == 90
    assert rules.seconds(1.5) == 1.5
    assert set(rules.DURATIONS) == {*DURATIONS, "GRACE", "USER_STATE_TTL"}
