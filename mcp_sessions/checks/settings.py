"""Checks of MCP_SESSIONS itself: its shape, its keys and values, and how they fit together."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.core.checks import Error, register
from django.core.checks import Warning as Advice

from mcp_sessions import conf
from mcp_sessions.authentication.loading import names_for, requires_user
from mcp_sessions.checks.common import TAG, Apps, Found, endpoints, entries, message, names
from mcp_sessions.conf import Endpoint
from mcp_sessions.conf.rates import ADDRESS
from mcp_sessions.documentation import page

#: Within so many seconds a client that resumes its stream is told that its process was killed.
LOST_SECONDS: Final = 30
#: Seconds of silence after which a stream sends a comment, so that proxies do not cut it.
SILENCE_SECONDS: Final = 15
SHORTEST_RETRY: Final = 0.1
_EXAMPLE: Final = 'Write MCP_SESSIONS = {"default": {"SERVER": "shop.mcp.server"}}, one entry per endpoint.'


@register(TAG)
def check_shape(app_configs: Apps, **_: Any) -> Found:
    """E001: MCP_SESSIONS is a dictionary of dictionaries."""
    value = getattr(settings, "MCP_SESSIONS", {})
    if not isinstance(value, Mapping):
        return [message(Error, "E001", f"MCP_SESSIONS must be a dictionary, not {value!r}.", _EXAMPLE)]
    return [
        message(Error, "E001", f"MCP_SESSIONS[{alias!r}] must be a dictionary, not {entry!r}.", _EXAMPLE)
        for alias, entry in value.items()
        if not isinstance(entry, Mapping)
    ]


@register(TAG)
def check_any(app_configs: Apps, **_: Any) -> Found:
    """W009: MCP_SESSIONS has at least one entry."""
    if getattr(settings, "MCP_SESSIONS", {}) != {}:
        return []
    return [message(Advice, "W009", "MCP_SESSIONS is missing or empty: there is no endpoint.", _EXAMPLE)]


def _entry_errors(number: str, problems: Callable[[str, Mapping[str, Any]], list[str]], hint: str) -> Found:
    return [
        message(Error, number, problem, hint)
        for alias, entry in entries()
        for problem in problems(alias, entry)
    ]


@register(TAG)
def check_keys(app_configs: Apps, **_: Any) -> Found:
    """E002: every key of an entry is known."""
    return _entry_errors("E002", conf.unknown_keys, "Correct the spelling, or remove the key.")


@register(TAG)
def check_values(app_configs: Apps, **_: Any) -> Found:
    """E003: every value fits its key."""
    return _entry_errors(
        "E003", conf.wrong_values, f"The type of every key: {page('settings', 'the-keys-of-an-endpoint')}"
    )


@register(TAG)
def check_server_named(app_configs: Apps, **_: Any) -> Found:
    """E004: every entry has SERVER."""
    return _entry_errors(
        "E004", conf.missing_keys, 'Name the server by its dotted path: "SERVER": "shop.mcp.server".'
    )


@register(TAG)
def check_paths(app_configs: Apps, **_: Any) -> Found:
    """E006: no two endpoints have the same path."""
    by_path = defaultdict(list)
    for endpoint in endpoints():
        by_path[endpoint.path].append(endpoint.alias)
    return [
        message(
            Error,
            "E006",
            f"MCP_SESSIONS: {names(aliases)} have the same PATH {path!r}; only the first would ever answer.",
            "Give each endpoint its own PATH. The default is 'mcp'.",
        )
        for path, aliases in by_path.items()
        if len(aliases) > 1
    ]


@register(TAG)
def check_token_metadata(app_configs: Apps, **_: Any) -> Found:
    """E009: an endpoint whose clients get tokens elsewhere has ISSUER_URL and RESOURCE_URL."""
    return [
        message(
            Error,
            "E009",
            f"MCP_SESSIONS[{endpoint.alias!r}] authenticates by {name} but has no {key}.",
            "ISSUER_URL is the authorization server, RESOURCE_URL the public URL of this endpoint. Clients find "
            "both in the protected resource metadata (RFC 9728).",
        )
        for endpoint in endpoints()
        for name in ("token", "jwks", "oauth-toolkit")
        if name in names_for(endpoint)
        for key in ("ISSUER_URL", "RESOURCE_URL")
        if not getattr(endpoint, conf.KEYS[key])
    ]


@register(TAG)
def check_idle_ttl(app_configs: Apps, **_: Any) -> Found:
    """W002: a session can become idle before it reaches its maximum age."""
    return [
        message(
            Advice,
            "W002",
            f"MCP_SESSIONS[{endpoint.alias!r}]: IDLE_TTL ({endpoint.idle_ttl:g} s) is longer than MAX_AGE "
            f"({endpoint.max_age:g} s), so IDLE_TTL never ends a session.",
            "Make IDLE_TTL shorter or MAX_AGE longer.",
        )
        for endpoint in endpoints()
        if endpoint.idle_ttl > endpoint.max_age
    ]


@register(TAG)
def check_first_ttl(app_configs: Apps, **_: Any) -> Found:
    """W003: a session that was never used does not outlive one that was."""
    return [
        message(
            Advice,
            "W003",
            f"MCP_SESSIONS[{endpoint.alias!r}]: FIRST_TTL ({endpoint.first_ttl:g} s) is longer than IDLE_TTL "
            f"({endpoint.idle_ttl:g} s): a session that was never used would outlive one that was.",
            "Make FIRST_TTL at most IDLE_TTL. It limits only the time between initialize and the next message.",
        )
        for endpoint in endpoints()
        if endpoint.first_ttl > endpoint.idle_ttl
    ]


#: When a value breaks what docs/guarantees.md says, the keys that it concerns, and what breaks.
_BROKEN: Final[Sequence[tuple[Callable[[Endpoint], bool], str, str]]] = (
    (
        lambda endpoint: endpoint.stream_ttl < LOST_SECONDS,
        "STREAM_TTL",
        f"is shorter than {LOST_SECONDS} s: the log of a stream may be gone before its client learns that its process "
        "was killed",
    ),
    (
        lambda endpoint: endpoint.response == "auto" and endpoint.grace > SILENCE_SECONDS,
        "GRACE",
        f"is longer than {SILENCE_SECONDS} s: nothing is sent for so long, and proxies may cut the connection",
    ),
    (
        lambda endpoint: endpoint.retry < SHORTEST_RETRY,
        "RETRY",
        f"is shorter than {SHORTEST_RETRY} s: clients whose streams were closed come back all at once",
    ),
    (
        lambda endpoint: endpoint.stream_max_age < SILENCE_SECONDS,
        "STREAM_MAX_AGE",
        f"is shorter than {SILENCE_SECONDS} s: clients that listen do little else than reconnect",
    ),
    (
        lambda endpoint: endpoint.max_requests_per_session > endpoint.max_requests,
        "MAX_REQUESTS_PER_SESSION",
        "is larger than MAX_REQUESTS: one session may take every place of a process",
    ),
    (
        lambda endpoint: endpoint.max_streams_per_session > endpoint.max_streams,
        "MAX_STREAMS_PER_SESSION",
        "is larger than MAX_STREAMS: one session may take every place of a process",
    ),
    (
        lambda endpoint: (endpoint.max_sessions_per_principal or 0) > (endpoint.max_sessions or math.inf),
        "MAX_SESSIONS_PER_PRINCIPAL",
        "is larger than MAX_SESSIONS: one principal may take every place of the endpoint",
    ),
)


@register(TAG)
def check_promises(app_configs: Apps, **_: Any) -> Found:
    """W010: no value breaks what docs/guarantees.md says."""
    return [
        message(
            Advice,
            "W010",
            f"MCP_SESSIONS[{endpoint.alias!r}]: {key} ({getattr(endpoint, conf.KEYS[key]):g}) {problem}.",
            "Change the value, or silence this check if the endpoint does not need what it breaks.",
        )
        for endpoint in endpoints()
        for is_broken, key, problem in _BROKEN
        if is_broken(endpoint)
    ]


@register(TAG, deploy=True)
def check_authentication(app_configs: Apps, **_: Any) -> Found:
    """W006: outside DEBUG, anonymous requests are refused."""
    if settings.DEBUG:
        return []
    return [
        message(
            Advice,
            "W006",
            f"MCP_SESSIONS[{endpoint.alias!r}] {_admits(endpoint)}: everybody who can reach {endpoint.path!r} may call "
            "its tools, and an anonymous session belongs to whoever knows its id.",
            "Set AUTHENTICATION. This check reads settings only. It sees neither mcp_urlpatterns(authenticate=...) in "
            "asgi.py, nor a proxy in front: with the first, REQUIRE_USER = True refuses whom it lets through without a "
            "user; with the second, AUTHENTICATION = ['proxy'] tells this endpoint who the user is.",
        )
        for endpoint in endpoints()
        if not requires_user(endpoint)
    ]


@register(TAG, deploy=True)
def check_hosts(app_configs: Apps, **_: Any) -> Found:
    """W031: ALLOWED_HOSTS names the hosts of the endpoints."""
    if "*" not in settings.ALLOWED_HOSTS or not endpoints():
        return []
    text = (
        "ALLOWED_HOSTS is ['*']: whoever has a name of their own lead here can have browsers send requests to the "
        "endpoints under that name (DNS rebinding). So pages are let in only if ALLOWED_ORIGINS has their origin, also "
        "those of this site."
    )
    return [message(Advice, "W031", text, "Name the hosts of this site in ALLOWED_HOSTS.")]


@register(TAG, deploy=True)
def check_addresses(app_configs: Apps, **_: Any) -> Found:
    """W032: Limits for each address count the addresses of clients."""
    told = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
    proxied = next((name for name in told if getattr(settings, name)), None)
    if proxied is None:
        return []
    return [
        message(
            Advice,
            "W032",
            f"MCP_SESSIONS[{endpoint.alias!r}] has the limit of {limit}, and {proxied} says that there is a proxy in "
            "front, but TRUSTED_PROXIES is empty: all clients have the proxy's address, and share one limit.",
            "Name the addresses or networks of the proxies in TRUSTED_PROXIES.",
        )
        for endpoint in endpoints()
        for limit in [
            limit for limits in endpoint.rates.values() for limit in limits if limit.whom == ADDRESS
        ][:1]
        if not endpoint.trusted_proxies
    ]


def _admits(endpoint: Endpoint) -> str:
    return "has REQUIRE_USER = False" if endpoint.require_user is False else "has no AUTHENTICATION"
