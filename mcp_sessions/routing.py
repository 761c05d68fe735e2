"""URL patterns for the endpoints in MCP_SESSIONS, for Channels' URLRouter."""

import re
from typing import Any

from django.urls import URLPattern, re_path

from mcp_sessions.conf import Endpoint, aliases, endpoint
from mcp_sessions.http.access import bearer_authentication, resource_metadata
from mcp_sessions.http.endpoint import MCPEndpoint


def mcp_urlpatterns() -> list[URLPattern]:
    """One pattern per endpoint, and one for the metadata of each endpoint that authenticates (RFC 9728).

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
    application = MCPEndpoint.as_asgi(conf.alias, authenticate=bearer_authentication(conf))
    metadata = [_route(rf"^{re.escape(at)}$", served) for at, served in resource_metadata(conf).items()]
    return [_route(path, application), *metadata]


def _route(pattern: str, application: Any) -> URLPattern:
    """`re_path` is typed for views; Channels puts ASGI applications in their place."""
    route: URLPattern = re_path(pattern, application)
    return route
