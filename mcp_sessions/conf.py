"""The settings, typed: `MCP_SESSIONS` is a dictionary of endpoints, as CACHES is one of caches.

Read live: a changed setting (`override_settings` in tests) holds from the next request on. What is wrong is a system
check's business (`checks`); here it raises ImproperlyConfigured with the endpoint and the key in the message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache
from typing import Any, Final, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from mcp_sessions.store.base import Limits

Response = Literal["auto", "sse", "json"]
RESPONSES: Final = ("auto", "sse", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One entry of MCP_SESSIONS. Every field is the setting of the same name in upper case; durations are seconds."""

    #: The key of the entry in MCP_SESSIONS.
    alias: str
    #: Dotted path of an `mcp.server.MCPServer` or low-level `Server`, or of a callable that returns one.
    server: str
    #: Where the endpoint answers, below the URLRouter; no leading or trailing slash is needed.
    path: str = "mcp"
    #: Alias of a django-redis cache. If the alias is missing or no django-redis cache, sessions live in memory.
    cache: str = "default"
    #: Keeps services on one Redis apart. Default: the entry's key.
    namespace: str = ""
    #: A session ends when nothing happens for so long.
    idle_ttl: float = 3600
    #: A session ends at this age, however active.
    max_age: float = 86400
    #: A session that never became active ends after so long: some clients open one per call and leave it.
    first_ttl: float = 60
    #: How to answer: one JSON object, an event stream, or whichever fits the request.
    response: Response = "auto"
    #: With "auto": how long a silent handler may take and still be answered with one JSON object.
    grace: float = 0.25
    #: Open sessions; None for no cap. At the cap `initialize` gets 503.
    max_sessions: int | None = 100_000
    #: Open sessions of one authenticated principal; None for no cap. Anonymous clients are not one principal here.
    max_sessions_per_principal: int | None = 100
    #: Bytes of a request body; more gets 413.
    max_body: int = 4 * 1024 * 1024
    #: Bytes of state names and values in one session.
    state_max_bytes: int = 256 * 1024
    #: Origins of browsers' requests, "https://app.example.com", besides the endpoint's own; "*" for any.
    allowed_origins: Sequence[str] = ()
    #: How long a request from the server to the client (elicitation, sampling) waits for its answer.
    request_timeout: float = 300
    #: Dotted path of an SDK `TokenVerifier` (class or instance). None: sessions are anonymous.
    token_verifier: str | None = None
    #: OAuth issuer, for the protected resource metadata (RFC 9728). Needed with TOKEN_VERIFIER.
    issuer_url: str | None = None
    #: Public URL of this endpoint, for the same. Needed with TOKEN_VERIFIER.
    resource_url: str | None = None
    #: Scopes that every token must have.
    required_scopes: Sequence[str] = ()
    #: Whether tokens must name RESOURCE_URL as their resource (RFC 8707).
    validate_token_resource: bool = True
    #: The lifetimes and caps as the store takes them.
    limits: Limits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limits = Limits(
            idle_ms=round(self.idle_ttl * 1000),
            max_age_ms=round(self.max_age * 1000),
            first_ms=round(self.first_ttl * 1000),
            max_sessions=self.max_sessions,
            max_sessions_per_principal=self.max_sessions_per_principal,
            state_max_bytes=self.state_max_bytes,
        )
        object.__setattr__(self, "limits", limits)


#: Setting name -> field name.
KEYS: Final = {f.name.upper(): f.name for f in fields(Endpoint) if f.init and f.name != "alias"}
DURATIONS: Final = ("IDLE_TTL", "MAX_AGE", "FIRST_TTL", "GRACE", "REQUEST_TIMEOUT")


def aliases() -> tuple[str, ...]:
    """The keys of MCP_SESSIONS."""
    return tuple(_entries())


@cache
def endpoint(alias: str) -> Endpoint:
    """The endpoint of that key.

    Raises: ImproperlyConfigured for a missing entry, an unknown or a missing key, or a value of the wrong type.
    """
    entry = _entries().get(alias)
    if not isinstance(entry, Mapping):
        raise ImproperlyConfigured(f"MCP_SESSIONS has no dictionary under {alias!r}; it has {sorted(_entries())}.")
    problems = entry_problems(alias, entry)
    if problems:
        raise ImproperlyConfigured(" ".join(problems))
    values = {KEYS[key]: _seconds(value) if key in DURATIONS else value for key, value in entry.items()}
    values.setdefault("namespace", alias)
    values["path"] = values.get("path", "mcp").strip("/")
    return Endpoint(alias=alias, **values)


def entry_problems(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with one entry, a sentence each."""
    where = f"MCP_SESSIONS[{alias!r}]"
    problems = [
        f"{where} has the unknown key {key!r}. Known are {', '.join(sorted(KEYS))}."
        for key in entry
        if key not in KEYS
    ]
    if "SERVER" not in entry:
        problems.append(f"{where} needs SERVER, the dotted path of an MCP server.")
    problems += [f"{where}[{key!r}] {problem}" for key in KEYS if key in entry and (problem := _problem(key, entry[key]))]
    return problems


def _problem(key: str, value: Any) -> str | None:
    """Why a value does not fit its key."""
    if key in DURATIONS:
        zero_allowed = key == "GRACE"
        if not isinstance(value, (int, float, timedelta)) or isinstance(value, bool):
            return f"must be seconds or a timedelta, not {value!r}."
        seconds = _seconds(value)
        return None if seconds > 0 or (zero_allowed and seconds == 0) else f"must be positive, not {value!r}."
    if key in ("MAX_SESSIONS", "MAX_SESSIONS_PER_PRINCIPAL", "MAX_BODY", "STATE_MAX_BYTES"):
        if value is None and key.startswith("MAX_SESSIONS"):
            return None
        return None if _is_positive_int(value) else f"must be a positive integer, not {value!r}."
    if key == "RESPONSE":
        return None if value in RESPONSES else f"must be one of {', '.join(RESPONSES)}, not {value!r}."
    if key in ("ALLOWED_ORIGINS", "REQUIRED_SCOPES"):
        valid = isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(v, str) for v in value)
        return None if valid else f"must be a list of strings, not {value!r}."
    if key == "VALIDATE_TOKEN_RESOURCE":
        return None if isinstance(value, bool) else f"must be True or False, not {value!r}."
    if value is None and key in ("TOKEN_VERIFIER", "ISSUER_URL", "RESOURCE_URL"):
        return None
    return None if isinstance(value, str) and value else f"must be a non-empty string, not {value!r}."


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _entries() -> Mapping[str, Any]:
    entries = getattr(settings, "MCP_SESSIONS", {})
    if not isinstance(entries, Mapping):
        raise ImproperlyConfigured("MCP_SESSIONS must be a dictionary of endpoints, like CACHES.")
    return entries


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("MCP_SESSIONS", "CACHES"):
        endpoint.cache_clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.conf")
