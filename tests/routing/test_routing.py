"""`with_mcp` and `mcp_urlpatterns`: what goes where, what is redirected, and what is said of a wrong SERVER."""

import re
from typing import Any

import httpx2
import pytest
from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import re_path
from pytest_django import Settings

from mcp_sessions.routing import mcp_urlpatterns, with_mcp
from mcp_sessions.testing import serving
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send
from tests.support.asgi import endpoint
from tests.support.mcp_client import RawClient


async def django(scope: Scope, receive: Receive, send: Send) -> None:
    """In the place of Django: says which path arrived."""
    headers = [(b"x-path", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def post(application: Application, url: str, **headers: str) -> httpx2.Response:
    """The answer to `initialize`."""
    client = RawClient()
    transport = httpx2.ASGITransport(application)
    async with serving(), httpx2.AsyncClient(transport=transport) as http:
        return await http.post(url, json=client.initialize_message(), headers=client.headers(**headers))


async def test_the_endpoint_answers_with_and_without_a_slash_and_django_everything_else() -> None:
    with endpoint(PATH="tools/mcp"):
        site = with_mcp(django)
        for path in ("tools/mcp", "tools/mcp/"):
            assert (await post(site, f"http://testserver/{path}")).status_code == 200
        for path in ("/", "/mcp", "/tools/mcp/x", "/x/tools/mcp"):
            assert (await post(site, f"http://testserver{path}")).headers["x-path"] == path


async def test_patterns_serve_the_same_in_a_router_of_ones_own() -> None:
    with endpoint(PATH="tools/mcp"):
        router = URLRouter([*mcp_urlpatterns(), re_path("", django)])  # type: ignore[arg-type] # not a view
        for path in ("tools/mcp", "tools/mcp/"):
            assert (await post(router, f"http://testserver/{path}")).status_code == 200
        assert (await post(router, "http://testserver/mcp")).status_code == 404


@pytest.mark.parametrize("make", [lambda: with_mcp(django), mcp_urlpatterns])
@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("project.mcp.sever", 'Module "project.mcp" does not define a "sever"'),
        ("project.no_such_module.server", "No module named 'project.no_such_module'"),
        ("tests.settings.CACHES", "is dict, neither an MCPServer,"),
        (
            "mcp_sessions.handles.record.duration",
            "no callable that returns a server: missing a required argument",
        ),
        ("mcp_sessions.handles.record.check", "no callable that returns a server: it is async"),
    ],
)
def test_a_server_that_cannot_be_imported_stops_the_start(make: Any, server: str, reason: str) -> None:
    said = re.escape(f"MCP_SESSIONS['default']['SERVER']: {server!r} cannot be imported: ") + ".*" + reason
    with endpoint(SERVER=server), pytest.raises(ImproperlyConfigured, match=said):
        make()


async def test_plain_http_is_redirected_as_django_does_with_its_pages(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    with endpoint():
        site = with_mcp(django)
        redirected = await post(site, "http://testserver/mcp?a=1")
        assert (redirected.status_code, redirected.headers["location"]) == (308, "https://testserver/mcp?a=1")
        assert (await post(site, "https://testserver/mcp")).status_code == 200
        assert (await post(site, "http://testserver/other")).headers["x-path"] == "/other"
        # Nobody is sent to a host that is not ours.
        assert (await post(site, "http://evil.example/mcp")).status_code == 421

        settings.SECURE_SSL_HOST = "shop.example.com"
        redirected = await post(site, "http://testserver/mcp")
        assert redirected.headers["location"] == "https://shop.example.com/mcp"

        settings.SECURE_REDIRECT_EXEMPT = ["^mcp$"]
        assert (await post(site, "http://testserver/mcp")).status_code == 200


async def test_a_proxy_that_speaks_https_is_believed_if_django_is_told_to(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    with endpoint():
        site, proto = with_mcp(django), {"x_forwarded_proto": "https, http"}
        assert (await post(site, "http://testserver/mcp", **proto)).status_code == 308
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        assert (await post(site, "http://testserver/mcp", **proto)).status_code == 200
        assert (await post(site, "https://testserver/mcp", x_forwarded_proto="http")).status_code == 308


async def test_the_redirect_keeps_the_prefix(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT, settings.FORCE_SCRIPT_NAME = True, "/app/"
    with endpoint():
        for path in ("/mcp", "/app/mcp"):
            redirected = await post(with_mcp(django), f"http://testserver{path}")
            assert redirected.headers["location"] == "https://testserver/app/mcp"
        other = await post(with_mcp(django), "http://testserver/appendix")
    assert other.headers["x-path"] == "/app/appendix"


@pytest.mark.parametrize(
    ("path", "arrives"),
    [("/app", "/app"), ("/app/", "/app/"), ("/application", "/app/application"), ("/", "/app/")],
)
async def test_a_path_is_below_the_prefix_for_django_too(path: str, arrives: str) -> None:
    with endpoint():
        transport = httpx2.ASGITransport(with_mcp(django), root_path="/app/")
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
            assert (await http.get(path)).headers["x-path"] == arrives


def wrapped(application: Application) -> Application:
    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return around


@pytest.mark.parametrize(
    ("authenticate", "statuses"),
    [(None, [200, 200]), (wrapped, [418, 418]), ({"other": wrapped}, [200, 418]), ({}, [200, 200])],
)
async def test_authentication_is_put_around_all_endpoints_or_those_that_are_named(
    settings: Settings, authenticate: Any, statuses: list[int]
) -> None:
    with endpoint():
        entry = settings.MCP_SESSIONS["default"]
        other = {**entry, "PATH": "other", "NAMESPACE": "other"}
        with override_settings(MCP_SESSIONS={"default": entry, "other": other}):
            site = with_mcp(django, authenticate=authenticate)
            answers = [await post(site, f"http://testserver/{path}") for path in ("mcp", "other")]
    assert [answer.status_code for answer in answers] == statuses


@pytest.mark.parametrize("make", [with_mcp, lambda _, **options: mcp_urlpatterns(**options)])
def test_authentication_for_an_endpoint_that_does_not_exist_is_refused(make: Any) -> None:
    with (
        endpoint(),
        pytest.raises(ImproperlyConfigured, match=re.escape("MCP_SESSIONS has no endpoint 'a', 'b'.")),
    ):
        make(django, authenticate={"b": wrapped, "default": wrapped, "a": wrapped})


async def test_a_websocket_is_refused_unless_there_is_an_application_for_it() -> None:
    assert await opening(with_mcp(django)) == ["websocket.close"]

    async def accept(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    assert await opening(with_mcp(django, websocket=accept)) == ["websocket.accept"]


async def opening(site: Application) -> list[str]:
    """What is sent to a client that opens a WebSocket."""
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await site({"type": "websocket", "path": "/mcp"}, receive, send)
    return sent


async def test_an_unknown_kind_of_connection_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="'telnet'"):
        await with_mcp(django)({"type": "telnet"}, lambda: None, lambda _: None)  # type: ignore[arg-type,return-value]
