"""URL patterns for the endpoints in MCP_SESSIONS, for Channels' URLRouter."""

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, re_path
from django.utils.module_loading import import_string
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware

from mcp_sessions.conf import Endpoint, aliases, endpoint
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.transport.asgi import Application


def mcp_urlpatterns() -> list[URLPattern]:
    """One pattern an endpoint, and one for the metadata of each endpoint that authenticates (RFC 9728).

        application = ProtocolTypeRouter(
            {"http": URLRouter([*mcp_urlpatterns(), re_path("", get_asgi_application())])}
        )

    Raises: ImproperlyConfigured for a setting that is wrong.
    """
    return [pattern for alias in aliases() for pattern in _patterns(endpoint(alias))]


def _patterns(conf: Endpoint) -> list[URLPattern]:
    path = rf"^{re.escape(conf.path)}/?$"
    if conf.token_verifier is None:
        return [_route(path, MCPEndpoint.as_asgi(conf.alias))]
    return [_route(path, MCPEndpoint.as_asgi(conf.alias, authenticate=_bearer(conf))), *_metadata(conf)]


def _route(pattern: str, application: Any) -> URLPattern:
    """`re_path` is typed for views; Channels puts ASGI applications in their place."""
    route: URLPattern = re_path(pattern, application)
    return route


def _bearer(conf: Endpoint) -> Callable[[Application], Application]:
    """The SDK's bearer authentication around an application."""
    oauth = _oauth(conf)
    resource = oauth.resource_server_url if oauth.validate_token_resource else None
    backend = BearerAuthBackend(_token_verifier(conf), resource_server_url=resource)

    def authenticate(application: Application) -> Application:
        required = RequireAuthMiddleware(application, oauth.required_scopes or [], _metadata_url(oauth))
        wrapped: Any = AuthenticationMiddleware(AuthContextMiddleware(required), backend=backend)
        return wrapped  # type: ignore[no-any-return]

    return authenticate


def _metadata_url(oauth: AuthSettings) -> AnyHttpUrl | None:
    return (
        None if oauth.resource_server_url is None else build_resource_metadata_url(oauth.resource_server_url)
    )


def _metadata(conf: Endpoint) -> list[URLPattern]:
    oauth = _oauth(conf)
    if oauth.resource_server_url is None:
        return []
    routes = create_protected_resource_routes(
        oauth.resource_server_url, [oauth.issuer_url], scopes_supported=oauth.required_scopes
    )
    return [_route(rf"^{re.escape(route.path.lstrip('/'))}$", Starlette(routes=[route])) for route in routes]


def _oauth(conf: Endpoint) -> AuthSettings:
    """The SDK's own settings: they keep URLs to the letter, as RFC 8414 compares them."""
    return AuthSettings(
        issuer_url=_required(conf, "ISSUER_URL", conf.issuer_url),  # type: ignore[arg-type] # parsed by pydantic
        resource_server_url=_required(conf, "RESOURCE_URL", conf.resource_url),  # type: ignore[arg-type]
        required_scopes=list(conf.required_scopes) or None,
        validate_token_resource=conf.validate_token_resource,
    )


def _token_verifier(conf: Endpoint) -> TokenVerifier:
    value: Any = import_string(_required(conf, "TOKEN_VERIFIER", conf.token_verifier))
    verifier: TokenVerifier = value() if isinstance(value, type) else value
    return verifier


def _required(conf: Endpoint, key: str, value: str | None) -> str:
    if not value:
        raise ImproperlyConfigured(
            f"MCP_SESSIONS[{conf.alias!r}] has TOKEN_VERIFIER and therefore needs {key}."
        )
    return value
