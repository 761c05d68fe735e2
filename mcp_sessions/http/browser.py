"""The page for people who open the URL of an endpoint in a browser."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.http import HttpRequest
from django.template import TemplateDoesNotExist
from django.template.backends.django import DjangoTemplates
from django.template.loader import get_template
from django.utils import translation

from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.loading import requires_user
from mcp_sessions.conf import Endpoint
from mcp_sessions.http.headers import PROTOCOL_VERSION, SESSION_ID
from mcp_sessions.http.secure import scheme
from mcp_sessions.transport.asgi import Scope, Send

_TEMPLATE: Final = "mcp_sessions/endpoint.html"
_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"vary", b"accept, accept-language"),
    # A template of the project's own may bring its styles along, and no script.
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline' 'self'; img-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def wants_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a GET comes from the address bar of a browser, and from no client that wants a stream."""
    accept = headers.get(b"accept", b"").lower()
    is_client = b"text/event-stream" in accept or SESSION_ID in headers or PROTOCOL_VERSION in headers
    return b"text/html" in accept and not is_client


async def send_page(
    send: Send, scope: Scope, conf: Endpoint, authenticators: Sequence[Authenticator]
) -> None:
    """Say what this URL is, how to connect, and how to authenticate if one must, in a language of the browser's."""
    asked = authenticators if requires_user(conf) else ()
    name = conf.namespace if conf.alias == "default" else conf.alias
    with translation.override(_language(scope)):
        advice = [each.translated_advice() for each in asked if each.advice]
        context = {"url": conf.resource_url or _url(scope), "name": name, "advice": advice}
        body = _template().render(context).encode()
    headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _language(scope: Scope) -> str:
    """The language of the project's LANGUAGES that the browser likes best."""
    request = HttpRequest()
    for name, value in scope["headers"]:
        if name == b"accept-language":
            request.META["HTTP_ACCEPT_LANGUAGE"] = value.decode("latin-1")
    return translation.get_language_from_request(request)


def _url(scope: Scope) -> str:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    return f"{scheme(scope, headers)}://{headers[b'host']}{scope['path']}"


def _template() -> Any:
    """That of the project, or ours in a project whose TEMPLATES do not look into apps."""
    try:
        return get_template(_TEMPLATE)
    except TemplateDoesNotExist:
        own = {"NAME": "mcp_sessions", "DIRS": [], "APP_DIRS": True, "OPTIONS": {}}
        return DjangoTemplates(own).get_template(_TEMPLATE)
