"""Where requests over plain HTTP are sent, by the settings of Django's SecurityMiddleware."""

import re
from collections.abc import Mapping

from django.conf import settings

from mcp_sessions.http.access import host_allowed
from mcp_sessions.http.responses import respond
from mcp_sessions.transport.asgi import Scope, Send


def secure_url(scope: Scope) -> str | None:
    """Where a request over plain HTTP is sent; None if it may stay."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    path = scope["path"].lstrip("/")
    if (
        scheme(scope, headers) == "https"
        or any(re.search(pattern, path) for pattern in settings.SECURE_REDIRECT_EXEMPT)
        # Nobody is sent to a host that is not ours; the endpoint refuses these requests.
        or not host_allowed(host.encode("latin-1"), tuple(settings.ALLOWED_HOSTS), settings.DEBUG)
    ):
        return None
    query = scope.get("query_string", b"").decode("latin-1")
    return f"https://{settings.SECURE_SSL_HOST or host}/{path}{'?' if query else ''}{query}"


def scheme(scope: Scope, headers: Mapping[bytes, str]) -> str:
    """As Django's `HttpRequest.scheme`, which believes only a proxy that SECURE_PROXY_SSL_HEADER names."""
    if settings.SECURE_PROXY_SSL_HEADER:
        key, secure = settings.SECURE_PROXY_SSL_HEADER
        said = headers.get(key.removeprefix("HTTP_").replace("_", "-").lower().encode())
        if said is not None:
            return "https" if said.split(",")[0].strip() == secure else "http"
    return str(scope.get("scheme", "http"))


async def redirect(send: Send, url: str) -> None:
    """With 308, unlike Django's 301: a client repeats its POST as a POST."""
    await respond(send, 308, ((b"location", url.encode("latin-1")),))
