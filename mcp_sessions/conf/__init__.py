"""The settings, typed: `MCP_SESSIONS` is a dictionary of endpoints, as CACHES is a dictionary of caches.

Settings are read live: a changed setting (`override_settings` in tests) applies from the next request on. System checks
(`checks`) report mistakes; here they raise ImproperlyConfigured with the endpoint and the key in the message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from mcp_sessions.conf.caches import is_cluster
from mcp_sessions.conf.rates import Limit, limits_of
from mcp_sessions.conf.rules import (
    DURATIONS,
    ERAS,
    OnMiss,
    OnStoreDown,
    Response,
    problem_with,
    seconds,
)
from mcp_sessions.documentation import page


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The lifetimes and caps of the sessions of one endpoint. Durations are milliseconds; None is "no cap"."""

    #: A session ends when nothing happens for so long.
    idle_ms: int
    #: A session ends at this age, however active.
    max_age_ms: int
    #: A session that never became active ends after so long.
    first_ms: int
    #: Open sessions of the endpoint.
    max_sessions: int | None
    #: Open sessions of one principal; anonymous clients share none.
    max_sessions_per_principal: int | None
    #: Over how many hash slots the indexes are spread.
    shards: int = 1
    #: How often a record's place in the indexes is updated at most: a sixtieth of `idle_ms`, between 5 s and 60 s.
    index_ms: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index_ms", max(5_000, min(60_000, self.idle_ms // 60)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What a stream keeps for clients that resume it.

    What exceeds a bound is dropped from the old end, but never the newest message, so never a response.
    """

    #: Events.
    max_events: int
    #: Bytes of payloads.
    max_bytes: int
    #: Milliseconds after the last sign of life.
    ttl_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One entry of MCP_SESSIONS. Each field is the setting of the same name in upper case; durations are in seconds."""

    #: The key of the entry in MCP_SESSIONS.
    alias: str
    #: Dotted path of an `mcp.server.MCPServer`, a low-level `Server` or a FastMCP 4, or of a callable that returns one.
    server: str
    #: Path of the endpoint below the URLRouter; it needs no leading or trailing slash.
    path: str = "mcp"
    #: The protocol eras that are served: "handshake", which has sessions, and "modern", which has none.
    eras: Sequence[str] = ERAS
    #: Alias of a django-redis cache. If it is missing, or another kind of cache, sessions live in memory.
    cache: str = "default"
    #: Separates services that share a Redis. Default: the entry's key.
    namespace: str = ""
    #: A session ends after this time without activity.
    idle_ttl: float = 3600
    #: A session ends at this age, however active it is.
    max_age: float = 86400
    #: A session that is never used ends after this time. Some clients open one for each call and abandon it.
    first_ttl: float = 60
    #: What a session id gets that neither ended nor reached MAX_AGE, but whose record is gone: "404", or with "revive"
    #: its session again, with empty state.
    on_miss: OnMiss = "404"
    #: Sessions that were opened before this moment, an aware datetime, are over.
    min_created: datetime | None = None
    #: What a request of a session gets while the store cannot be asked: "503", or "serve" to go on with what the
    #: session's id tells. Then tools run that need neither state nor the client's answers.
    on_store_down: OnStoreDown = "503"
    #: How to answer: with one JSON object, an event stream, or whichever fits the request.
    response: Response = "auto"
    #: With "auto": how long a handler that sends nothing may take and still be answered with one JSON object.
    grace: float = 0.25
    #: Open sessions; None for no limit. At the limit, `initialize` gets 503.
    max_sessions: int | None = 100_000
    #: Open sessions of one authenticated principal; None for no limit. It does not apply to anonymous clients.
    max_sessions_per_principal: int | None = 100
    #: Over how many hash slots of a Redis Cluster the indexes of sessions are spread. None: 16 on a Cluster, else one.
    index_shards: int | None = None
    #: Bytes of a request body; a larger one gets 413.
    max_body: int = 4 * 1024 * 1024
    #: Bytes of state names and values in one session.
    state_max_bytes: int = 256 * 1024
    #: Texts with which state, messages and what clients say of themselves are encrypted in the store: the first
    #: encrypts, all decrypt. Empty: nothing is encrypted.
    encryption_keys: Sequence[str] = field(default=(), repr=False)
    #: State handles of the endpoint, of all kinds; None for no limit. At the limit, tools create no more.
    max_handles: int | None = 100_000
    #: The state of a user (`current_user().state`) ends after this time without use, at most 365 days.
    user_state_ttl: float = 2_592_000
    #: Keys of a request's `_meta` under which hosts name a conversation. For authenticated clients that send one,
    #: `current_session()` then works in the modern era.
    conversation_keys: Sequence[str] = ()
    #: Origins besides the endpoint's own that browsers may send requests from, "https://app.example.com"; "*" for any.
    allowed_origins: Sequence[str] = ()
    #: How long a request from the server to the client (elicitation, sampling) waits for its answer.
    request_timeout: float = 300
    #: How long a client should wait before it resumes a stream that a handler closed, or whose connection broke.
    retry: float = 1.0
    #: Events that a stream keeps for clients that resume it.
    stream_max_events: int = 1000
    #: Bytes of messages that a stream keeps.
    stream_max_bytes: int = 4 * 1024 * 1024
    #: How long a stream is kept after its last message.
    stream_ttl: float = 600
    #: How long one connection may carry a stream before the client is told to reconnect.
    stream_max_age: float = 3600
    #: Open streams of one process, including requests that may become one; more get 503, or one JSON object.
    max_streams: int = 5000
    #: Open GET streams of one session in one process, resumed ones included; the oldest is closed to make room.
    max_streams_per_session: int = 8
    #: Requests and notifications that one process handles at a time, with those that wait for the store; more get 503.
    max_requests: int = 10_000
    #: The same for one session.
    max_requests_per_session: int = 1000
    #: Open `subscriptions/listen` streams of one authenticated principal in all processes; None for no limit.
    max_listeners_per_principal: int | None = 100
    #: Whether the admin lists who calls without a session, and how often: clients that authenticate, if the store is
    #: shared.
    inventory: bool = True
    #: How often something may be done, on all processes together: {"requests per principal": "600/m"}. What is beyond
    #: gets 429.
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    #: Resources that one session may subscribe to, and that one `subscriptions/listen` may name.
    max_subscriptions: int = 100
    #: What the last requests of each session and caller did is kept for operators: so many, at most 100; 0 for none.
    recent_requests: int = 50
    #: Whether a call that was lost with its process is run again when its client resumes the stream. It runs once for
    #: each process that died with it, three times at most. This applies only to tools annotated with `readOnlyHint` or
    #: `idempotentHint`.
    rerun_lost_calls: bool = False
    #: ASGI middleware around the endpoint, the outermost first: dotted paths of callables that take an application and
    #: return one. Django's setting of the same name does not apply to endpoints.
    middleware: Sequence[str] = ()
    #: What finds out who sends a request, tried in order: "token", "personal-token", "jwks", "oauth-toolkit",
    #: "session", "drf", "proxy", or the dotted path of an `Authenticator` or of an authentication class of Django REST
    #: framework.
    authentication: Sequence[str] = ()
    #: Whether anonymous requests get 401. None: yes, if AUTHENTICATION or TOKEN_VERIFIER is set.
    require_user: bool | None = None
    #: How the subject of a token becomes Django's user: the name of a field of the user model, such as "username", or
    #: the dotted path of a function that takes the issuer and the subject. None: subjects have no user.
    subject_to_user: str | None = None
    #: Whether sessions end when the personal access token is revoked that they were opened with.
    revoke_ends_sessions: bool = False
    #: How old entries of the audit, and jobs that are over, are that `manage.py mcp_sessions prune` deletes.
    audit_retention: float = 31_536_000
    #: What ends the sessions of a Django user: "logout", "password-change", "deactivation" and "deletion".
    end_on: Sequence[str] = ()
    #: Dotted path of an SDK `TokenVerifier` (class or instance), for "token". Without AUTHENTICATION, it turns that on.
    token_verifier: str | None = None
    #: OAuth issuer, for the protected resource metadata (RFC 9728). Required for "token", "jwks" and "oauth-toolkit".
    issuer_url: str | None = None
    #: Public URL of this endpoint, for the same metadata. Required for "token", "jwks" and "oauth-toolkit".
    resource_url: str | None = None
    #: Where the identity provider publishes the keys of its tokens (JWKS). Required for "jwks".
    jwks_url: str | None = None
    #: Signature algorithms that are accepted in tokens for "jwks"; only asymmetric ones.
    jwt_algorithms: Sequence[str] = ("RS256", "ES256")
    #: Audiences of which a token for "jwks" must name one. Empty: RESOURCE_URL.
    jwt_audiences: Sequence[str] = ()
    #: Addresses and networks of proxies: their `X-Forwarded-For` says where a request comes from and, with "proxy",
    #: their PROXY_USER_HEADER who sends it.
    trusted_proxies: Sequence[str] = ()
    #: The header in which such a proxy names the user. It must remove what clients send under that name.
    proxy_user_header: str = "X-Forwarded-User"
    #: Scopes that every token must have.
    required_scopes: Sequence[str] = ()
    #: Whether tokens must name RESOURCE_URL as their resource (RFC 8707).
    validate_token_resource: bool = True
    #: The lifetimes and limits in the form that the store needs.
    limits: Limits = field(init=False, repr=False)
    #: What a stream keeps, in the form that the store needs.
    stream_limits: StreamLimits = field(init=False, repr=False)
    #: RATE_LIMITS, by what they count.
    rates: Mapping[str, tuple[Limit, ...]] = field(init=False, repr=False)
    #: MIN_CREATED in milliseconds since the epoch; 0 without one.
    min_created_ms: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limits = Limits(
            idle_ms=round(self.idle_ttl * 1000),
            max_age_ms=round(self.max_age * 1000),
            first_ms=round(self.first_ttl * 1000),
            max_sessions=self.max_sessions,
            max_sessions_per_principal=self.max_sessions_per_principal,
            shards=self.index_shards or (SHARDS_ON_CLUSTER if is_cluster(self.cache) else 1),
        )
        object.__setattr__(self, "limits", limits)
        stream_limits = StreamLimits(
            max_events=self.stream_max_events,
            max_bytes=self.stream_max_bytes,
            ttl_ms=round(self.stream_ttl * 1000),
        )
        object.__setattr__(self, "stream_limits", stream_limits)
        object.__setattr__(self, "rates", limits_of(self.rate_limits))
        moment = 0 if self.min_created is None else round(self.min_created.timestamp() * 1000)
        object.__setattr__(self, "min_created_ms", moment)


