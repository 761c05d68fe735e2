"""System checks of MCP_SESSIONS: one function and one id each. docs/checks.md says what to do about each.

Importing this module registers them under the tag "mcp_sessions". They look at settings and import what the settings
name; only the check of Redis itself, with `--deploy`, uses the network.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register
from django.core.checks import Warning as Advice
from django.utils.module_loading import import_string
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import InvalidRequestState, RequestStateBoundary
from mcp.shared.exceptions import MCPError

from mcp_sessions import caches, conf
from mcp_sessions.binding import load_server
from mcp_sessions.conf import Endpoint
from mcp_sessions.security import request_state_security
from mcp_sessions.store.clients import REDIS_ERRORS

TAG: Final = "mcp_sessions"
DOCS: Final = "https://github.com/mcp-sessions/mcp-sessions/blob/main/docs/checks.md"

Apps = Sequence[AppConfig] | None
Found = list[CheckMessage]


def _message(kind: type[Error | Advice | Info], number: str, text: str, hint: str) -> CheckMessage:
    return kind(text, hint=f"{hint} {DOCS}#{number.lower()}", id=f"{TAG}.{number}")


def _setting() -> Mapping[Any, Any]:
    """MCP_SESSIONS, empty when it is no dictionary: E001 says so, and the other checks need not."""
    entries = getattr(settings, "MCP_SESSIONS", {})
    return entries if isinstance(entries, Mapping) else {}


def _entries() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries that are dictionaries."""
    return ((alias, entry) for alias, entry in _setting().items() if isinstance(entry, Mapping))


def _endpoints() -> list[Endpoint]:
    """The entries without a mistake of their own; E001 to E004 speak about the others."""
    return [conf.endpoint(alias) for alias, entry in _entries() if not conf.entry_problems(alias, entry)]


def _names(aliases: Sequence[str]) -> str:
    return " and ".join(repr(alias) for alias in aliases)


@register(TAG)
def check_shape(app_configs: Apps, **_: Any) -> Found:
    """E001: MCP_SESSIONS is a dictionary of dictionaries."""
    entries = getattr(settings, "MCP_SESSIONS", {})
    hint = 'Write MCP_SESSIONS = {"default": {"SERVER": "shop.mcp.server"}}, one entry per endpoint.'
    if not isinstance(entries, Mapping):
        return [_message(Error, "E001", f"MCP_SESSIONS must be a dictionary, not {entries!r}.", hint)]
    return [
        _message(Error, "E001", f"MCP_SESSIONS[{alias!r}] must be a dictionary, not {entry!r}.", hint)
        for alias, entry in entries.items()
        if not isinstance(entry, Mapping)
    ]


def _entry_errors(number: str, problems: Callable[[str, Mapping[str, Any]], list[str]], hint: str) -> Found:
    return [
        _message(Error, number, problem, hint)
        for alias, entry in _entries()
        for problem in problems(alias, entry)
    ]


@register(TAG)
def check_keys(app_configs: Apps, **_: Any) -> Found:
    """E002: every key of an entry is known."""
    return _entry_errors("E002", conf.unknown_keys, "Correct the spelling, or remove the key.")


@register(TAG)
def check_values(app_configs: Apps, **_: Any) -> Found:
    """E003: every value is of its key's type."""
    return _entry_errors("E003", conf.wrong_values, "docs/settings.md has the type of every key.")


@register(TAG)
def check_server_named(app_configs: Apps, **_: Any) -> Found:
    """E004: every entry has SERVER."""
    return _entry_errors(
        "E004", conf.missing_keys, 'Name it by its dotted path: "SERVER": "shop.mcp.server".'
    )


@register(TAG)
def check_server(app_configs: Apps, **_: Any) -> Found:
    """E005: SERVER can be imported and is an MCP server, or a callable that returns one."""
    hint = (
        "SERVER is the dotted path of an mcp.server.MCPServer, of an mcp.server.lowlevel.Server, or of a callable "
        "without arguments that returns one."
    )
    return [
        _message(Error, "E005", f"MCP_SESSIONS[{endpoint.alias!r}]['SERVER']: {problem}", hint)
        for endpoint in _endpoints()
        if isinstance(problem := _server_or_problem(endpoint.server), str)
    ]


def _server_or_problem(path: str) -> MCPServer[Any] | Server[Any] | str:
    try:
        return load_server(path)
    except Exception as error:  # noqa: BLE001 - the module is the user's: importing it may raise anything
        return f"{path!r} gives no MCP server: {type(error).__name__}: {error}"


