"""Checks of the MCP servers and token verifiers that MCP_SESSIONS names by dotted paths."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import Error, register
from django.core.checks import Warning as Advice
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mcp_sessions.authentication.loading import authenticators_for
from mcp_sessions.checks import caches
from mcp_sessions.checks.common import TAG, Apps, Found, endpoints, message
from mcp_sessions.conf import Endpoint
from mcp_sessions.conf.rules import HANDSHAKE
from mcp_sessions.documentation import page


@register(TAG)
def check_server(app_configs: Apps, **_: Any) -> Found:
    """E005: SERVER can be imported and is an MCP server, or a callable that returns one."""
    from mcp_sessions.checks import hosted

    hint = (
        "SERVER is the dotted path of an mcp.server.MCPServer, of an mcp.server.lowlevel.Server, of a FastMCP of "
        "fastmcp 4, or of a callable without arguments that returns one."
    )
    return [
        message(Error, "E005", f"MCP_SESSIONS[{endpoint.alias!r}]['SERVER']: {problem}", hint)
        for endpoint in endpoints()
        if (problem := hosted.problem(endpoint.server))
    ]


@register(TAG)
def check_token_verifier(app_configs: Apps, **_: Any) -> Found:
    """E008: TOKEN_VERIFIER can be imported and verifies tokens."""
    hint = "TOKEN_VERIFIER is the dotted path of a class or an instance with `async def verify_token(self, token)`."
    return [
        message(Error, "E008", f"MCP_SESSIONS[{endpoint.alias!r}]['TOKEN_VERIFIER']: {problem}", hint)
        for endpoint in endpoints()
        if endpoint.token_verifier and (problem := _verifier_problem(endpoint.token_verifier))
    ]


def _verifier_problem(path: str) -> str | None:
    try:
        verifier = import_string(path)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        return f"{path!r} cannot be imported: {type(error).__name__}: {error}"
    return (
        None if callable(getattr(verifier, "verify_token", None)) else f"{path!r} has no method verify_token."
    )


@register(TAG)
def check_authenticators(app_configs: Apps, **_: Any) -> Found:
    """E011: what AUTHENTICATION names can be imported, and has the settings and packages that it needs."""
    hint = f"What each authenticator needs: {page('authentication')}"
    return [
        message(Error, "E011", problem, hint)
        for endpoint in endpoints()
        if endpoint.authentication and (problem := _authentication_problem(endpoint))
    ]


def _authentication_problem(endpoint: Endpoint) -> str | None:
    try:
        authenticators_for(endpoint)
    except ImproperlyConfigured as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        return f"MCP_SESSIONS[{endpoint.alias!r}]['AUTHENTICATION']: {type(error).__name__}: {error}"
    return None


@register(TAG)
def check_middleware(app_configs: Apps, **_: Any) -> Found:
    """E021: what MIDDLEWARE names can be imported, and takes an ASGI application."""
    hint = "Name callables that take an ASGI application and return one, such as those in mcp_sessions.middleware."
    return [
        message(Error, "E021", problem, hint)
        for endpoint in endpoints()
        if endpoint.middleware and (problem := _middleware_problem(endpoint))
    ]


def _middleware_problem(endpoint: Endpoint) -> str | None:
    from mcp_sessions.http.middleware import with_middleware

    async def application(*_: Any) -> None:
        """In the place of the endpoint."""

    try:
        with_middleware(endpoint, application)
    except ImproperlyConfigured as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        return f"MCP_SESSIONS[{endpoint.alias!r}]['MIDDLEWARE']: {type(error).__name__}: {error}"
    return None


@register(TAG)
def check_subject_to_user(app_configs: Apps, **_: Any) -> Found:
    """E012: SUBJECT_TO_USER is a field of the user model, or can be imported and called."""
    hint = "Name a field, such as 'username', or the dotted path of a function of an issuer and a subject."
    return [
        message(Error, "E012", f"MCP_SESSIONS[{endpoint.alias!r}]['SUBJECT_TO_USER']: {problem}", hint)
        for endpoint in endpoints()
        if endpoint.subject_to_user and (problem := _mapping_problem(endpoint.subject_to_user))
    ]


def _mapping_problem(mapping: str) -> str | None:
    if "." not in mapping:
        names = {field.name for field in get_user_model()._meta.get_fields()}
        return None if mapping in names else f"the user model has no field {mapping!r}."
    try:
        found = import_string(mapping)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        return f"{mapping!r} cannot be imported: {type(error).__name__}: {error}"
    return None if callable(found) else f"{mapping!r} is not a function."


@register(TAG)
def check_request_state_keys(app_configs: Apps, **_: Any) -> Found:
    """W005: every process can open what another process sealed for a client of the modern era."""
    from mcp_sessions.checks import hosted

    return [
        message(
            Advice,
            "W005",
            f"MCP_SESSIONS[{endpoint.alias!r}]: the request-state keys of {endpoint.server!r} do not come from "
            "SECRET_KEY. By default, the SDK uses a key of one process: the answer of a client of the modern era "
            "to a request of the server would be refused by every other process, and after a restart.",
            "Give the MCPServer, or FastMCP, the argument request_state_security=mcp_sessions.security."
            "request_state_security(). If all processes share your own keys, silence this check.",
        )
        for endpoint in endpoints()
        if caches.is_django_redis(endpoint.cache) and hosted.has_keys_of_its_own(endpoint.server)
    ]


@register(TAG)
def check_subscriptions(app_configs: Apps, **_: Any) -> Found:
    """W008: what a server announces reaches the clients of every process."""
    from mcp_sessions.checks import hosted

    return [
        message(
            Advice,
            "W008",
            f"MCP_SESSIONS[{endpoint.alias!r}]: {endpoint.server!r} was built without "
            f"SharedSubscriptions({endpoint.alias!r}). What its handlers announce, such as a changed resource, "
            "reaches only clients of the same process, and none of the handshake era.",
            "Build the server with MCPServer(..., subscriptions=mcp_sessions.subscriptions."
            f"SharedSubscriptions({endpoint.alias!r})). If it announces nothing, silence this check.",
        )
        for endpoint in endpoints()
        if caches.is_django_redis(endpoint.cache)
        and hosted.announces_in_one_process(endpoint.server, endpoint.alias)
    ]


@register(TAG)
def check_opt_in_tools(app_configs: Apps, **_: Any) -> Found:
    """W011: a server with opt-in tools serves the era that has sessions."""
    from mcp_sessions.checks import hosted

    return [
        message(
            Advice,
            "W011",
            f"MCP_SESSIONS[{endpoint.alias!r}]: ERAS is {list(endpoint.eras)!r}, so there are no sessions, and no "
            f"client can enable an opt-in tool of {endpoint.server!r}: {', '.join(sorted(tools))}.",
            "Add 'handshake' to ERAS, or register these tools as ordinary ones.",
        )
        for endpoint in endpoints()
        if HANDSHAKE not in endpoint.eras and (tools := hosted.opt_in_tools(endpoint.server))
    ]
