"""HTTPSRedirect: what `with_mcp` does with SECURE_SSL_REDIRECT, for projects that route HTTP themselves."""

import pytest
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import re_path

from mcp_sessions import routing
from mcp_sessions.routing import mcp_urlpatterns
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from tests.checks.configurations import entry, found, ids, only
from tests.routing.test_routing import django, post
from tests.support.asgi import endpoint

REDIRECT = "mcp_sessions.middleware.HTTPSRedirect"


def router() -> Application:
    made: Application = URLRouter([*mcp_urlpatterns(), re_path("", django)])  # type: ignore[arg-type] # no views
    return made


def telling_the_scheme(_: Application) -> Application:
    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    return middleware


async def test_plain_http_is_redirected_where_django_redirects() -> None:
    with endpoint(MIDDLEWARE=[REDIRECT]):
        site = router()
        assert (await post(site, "http://testserver/mcp")).status_code == 200
        with override_settings(SECURE_SSL_REDIRECT=True):
            redirected = await post(site, "http://testserver/mcp?a=1")
            where = redirected.headers["location"]
            assert (redirected.status_code, where) == (308, "https://testserver/mcp?a=1")
            assert (await post(site, "https://testserver/mcp")).status_code == 200
            assert (await post(site, "http://evil.example/mcp")).status_code == 421


@pytest.mark.parametrize("said", ["https", "http"])
async def test_what_is_inside_sees_the_scheme_of_the_client(said: str) -> None:
    inside = [REDIRECT, "tests.middleware.test_https_redirect.telling_the_scheme"]
    with endpoint(MIDDLEWARE=inside):
        assert (await post(router(), "http://testserver/mcp", x_forwarded_proto=said)).text == "http"
        with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
            assert (await post(router(), "http://testserver/mcp", x_forwarded_proto=said)).text == said


def test_the_check_warns_of_the_endpoints_that_lack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "used", {"mcp_urlpatterns"})
    redirected = entry(MIDDLEWARE=[REDIRECT])
    assert ids(found({"default": redirected}, SECURE_SSL_REDIRECT=True)) == set()
    both = {"default": redirected, "other": entry(PATH="other")}
    message = only(found(both, SECURE_SSL_REDIRECT=True), "W023")
    assert "does not apply to 'other' in MCP_SESSIONS" in message.msg
