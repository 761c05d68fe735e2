"""Puts the endpoints of MCP_SESSIONS beside Django: as one ASGI application, or as patterns for Channels' URLRouter."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, re_path

from mcp_sessions.authentication.loading import Wrap
from mcp_sessions.conf import Endpoint, aliases, endpoint
from mcp_sessions.documentation import page
from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.http.middleware import guarded
from mcp_sessions.http.secure import redirect, secure_url
from mcp_sessions.lifecycle import lifespan
from mcp_sessions.sdk.server import import_server
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send

#: What is put around endpoints: around all, or around those that are named.
Authenticate = Wrap | Mapping[str, Wrap] | None
#: The names of the functions below that were called: what `checks` knows of a project's `asgi.py`.
used: Final[set[str]] = set()


def with_mcp(
    application: Callable[..., Any],
    *,
    websocket: Callable[..., Any] | None = None,
    authenticate: Authenticate = None,
) -> Application:
    """The endpoints, and `application` for every other path; usually what `get_asgi_application()` returns.

        application = with_mcp(get_asgi_application())

    The endpoints are found below FORCE_SCRIPT_NAME and the server's root path, whether the proxy in front has removed
    that from the path or not. With SECURE_SSL_REDIRECT, requests over plain HTTP are redirected. ASGI lifespan is
    answered. WebSockets go to `websocket`; without it they are refused with 403.

    `authenticate` is put around each endpoint, or around those that it has as keys: an application of yours that leaves
    Django's user as `user` in the ASGI scope. Where AUTHENTICATION is set, too, its authenticators come first.

    Raises: ImproperlyConfigured for a setting that is wrong, a SERVER or MIDDLEWARE that cannot be imported among them.
    """
    used.add("with_mcp")
    return _Site(endpoints=applications(authenticate), other=application, websocket=websocket or _refuse)


def mcp_urlpatterns(*, authenticate: Authenticate = None) -> list[URLPattern]:
    """One pattern per endpoint, and one for the metadata of each endpoint whose clients need some (RFC 9728).

    For a URLRouter of your own. Unlike `with_mcp`, patterns know nothing of prefixes and of SECURE_SSL_REDIRECT.

    `authenticate` is that of `with_mcp`.

    Raises: as `with_mcp`.
    """
    used.add("mcp_urlpatterns")
    # Channels puts ASGI applications in the place of views.
    return [re_path(rf"^{re.escape(path)}/?$", served) for path, served in applications(authenticate).items()]  # type: ignore[arg-type]


def applications(authenticate: Authenticate = None) -> dict[str, Application]:
    """What answers at each path, written without slashes around it. Raises: as `with_mcp`."""
    if isinstance(authenticate, Mapping) and (unknown := authenticate.keys() - set(aliases())):
        raise ImproperlyConfigured(f"MCP_SESSIONS has no endpoint {', '.join(map(repr, sorted(unknown)))}.")
    found: dict[str, Application] = {}
    for conf in map(endpoint, aliases()):
        _import_server(conf)
        around = authenticate.get(conf.alias) if isinstance(authenticate, Mapping) else authenticate
        served = MCPEndpoint(conf.alias, authenticate=around)
        found[conf.path] = guarded(conf, served)
        for each in served.authenticators:
            found |= each.metadata()
    return found


def _import_server(conf: Endpoint) -> None:
    """A server that cannot be imported ends the process when it starts, and not each request with 500."""
    try:
        import_server(conf.server)
    except (ImportError, TypeError) as error:
        raise ImproperlyConfigured(
            f"MCP_SESSIONS[{conf.alias!r}]['SERVER']: {conf.server!r} cannot be imported: {error} "
            f"({page('checks', 'e005')})"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """The ASGI application that `with_mcp` makes."""

    endpoints: Mapping[str, Application]
    other: Application
    websocket: Application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                prefix = (settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")).rstrip("/")
                if prefix:
                    scope = _with_prefix(scope, prefix)
                served = self.endpoints.get(scope["path"][len(prefix) :].strip("/"))
                if served is not None and settings.SECURE_SSL_REDIRECT and (url := secure_url(scope)):
                    return await redirect(send, url)
                await (served or self.other)(scope, receive, send)
            case "websocket":
                await self.websocket(scope, receive, send)
            case "lifespan":
                await lifespan(scope, receive, send)
            case kind:
                raise ValueError(f"There is no application for ASGI scopes of the type {kind!r}.")


def _with_prefix(scope: Scope, prefix: str) -> Scope:
    """The scope as the ASGI specification has it: its path begins with its root path.

    uvicorn puts `--root-path` before each path. daphne leaves the path as the proxy sent it.
    """
    path = scope["path"]
    inside = path == prefix or path.startswith(f"{prefix}/")
    return {**scope, "root_path": prefix, "path": path if inside else prefix + path}


async def _refuse(_: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is accepted, which servers answer with 403."""
    await receive()
    await send({"type": "websocket.close"})
