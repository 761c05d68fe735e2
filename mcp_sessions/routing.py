"""URL patterns for the endpoints in MCP_SESSIONS, for Channels' URLRouter."""

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, re_path

from mcp_sessions.authentication.loading import Wrap
from mcp_sessions.conf import Endpoint, aliases, endpoint
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.http.guard import Guard


def mcp_urlpatterns(*, authenticate: Wrap | Mapping[str, Wrap] | None = None) -> list[URLPattern]:
    """One pattern per endpoint, and one for the metadata of each endpoint whose clients need some (RFC 9728).

        application = ProtocolTypeRouter(
            {"http": URLRouter([*mcp_urlpatterns(), re_path("", get_asgi_application())])}
        )

    `authenticate` is put around each endpoint, or around those that it has as keys: an application of yours that leaves
    Django's user as `user` in the ASGI scope. Where AUTHENTICATION is set, too, its authenticators come first.

    Raises: ImproperlyConfigured for a setting that is wrong.
    """
    if isinstance(authenticate, Mapping) and (unknown := authenticate.keys() - set(aliases())):
        raise ImproperlyConfigured(f"MCP_SESSIONS has no endpoint {', '.join(map(repr, sorted(unknown)))}.")
    return [
        pattern
        for alias in aliases()
        for pattern in _patterns(
            endpoint(alias), authenticate.get(alias) if isinstance(authenticate, Mapping) else authenticate
        )
    ]


def _patterns(conf: Endpoint, authenticate: Wrap | None) -> list[URLPattern]:
    served = MCPEndpoint(conf.alias, authenticate=authenticate)
    metadata = {at: told for each in served.authenticators for at, told in each.metadata().items()}
    return [
        _route(rf"^{re.escape(conf.path)}/?$", Guard(served)),
        *(_route(rf"^{re.escape(at)}$", told) for at, told in metadata.items()),
    ]


def _route(pattern: str, application: Any) -> URLPattern:
    """`re_path` is typed for views; Channels puts ASGI applications in their place."""
    route: URLPattern = re_path(pattern, application)
    return route
