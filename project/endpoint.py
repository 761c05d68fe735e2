"""The demo's entry in MCP_SESSIONS, from the environment variables that start with MCP_."""

from collections.abc import Callable
from typing import Any, Final

from project.environment import boolean, cap, count, moment, read, seconds, words

#: Setting -> how to read its variable, MCP_<setting>.
READERS: Final[dict[str, Callable[[str], object]]] = {
    "SERVER": str,
    "PATH": str,
    "ERAS": words,
    "CACHE": str,
    "NAMESPACE": str,
    "IDLE_TTL": seconds,
    "MAX_AGE": seconds,
    "FIRST_TTL": seconds,
    "GRACE": seconds,
    "REQUEST_TIMEOUT": seconds,
    "ON_STORE_DOWN": str,
    "RESPONSE": str,
    "ON_MISS": str,
    "MIN_CREATED": moment,
    "MAX_SESSIONS": cap,
    "MAX_SESSIONS_PER_PRINCIPAL": cap,
    "INDEX_SHARDS": count,
    "MAX_BODY": count,
    "STATE_MAX_BYTES": count,
    "MAX_HANDLES": cap,
    "USER_STATE_TTL": seconds,
    "CONVERSATION_KEYS": words,
    "RETRY": seconds,
    "STREAM_MAX_EVENTS": count,
    "STREAM_MAX_BYTES": count,
    "STREAM_TTL": seconds,
    "STREAM_MAX_AGE": seconds,
    "MAX_STREAMS": count,
    "MAX_STREAMS_PER_SESSION": count,
    "MAX_REQUESTS": count,
    "MAX_REQUESTS_PER_SESSION": count,
    "MAX_LISTENERS_PER_PRINCIPAL": cap,
    "INVENTORY": boolean,
    "RECENT_REQUESTS": count,
    "MAX_SUBSCRIPTIONS": count,
    "RERUN_LOST_CALLS": boolean,
    "ALLOWED_ORIGINS": words,
    "AUTHENTICATION": words,
    "REQUIRE_USER": boolean,
    "SUBJECT_TO_USER": str,
    "REVOKE_ENDS_SESSIONS": boolean,
    "AUDIT_RETENTION": seconds,
    "END_ON": words,
    "TOKEN_VERIFIER": str,
    "ISSUER_URL": str,
    "RESOURCE_URL": str,
    "JWKS_URL": str,
    "JWT_ALGORITHMS": words,
    "JWT_AUDIENCES": words,
    "TRUSTED_PROXIES": words,
    "PROXY_USER_HEADER": str,
    "REQUIRED_SCOPES": words,
    "VALIDATE_TOKEN_RESOURCE": boolean,
}

_DEFAULTS: Final = {"SERVER": "project.mcp.server", "NAMESPACE": "demo"}
_UNSET: Final = object()


def endpoint_from_environment() -> dict[str, Any]:
    """The entry. Without its variable, a setting has the app's default.

    Raises: ImproperlyConfigured for a value that cannot be read.
    """
    read_values = {key: read(f"MCP_{key}", parse, _UNSET) for key, parse in READERS.items()}
    return _DEFAULTS | {key: value for key, value in read_values.items() if value is not _UNSET}