@register(TAG)
def check_paths(app_configs: Apps, **_: Any) -> Found:
    """E006: no two endpoints answer at one path."""
    by_path = defaultdict(list)
    for endpoint in _endpoints():
        by_path[endpoint.path].append(endpoint.alias)
    return [
        _message(
            Error,
            "E006",
            f"MCP_SESSIONS: {_names(aliases)} have the same PATH {path!r}; only the first would ever answer.",
            "Give each endpoint a PATH of its own. The default is 'mcp'.",
        )
        for path, aliases in by_path.items()
        if len(aliases) > 1
    ]


@register(TAG)
def check_namespaces(app_configs: Apps, **_: Any) -> Found:
    """E007: no two endpoints keep their sessions under the same keys."""
    by_keys = defaultdict(list)
    for endpoint in _endpoints():
        by_keys[(endpoint.namespace, caches.keyspace(endpoint.cache))].append(endpoint.alias)
    return [
        _message(
            Error,
            "E007",
            f"MCP_SESSIONS: {_names(aliases)} have the same NAMESPACE {namespace!r} on one cache: "
            "the sessions of one would be valid at the other.",
            "Give each endpoint a NAMESPACE of its own, or leave it out: the default is the entry's key.",
        )
        for (namespace, _keys), aliases in by_keys.items()
        if len(aliases) > 1
    ]


@register(TAG)
def check_token_verifier(app_configs: Apps, **_: Any) -> Found:
    """E008: TOKEN_VERIFIER can be imported and verifies tokens."""
    hint = "TOKEN_VERIFIER is the dotted path of a class or an instance with `async def verify_token(self, token)`."
    return [
        _message(Error, "E008", f"MCP_SESSIONS[{endpoint.alias!r}]['TOKEN_VERIFIER']: {problem}", hint)
        for endpoint in _endpoints()
        if endpoint.token_verifier and (problem := _verifier_problem(endpoint.token_verifier))
    ]


def _verifier_problem(path: str) -> str | None:
    try:
        verifier = import_string(path)
    except Exception as error:  # noqa: BLE001 - the module is the user's: importing it may raise anything
        return f"{path!r} cannot be imported: {type(error).__name__}: {error}"
    return (
        None if callable(getattr(verifier, "verify_token", None)) else f"{path!r} has no method verify_token."
    )


@register(TAG)
def check_token_metadata(app_configs: Apps, **_: Any) -> Found:
    """E009: an endpoint with TOKEN_VERIFIER says who issues its tokens, and for what."""
    return [
        _message(
            Error,
            "E009",
            f"MCP_SESSIONS[{endpoint.alias!r}] has TOKEN_VERIFIER, but no {key}.",
            "ISSUER_URL names the authorization server, RESOURCE_URL the public URL of this endpoint: clients find "
            "both in the protected resource metadata (RFC 9728).",
        )
        for endpoint in _endpoints()
        if endpoint.token_verifier
        for key in ("ISSUER_URL", "RESOURCE_URL")
        if not getattr(endpoint, conf.KEYS[key])
    ]


@register(TAG)
def check_cache(app_configs: Apps, **_: Any) -> Found:
    """W001: sessions live in Redis."""
    return [
        _message(
            Advice,
            "W001",
            f"MCP_SESSIONS[{endpoint.alias!r}]: the cache {endpoint.cache!r} is {caches.shortcoming(endpoint.cache)}, "
            "so the sessions live in the memory of one process: they are lost when it ends, other processes answer "
            "them with 404, and only the admin of that process lists them.",
            "Configure CACHES with django_redis.cache.RedisCache and name its alias in CACHE.",
        )
        for endpoint in _endpoints()
        if not caches.is_django_redis(endpoint.cache)
    ]


@register(TAG)
def check_idle_ttl(app_configs: Apps, **_: Any) -> Found:
    """W002: a session can become idle before it becomes too old."""
    return [
        _message(
            Advice,
            "W002",
            f"MCP_SESSIONS[{endpoint.alias!r}]: IDLE_TTL ({endpoint.idle_ttl:g} s) is longer than MAX_AGE "
            f"({endpoint.max_age:g} s), so IDLE_TTL never ends a session.",
            "Make IDLE_TTL shorter or MAX_AGE longer.",
        )
        for endpoint in _endpoints()
        if endpoint.idle_ttl > endpoint.max_age
    ]