#: Shards of the indexes on a Redis Cluster, by default.
SHARDS_ON_CLUSTER: Final = 16

#: Setting name -> field name.
KEYS: Final = {f.name.upper(): f.name for f in fields(Endpoint) if f.init and f.name != "alias"}


def aliases() -> tuple[str, ...]:
    """The keys of MCP_SESSIONS."""
    return tuple(_entries())


@cache
def endpoint(alias: str) -> Endpoint:
    """The endpoint with this alias.

    Raises: ImproperlyConfigured for a missing entry, an unknown or missing key, or a value that does not fit.
    """
    entry = _entries().get(alias)
    if not isinstance(entry, Mapping):
        raise ImproperlyConfigured(
            f"MCP_SESSIONS has no dictionary under {alias!r}; it has {sorted(_entries())}."
        )
    problems = entry_problems(alias, entry)
    if problems:
        raise ImproperlyConfigured(" ".join([*problems, page("settings", "the-keys-of-an-endpoint")]))
    values: dict[str, Any] = {
        KEYS[key]: seconds(value) if key in DURATIONS else value for key, value in entry.items()
    }
    values.setdefault("namespace", alias)
    values["path"] = values.get("path", "mcp").strip("/")
    return Endpoint(alias=alias, **values)


def entry_problems(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """A sentence for each mistake in one entry."""
    return [*unknown_keys(alias, entry), *missing_keys(alias, entry), *wrong_values(alias, entry)]


def unknown_keys(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """A sentence for each unknown key."""
    known = ", ".join(sorted(KEYS))
    return [
        f"{_where(alias)} has the unknown key {key!r}. The known keys are {known}."
        for key in entry
        if key not in KEYS
    ]


def missing_keys(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """A sentence if SERVER is missing; everything else has a default."""
    return [] if "SERVER" in entry else [f"{_where(alias)} needs SERVER, the dotted path of an MCP server."]


def wrong_values(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """A sentence for each value that does not fit its key."""
    given = {"NAMESPACE": alias, **entry}
    return [
        f"{_where(alias)}[{key!r}] {problem}"
        for key in KEYS
        if key in given and (problem := problem_with(key, given[key]))
    ]


def _where(alias: str) -> str:
    return f"MCP_SESSIONS[{alias!r}]"


def _entries() -> Mapping[str, Any]:
    entries = getattr(settings, "MCP_SESSIONS", {})
    if not isinstance(entries, Mapping):
        raise ImproperlyConfigured("MCP_SESSIONS must be a dictionary of endpoints, like CACHES.")
    return entries


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("MCP_SESSIONS", "CACHES"):
        endpoint.cache_clear()


setting_changed.connect(_forget, dispatch_uid="mcp_sessions.conf")
