"""Checks of MCP_SESSIONS itself: its shape, its keys and values, and how they fit together."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.checks import Error, register
from django.core.checks import Warning as Advice

from mcp_sessions import conf
from mcp_sessions.checks.common import TAG, Apps, Found, endpoints, entries, message, names

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
    return _entry_errors("E003", conf.wrong_values, "docs/settings.md lists the type of every key.")


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
    """E009: an endpoint with TOKEN_VERIFIER also has ISSUER_URL and RESOURCE_URL."""
    return [
        message(
            Error,
            "E009",
            f"MCP_SESSIONS[{endpoint.alias!r}] has TOKEN_VERIFIER but no {key}.",
            "ISSUER_URL is the authorization server, RESOURCE_URL the public URL of this endpoint. Clients find "
            "both in the protected resource metadata (RFC 9728).",
        )
        for endpoint in endpoints()
        if endpoint.token_verifier
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


@register(TAG, deploy=True)
def check_authentication(app_configs: Apps, **_: Any) -> Found:
    """W006: outside DEBUG, requests are authenticated."""
    if settings.DEBUG:
        return []
    return [
        message(
            Advice,
            "W006",
            f"MCP_SESSIONS[{endpoint.alias!r}] has no TOKEN_VERIFIER: everybody who can reach {endpoint.path!r} "
            "may call its tools, and a session belongs to whoever knows its id.",
            "Set TOKEN_VERIFIER, ISSUER_URL and RESOURCE_URL. If a proxy in front of this endpoint authenticates, "
            "silence this check.",
        )
        for endpoint in endpoints()
        if endpoint.token_verifier is None
    ]
