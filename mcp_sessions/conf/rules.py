"""What fits each key of an entry of MCP_SESSIONS, and how to say what does not. Pure."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final, Literal
from urllib.parse import urlsplit

Response = Literal["auto", "sse", "json"]
RESPONSES: Final = ("auto", "sse", "json")
OnMiss = Literal["404", "revive"]
REVIVE: Final = "revive"
ON_MISSES: Final = ("404", REVIVE)
HANDSHAKE: Final = "handshake"
MODERN: Final = "modern"
ERAS: Final = (HANDSHAKE, MODERN)
OnStoreDown = Literal["503", "serve"]
SERVE: Final = "serve"
ON_STORE_DOWN: Final = ("503", SERVE)
#: What may end the sessions of a user.
END_ON: Final = ("logout", "password-change", "deactivation", "deletion")
#: Every list reads each shard.
MOST_SHARDS: Final = 256
#: Requests that are kept of a record: Redis stores more of them in a form that takes several times the memory.
MOST_RECENT: Final = 100
#: Signature algorithms whose key for checking cannot make signatures.
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: How long a record that is no session may live.
LONGEST: Final = timedelta(days=365)

DURATIONS: Final = (
    "IDLE_TTL",
    "MAX_AGE",
    "FIRST_TTL",
    "GRACE",
    "REQUEST_TIMEOUT",
    "RETRY",
    "STREAM_TTL",
    "STREAM_MAX_AGE",
    "USER_STATE_TTL",
    "AUDIT_RETENTION",
)
_COUNTS: Final = (
    "MAX_SESSIONS",
    "MAX_SESSIONS_PER_PRINCIPAL",
    "MAX_BODY",
    "STATE_MAX_BYTES",
    "MAX_HANDLES",
    "STREAM_MAX_EVENTS",
    "STREAM_MAX_BYTES",
    "MAX_STREAMS",
    "MAX_STREAMS_PER_SESSION",
    "MAX_REQUESTS",
    "MAX_REQUESTS_PER_SESSION",
    "MAX_LISTENERS_PER_PRINCIPAL",
    "MAX_SUBSCRIPTIONS",
)
_FLAGS: Final = (
    "INVENTORY",
    "RERUN_LOST_CALLS",
    "REQUIRE_USER",
    "REVOKE_ENDS_SESSIONS",
    "VALIDATE_TOKEN_RESOURCE",
)


def problem_with(key: str, value: Any) -> str | None:
    """Why a value does not fit its key."""
    if value is None and key in _MAY_BE_NONE:
        return None
    fits, expected = _RULES.get(key, _TEXT)
    return None if fits(value) else f"must be {expected}, not {value!r}."


def _is_duration(value: Any, *, least: float = 0.001, most: float = 1e9) -> bool:
    """Whether it is a duration between `least` seconds and what Redis accepts as the TTL of a key, or `most`."""
    if not isinstance(value, (int, float, timedelta)) or isinstance(value, bool):
        return False
    return least <= seconds(value) <= most


def _is_strings(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value)


def _are_eras(value: Any) -> bool:
    return _is_strings(value) and len(value) > 0 and set(value) <= set(ERAS)


def _is_private(value: Any) -> bool:
    """Whether nobody on the way to a URL can change what it answers."""
    if not isinstance(value, str):
        return False
    url = urlsplit(value)
    return bool(url.hostname) and (
        url.scheme == "https" or (url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost"))
    )


def _are_networks(value: Any) -> bool:
    try:
        return _is_strings(value) and all(ip_network(each) for each in value)
    except ValueError:
        return False


Rule = tuple[Callable[[Any], object], str]
_DURATION: Final[Rule] = (_is_duration, "seconds above 0 or a timedelta")
_COUNT: Final[Rule] = (
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    "an integer above 0",
)
_FLAG: Final[Rule] = (lambda value: isinstance(value, bool), "True or False")
_STRINGS: Final[Rule] = (_is_strings, "a list of strings")
_TEXT: Final[Rule] = (lambda value: isinstance(value, str) and value, "a string that is not empty")

_MAY_BE_NONE: Final = frozenset(
    {
        "MAX_SESSIONS",
        "MAX_SESSIONS_PER_PRINCIPAL",
        "INDEX_SHARDS",
        "MAX_HANDLES",
        "MAX_LISTENERS_PER_PRINCIPAL",
        "MIN_CREATED",
        "TOKEN_VERIFIER",
        "ISSUER_URL",
        "RESOURCE_URL",
        "JWKS_URL",
        "REQUIRE_USER",
        "SUBJECT_TO_USER",
    }
)
#: Key -> what fits it, and how to say so. The other keys have _TEXT.
_RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(DURATIONS, _DURATION),
    "GRACE": (lambda value: _is_duration(value, least=0), "seconds or a timedelta"),
    "USER_STATE_TTL": (
        lambda value: _is_duration(value, most=LONGEST.total_seconds()),
        "seconds above 0 or a timedelta, at most 365 days",
    ),
    **dict.fromkeys(_COUNTS, _COUNT),
    "RECENT_REQUESTS": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_RECENT,
        f"an integer from 0 to {MOST_RECENT}",
    ),
    "INDEX_SHARDS": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_SHARDS,
        f"an integer from 1 to {MOST_SHARDS}, or None",
    ),
    **dict.fromkeys(
        ("ALLOWED_ORIGINS", "AUTHENTICATION", "REQUIRED_SCOPES", "CONVERSATION_KEYS", "JWT_AUDIENCES"),
        _STRINGS,
    ),
    "SUBJECT_TO_USER": (
        lambda value: (
            isinstance(value, str) and re.match(r"[A-Za-z_]\w*(\.\w+)*\Z", value) and "__" not in value
        ),
        "the name of a field of the user model, or a dotted path",
    ),
    "JWKS_URL": (_is_private, "an https URL, or an http URL of 127.0.0.1, [::1] or localhost"),
    "JWT_ALGORITHMS": (
        lambda value: _is_strings(value) and value and set(value) <= set(ASYMMETRIC),
        f"a list of some of {', '.join(ASYMMETRIC)}",
    ),
    "TRUSTED_PROXIES": (_are_networks, "a list of IP addresses and networks"),
    "PROXY_USER_HEADER": (
        lambda value: isinstance(value, str) and re.match(r"[A-Za-z0-9-]+\Z", value),
        "the name of a header",
    ),
    "NAMESPACE": (
        # Braces would break the hash tags of the keys.
        lambda value: isinstance(value, str) and re.match(r"[\w.:-]+\Z", value),
        "letters, digits and any of _ . : -",
    ),
    "END_ON": (
        lambda value: _is_strings(value) and set(value) <= set(END_ON),
        f"a list of some of {', '.join(END_ON)}",
    ),
    "ERAS": (_are_eras, 'a list of "handshake", "modern", or both'),
    "ON_STORE_DOWN": (lambda value: value in ON_STORE_DOWN, f"one of {', '.join(ON_STORE_DOWN)}"),
    "ON_MISS": (lambda value: value in ON_MISSES, f"one of {', '.join(ON_MISSES)}"),
    "MIN_CREATED": (
        lambda value: isinstance(value, datetime) and value.utcoffset() is not None,
        "an aware datetime",
    ),
    "RESPONSE": (lambda value: value in RESPONSES, f"one of {', '.join(RESPONSES)}"),
    **dict.fromkeys(_FLAGS, _FLAG),
}


def seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