@register(TAG)
def check_first_ttl(app_configs: Apps, **_: Any) -> Found:
    """W003: a session that nobody used does not outlive one that somebody used."""
    return [
        _message(
            Advice,
            "W003",
            f"MCP_SESSIONS[{endpoint.alias!r}]: FIRST_TTL ({endpoint.first_ttl:g} s) is longer than IDLE_TTL "
            f"({endpoint.idle_ttl:g} s): a session that was never used would outlive one that was.",
            "Make FIRST_TTL at most IDLE_TTL. It only bounds the time between initialize and the next message.",
        )
        for endpoint in _endpoints()
        if endpoint.first_ttl > endpoint.idle_ttl
    ]


@register(TAG)
def check_shared_database(app_configs: Apps, **_: Any) -> Found:
    """W004: no other cache can flush the sessions' database."""
    return [
        _message(
            Advice,
            "W004",
            f"MCP_SESSIONS[{endpoint.alias!r}] keeps its sessions in {database}, and so does the cache {other!r} "
            f"with its entries: caches[{other!r}].clear() is FLUSHDB there and ends every session.",
            "Give the sessions a database, or better a server, of their own.",
        )
        for endpoint in _endpoints()
        if caches.is_django_redis(endpoint.cache)
        for other in settings.CACHES
        if other != endpoint.cache
        for database in sorted(caches.databases(endpoint.cache) & caches.databases(other))
    ]


@register(TAG)
def check_request_state_keys(app_configs: Apps, **_: Any) -> Found:
    """W005: what one process seals for a client of the modern era, every other process can open."""
    return [
        _message(
            Advice,
            "W005",
            f"MCP_SESSIONS[{endpoint.alias!r}]: the request-state keys of {endpoint.server!r} do not come from "
            "SECRET_KEY. The SDK's default is a key of one process: a client of the modern era that answers a "
            "question would be refused by every other process, and after a restart.",
            "Build the server with MCPServer(..., request_state_security=mcp_sessions.security."
            "request_state_security()). If all processes share keys of your own, silence this check.",
        )
        for endpoint in _endpoints()
        if caches.is_django_redis(endpoint.cache)
        for boundary in _boundaries(endpoint.server)
        if not _opens_what_is_sealed_by(boundary)
    ]


def _boundaries(path: str) -> list[RequestStateBoundary]:
    server = _server_or_problem(path)
    layers = () if isinstance(server, str) else server.middleware
    return [layer for layer in layers if isinstance(layer, RequestStateBoundary)]


def _opens_what_is_sealed_by(boundary: RequestStateBoundary) -> bool:
    """Whether keys from SECRET_KEY open what the boundary seals. It does not show its keys, so have it seal."""
    context: Any = SimpleNamespace(method="tools/call", params={"name": "check"})

    async def ask(_: Any) -> dict[str, Any]:
        return {"resultType": "input_required", "requestState": "check"}

    try:
        sealed: Any = async_to_sync(boundary)(context, ask)
        request_state_security().codec.unseal(sealed["requestState"])
    except (InvalidRequestState, MCPError):
        return False
    return True


@register(TAG, deploy=True)
def check_authentication(app_configs: Apps, **_: Any) -> Found:
    """W006: outside DEBUG, requests are authenticated."""
    if settings.DEBUG:
        return []
    return [
        _message(
            Advice,
            "W006",
            f"MCP_SESSIONS[{endpoint.alias!r}] has no TOKEN_VERIFIER: everybody who reaches {endpoint.path!r} may "
            "call its tools, and whoever learns a session id has the session.",
            "Set TOKEN_VERIFIER, ISSUER_URL and RESOURCE_URL. If something in front of this endpoint authenticates, "
            "silence this check.",
        )
        for endpoint in _endpoints()
        if endpoint.token_verifier is None
    ]


@register(TAG, deploy=True)
def check_eviction(app_configs: Apps, **_: Any) -> Found:
    """W007: Redis does not drop sessions when its memory is full; I001 when it cannot be asked."""
    aliases = {endpoint.cache for endpoint in _endpoints() if caches.is_django_redis(endpoint.cache)}
    return [message for alias in sorted(aliases) for message in _eviction_messages(alias)]


def _eviction_messages(alias: str) -> Iterator[CheckMessage]:
    try:
        policies = caches.eviction_policies(alias)
    except REDIS_ERRORS as error:
        text = f"The Redis of the cache {alias!r} could not be asked for its maxmemory-policy: {type(error).__name__}."
        yield _message(Info, "I001", text, "Run `check --deploy` where Redis is reachable.")
        return
    for policy in sorted(policies - {"noeviction"}):
        yield _message(
            Advice,
            "W007",
            f"The Redis of the cache {alias!r} has maxmemory-policy {policy}: when its memory is full it drops "
            "sessions that are in use.",
            "Set maxmemory-policy to noeviction: then new sessions are refused with 503 and the others go on.",
        )
