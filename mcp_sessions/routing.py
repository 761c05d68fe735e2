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
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware

from mcp_sessions.conf import Endpoint, aliases, endpoint
from mcp_sessions.consumer import MCPEndpoint
from mcp_sessions.guard import Application


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
    resource = AnyHttpUrl(_required(conf, "RESOURCE_URL", conf.resource_url))
    backend = BearerAuthBackend(
        _token_verifier(conf), resource_server_url=resource if conf.validate_token_resource else None
    )

    def authenticate(application: Application) -> Application:
        required = RequireAuthMiddleware(
            application, list(conf.required_scopes), build_resource_metadata_url(resource)
        )
        wrapped: Any = AuthenticationMiddleware(AuthContextMiddleware(required), backend=backend)
        return wrapped  # type: ignore[no-any-return]

    return authenticate


def _metadata(conf: Endpoint) -> list[URLPattern]:
    resource = AnyHttpUrl(_required(conf, "RESOURCE_URL", conf.resource_url))
    issuer = AnyHttpUrl(_required(conf, "ISSUER_URL", conf.issuer_url))
    routes = create_protected_resource_routes(
        resource, [issuer], scopes_supported=list(conf.required_scopes) or None
    )
    return [_route(rf"^{re.escape(route.path.lstrip('/'))}$", Starlette(routes=[route])) for route in routes]


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
