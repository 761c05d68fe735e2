"""Who asks: the principal of a request, and whether its Host and Origin may ask at all."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components

from mcp_sessions.conf import Endpoint
from mcp_sessions.store.session import ANONYMOUS
from mcp_sessions.transport import rejections


def principal_of(user: Any) -> str:
    """The principal of what authentication left in the ASGI scope.

    A bearer token gives its issuer and subject, which outlive a refresh; without a subject, issuer and OAuth client.
    A Django user gives the primary key. Everybody else is anonymous, and that is a principal, too.
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
    """An origin that is listed, or the endpoint's own: same host, whatever the scheme that a proxy left."""
    text = origin.decode("latin-1")
    scheme, _, authority = text.partition("://")
    own = scheme in ("http", "https") and authority == host.decode("latin-1")
    return own or "*" in allowed or text in allowed
