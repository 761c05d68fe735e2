"""Who may use an endpoint: the Host and Origin of a request, its bearer token, and the principal behind it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http.request import split_domain_port, validate_host
from django.utils.module_loading import import_string
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    BearerAuthBackend,
    RequireAuthMiddleware,
)
from mcp.server.auth.provider import TokenVerifier, principal_components
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware

from mcp_sessions.conf import Endpoint
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.transport import rejections
from mcp_sessions.transport.asgi import Application


def rejection(headers: Mapping[bytes, bytes], conf: Endpoint) -> rejections.Rejection | None:
    """Why a request's Host or Origin is refused (Transports → Security Warning: DNS rebinding)."""
    host = headers.get(b"host", b"")
    if not host_allowed(host, tuple(settings.ALLOWED_HOSTS), settings.DEBUG):
        return rejections.BAD_HOST
    origin = headers.get(b"origin")
    if origin is not None and not origin_allowed(origin, host, tuple(conf.allowed_origins)):
        return rejections.BAD_ORIGIN
    return None


@lru_cache(maxsize=256)
def host_allowed(host: bytes, allowed: Sequence[str], debug: bool) -> bool:
    """Django's own rule for ALLOWED_HOSTS, with its exception for DEBUG."""
    if debug and not allowed:
        allowed = (".localhost", "127.0.0.1", "[::1]")
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, allowed)


@lru_cache(maxsize=256)
def origin_allowed(origin: bytes, host: bytes, allowed: Sequence[str]) -> bool:
    """An origin that is listed, or the endpoint's own: the same host, whatever scheme a proxy has left."""
    text = origin.decode("latin-1")
    scheme, _, authority = text.partition("://")
    own = scheme in ("http", "https") and authority == host.decode("latin-1")
    return own or "*" in allowed or text in allowed


def principal_of(user: Any) -> str:
    """The principal of the user that authentication left in the ASGI scope.

    For a bearer token that is its issuer and subject, which stay the same when it is refreshed; without a subject, its
    issuer and OAuth client. For a Django user it is the primary key. Everybody else is anonymous, which is a principal,
    too.
    """
    if user is None:
        return ANONYMOUS
    if isinstance(user, AuthenticatedUser):
        client_id, issuer, subject = principal_components(user.access_token)
        kind, name = ("oauth-client", client_id) if subject is None else ("oauth", subject)
        return f"{kind}:{json.dumps([issuer, name], separators=(',', ':'))}"
    if getattr(user, "is_authenticated", False) and getattr(user, "pk", None) is not None:
        return f"user:{user.pk}"
    return ANONYMOUS


def seconds_left(user: Any) -> float:
    """How long the token of a request is accepted from now on; infinity without a token, and if it does not expire.

    Until the end of the second in which it expires, as the SDK's own check: a client that comes back earlier would be
    let in with the same token.
    """
    expires_at = user.access_token.expires_at if isinstance(user, AuthenticatedUser) else None
    return max(0.0, expires_at + 1 - time.time()) if expires_at else inf


def bearer_authentication(conf: Endpoint) -> Callable[[Application], Application]:
    """The SDK's bearer authentication, to be put around an application.

    Raises: ImproperlyConfigured if a setting that it needs is missing.
    """
    oauth = _oauth(conf)
    resource = oauth.resource_server_url
    value: Any = import_string(_required(conf, "TOKEN_VERIFIER", conf.token_verifier))
    verifier: TokenVerifier = value() if isinstance(value, type) else value
    backend = BearerAuthBackend(
        verifier, resource_server_url=resource if oauth.validate_token_resource else None
    )
    metadata_url = None if resource is None else build_resource_metadata_url(resource)

    def authenticate(application: Application) -> Application:
        required = RequireAuthMiddleware(application, oauth.required_scopes or [], metadata_url)
        wrapped: Any = AuthenticationMiddleware(AuthContextMiddleware(required), backend=backend)
        return wrapped  # type: ignore[no-any-return]

    return authenticate


def resource_metadata(conf: Endpoint) -> Mapping[str, Starlette]:
    """The applications that serve the endpoint's protected resource metadata, by path (RFC 9728)."""
    oauth = _oauth(conf)
    if oauth.resource_server_url is None:
        return {}
    routes = create_protected_resource_routes(
        oauth.resource_server_url, [oauth.issuer_url], scopes_supported=oauth.required_scopes
    )
    return {route.path.lstrip("/"): Starlette(routes=[route]) for route in routes}


def _oauth(conf: Endpoint) -> AuthSettings:
    """The SDK's own settings: they keep URLs to the letter, as RFC 8414 compares them."""
    return AuthSettings(
        issuer_url=_required(conf, "ISSUER_URL", conf.issuer_url),  # type: ignore[arg-type] # parsed by pydantic
        resource_server_url=_required(conf, "RESOURCE_URL", conf.resource_url),  # type: ignore[arg-type]
        required_scopes=list(conf.required_scopes) or None,
        validate_token_resource=conf.validate_token_resource,
    )


def _required(conf: Endpoint, key: str, value: str | None) -> str:
    if not value:
        raise ImproperlyConfigured(
            f"MCP_SESSIONS[{conf.alias!r}] has TOKEN_VERIFIER and therefore needs {key}."
        )
    return value
