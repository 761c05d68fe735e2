"""From where an endpoint may be used: the Host and Origin of a request."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from mcp_sessions.conf import Endpoint
from mcp_sessions.transport import rejections


def rejection(headers: Mapping[bytes, bytes], conf: Endpoint) -> rejections.Rejection | None:
    """Why a request's Host or Origin is refused (Transports → Security Warning: DNS rebinding)."""
    host, hosts = headers.get(b"host", b""), tuple(settings.ALLOWED_HOSTS)
    if not host_allowed(host, hosts, settings.DEBUG):
        return rejections.BAD_HOST
    origin = headers.get(b"origin")
    if origin is not None and not origin_allowed(origin, host, hosts, tuple(conf.allowed_origins)):
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
def origin_allowed(origin: bytes, host: bytes, hosts: Sequence[str], allowed: Sequence[str]) -> bool:
    """An origin that is listed, or the endpoint's own: the same host, whatever scheme a proxy has left.

    `hosts` is ALLOWED_HOSTS. Where any host is allowed, the one in the request proves nothing: a page that has made its
    own name lead here sends it, too. Then only listed origins are allowed.
    """
    text = origin.decode("latin-1")
    scheme, _, authority = text.partition("://")
    own = "*" not in hosts and scheme in ("http", "https") and authority == host.decode("latin-1")
    return own or "*" in allowed or text in allowed
