"""Hostile credentials and headers: what a browser is made to send, what a client pretends, what no parser expects."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import SynchronousOnlyOperation
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pytest_django import Settings

from mcp_sessions.authentication import Authenticator
from mcp_sessions.authentication.users import find_user, users_of
from mcp_sessions.conf import endpoint
from mcp_sessions.errors import CredentialsRefused
from mcp_sessions.routing import mcp_urlpatterns
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from tests.authentication.ways import OTHER_ORIGIN, Headers, Way, login, personal
from tests.support.mcp_client import META, MODERN, RawClient, answer_of

pytestmark = pytest.mark.django_db(transaction=True)


@asynccontextmanager
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(), http_client() as http:
        yield http


async def ask(http: httpx2.AsyncClient, way: str, headers: Headers, method: str = "POST") -> httpx2.Response:
    """Ask who one is, in the modern era; other methods are those of the handshake era."""
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "whoami", "arguments": {}, "_meta": META},
    }
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "whoami"}
    sends = {**RawClient().headers(), **(routing if method == "POST" else {}), **headers}
    return await http.request(method, url_of(way), json=message if method == "POST" else None, headers=sends)


async def whoami(http: httpx2.AsyncClient, way: str, headers: Headers) -> dict[str, Any]:
    response = await ask(http, way, headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = answer_of(response)["result"]["structuredContent"]
    return found


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "origin",
    [
        None,
        OTHER_ORIGIN,
        "https://testserver",
        "http://testserver:8000",
        "http://testserver.evil.example",
        "http://evil.example",
        "null",
        "",
        "http://TESTSERVER",
        "http://testserver/",
    ],
)
async def test_a_cookie_counts_only_for_pages_of_its_own_origin(origin: str | None) -> None:
    headers = dict(await sync_to_async(login)())
    headers.pop("origin")
    async with client() as http:
        response = await ask(http, "session", headers if origin is None else headers | {"origin": origin})
    assert response.status_code in (401, 403)


@pytest.mark.usefixtures("ways")
async def test_a_browser_that_names_the_site_may_listen_without_an_origin() -> None:
    headers = dict(await sync_to_async(login)()) | {
        "accept": "text/event-stream",
        "mcp-session-id": "unknown",
    }
    headers.pop("origin")
    async with client() as http:
        statuses = {
            site: (await ask(http, "session", headers | {"sec-fetch-site": site}, "GET")).status_code
            for site in ("same-origin", "same-site", "cross-site", "none")
        }
        # Only GET: browsers send Origin with everything else.
        deleted = await ask(http, "session", headers | {"sec-fetch-site": "same-origin"}, "DELETE")
    assert statuses == {"same-origin": 404, "same-site": 401, "cross-site": 401, "none": 401}
    assert deleted.status_code == 401


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "cookie", ["sessionid=", "sessionid", "sessionid=\xff", "=;=;", "sessionid=" + "x" * 8000]
)
async def test_a_cookie_that_is_no_session_is_nobody(cookie: str) -> None:
    async with client() as http:
        headers = [(b"cookie", cookie.encode("latin-1")), (b"origin", b"http://testserver")]
        sends = [*((k.encode(), v.encode()) for k, v in RawClient().headers().items()), *headers]
        response = await http.post(url_of("session"), content=b"{}", headers=sends)
    assert response.status_code == 401


@pytest.mark.usefixtures("ways")
async def test_a_cookie_that_no_database_takes_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quoted value may have NUL in it, at which drivers of PostgreSQL raise."""
    load = SessionStore.load

    def load_as_there(store: SessionStore) -> Any:
        if "\0" in (store.session_key or ""):
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return load(store)

    monkeypatch.setattr(SessionStore, "load", load_as_there)
    headers = {"cookie": r'sessionid="\000abcdefgh"', "origin": "http://testserver"}
    async with client() as http:
        assert (await ask(http, "session", headers)).status_code == 401


async def test_what_a_page_says_counts_more_than_its_cookie(ways: dict[str, Way], settings: Settings) -> None:
    both = {
        **settings.MCP_SESSIONS["session"],
        "AUTHENTICATION": ["session", "personal-token"],
        "PATH": "both",
    }
    settings.MCP_SESSIONS = {**settings.MCP_SESSIONS, "both": both}
    cookie = dict(await sync_to_async(login)("ann"))
    text = await sync_to_async(personal)("bob")
    async with client() as http:
        assert (await whoami(http, "both", cookie))["name"] == "ann"
        explicit = cookie | {"authorization": f"Bearer {text}"}
        assert (await whoami(http, "both", explicit))["name"] == "bob"
        wrong = cookie | {"authorization": "Bearer mcps_wrong"}
        assert (await ask(http, "both", wrong)).status_code == 401


@pytest.mark.usefixtures("ways")
async def test_a_user_who_is_not_active_is_nobody() -> None:
    cookie, text = await sync_to_async(login)(), await sync_to_async(personal)()
    async with client() as http:
        assert (await ask(http, "session", cookie)).status_code == 200
        assert (await ask(http, "personal-token", {"authorization": f"Bearer {text}"})).status_code == 200
        await User.objects.filter(username="ann").aupdate(is_active=False)
        assert (await ask(http, "session", cookie)).status_code == 401
        assert (await ask(http, "personal-token", {"authorization": f"Bearer {text}"})).status_code == 401


@pytest.mark.usefixtures("ways")
async def test_a_password_that_is_changed_ends_the_logins(settings: Settings) -> None:
    cookie = await sync_to_async(login)()

    def change() -> None:
        ann = User.objects.get(username="ann")
        ann.set_password("another")
        ann.save()

    async with client() as http:
        await sync_to_async(change)()
        assert (await ask(http, "session", cookie)).status_code == 401


async def test_a_login_from_before_a_new_secret_key_is_good_and_stays_as_it_is(
    ways: dict[str, Way], settings: Settings
) -> None:
    cookie = await sync_to_async(login)()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the new one"
    async with client() as http:
        for _ in range(2):
            assert (await ask(http, "session", cookie)).status_code == 200


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "bearer\tx",
        "Bearer mcps_",
        "Basic YTpi",
        "Token x",
        "Bearer " + "x" * 9000,
        "Bearer é",
    ],
)
@pytest.mark.parametrize("way", ["token", "personal-token", "jwks", "drf", "session", "proxy"])
async def test_odd_credentials_are_refused(way: str, value: str) -> None:
    async with client() as http:
        raw = [(k.encode(), v.encode()) for k, v in RawClient().headers().items()]
        raw.append((b"authorization", value.encode("utf-8")))
        response = await http.post(url_of(way), content=b"{}", headers=raw)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].isascii()


@pytest.mark.usefixtures("ways")
async def test_two_credentials_are_refused_before_either_is_looked_at() -> None:
    async with client() as http:
        raw = [(b"authorization", b"Bearer ann-1"), (b"authorization", b"Bearer bob-1")]
        response = await http.post(url_of("token"), content=b"{}", headers=raw)
    assert response.status_code == 400


@pytest.mark.usefixtures("ways")
async def test_a_proxy_that_adds_its_line_to_the_clients_is_not_believed() -> None:
    async with client() as http:
        raw = [(b"X-Forwarded-User", b"root"), (b"X-Forwarded-User", b"ann")]
        response = await http.post(url_of("proxy"), content=b"{}", headers=raw)
    assert response.status_code == 401


@pytest.mark.parametrize("near", [["10.0.0.0/8"], ["::1"]])
async def test_the_header_of_whoever_is_no_proxy_is_ignored(
    ways: dict[str, Way], settings: Settings, near: list[str]
) -> None:
    settings.MCP_SESSIONS = {"proxy": {**settings.MCP_SESSIONS["proxy"], "TRUSTED_PROXIES": near}}
    async with client() as http:
        for more in (
            {},
            {"x-forwarded-for": "10.0.0.1"},
            {"forwarded": "for=10.0.0.1"},
            {"x-real-ip": "::1"},
        ):
            assert (await ask(http, "proxy", {"x-forwarded-user": "ann", **more})).status_code == 401


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("name", ["x_forwarded_user", "x-forwarded_user", "remote-user", "x-forwarded-user2"])
async def test_only_the_header_itself_counts(name: str) -> None:
    async with client() as http:
        assert (await ask(http, "proxy", {name: "ann"})).status_code == 401


async def test_who_is_nobody_passes_where_no_user_is_required(
    ways: dict[str, Way], settings: Settings
) -> None:
    entry = {**settings.MCP_SESSIONS["token"], "REQUIRE_USER": False}
    settings.MCP_SESSIONS = {"token": entry}
    async with client() as http:
        assert (await whoami(http, "token", {}))["principal"] == "anonymous"
        bad = await ask(http, "token", {"authorization": "Bearer ann-revoked"})
        assert bad.status_code == 401, "whose token is over is not to become somebody else"


def as_ann(application: Application) -> Application:
    """Something of the project's own that authenticates, if a header asks for it."""

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
        if (b"x-ann", b"1") in scope["headers"]:
            scope = {**scope, "user": await User.objects.aget(username="ann")}
        await application(scope, receive, send)

    return authenticate


@pytest.mark.parametrize("given", [as_ann, {"default": as_ann}])
async def test_a_middleware_of_ones_own_can_be_put_around_endpoints(settings: Settings, given: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    entry = {"SERVER": "tests.served.whoami.server", "REQUIRE_USER": True}
    settings.MCP_SESSIONS = {"default": entry}
    ann = await User.objects.acreate(username="ann")
    async with serving(), http_client() as http:
        http._transport._application = URLRouter(mcp_urlpatterns(authenticate=given))  # type: ignore[attr-defined]
        assert (await ask(http, "default", {})).status_code == 401
        assert await whoami(http, "default", {"x-ann": "1"}) == {"principal": f"user:{ann.pk}", "name": "ann"}


def with_token(application: Application) -> Application:
    """Something of the project's own that knows a token with the scopes that a header names."""

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
        scopes = dict(scope["headers"]).get(b"x-scopes")
        if scopes is not None:
            token = AccessToken(token="t", client_id="c", scopes=scopes.decode().split(), subject="ann")
            scope = {**scope, "user": AuthenticatedUser(token)}
        await application(scope, receive, send)

    return authenticate


async def test_scopes_are_required_whoever_authenticates(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    entry = {"SERVER": "tests.served.whoami.server", "REQUIRED_SCOPES": ["mcp"]}
    settings.MCP_SESSIONS = {"default": entry}
    async with serving(), http_client() as http:
        application = URLRouter(mcp_urlpatterns(authenticate=with_token))
        http._transport._application = application  # type: ignore[attr-defined]
        for method in ("POST", "GET"):
            refused = await ask(http, "default", {"x-scopes": "read"}, method)
            assert refused.status_code == 403
            assert "insufficient_scope" in refused.headers["www-authenticate"]
        assert (await whoami(http, "default", {"x-scopes": "mcp read"}))["principal"] == 'oauth:[null,"ann"]'
        assert (await whoami(http, "default", {}))["principal"] == "anonymous"


async def test_a_user_in_the_scope_is_not_believed_unless_somebody_was_put_around(
    ways: dict[str, Way], settings: Settings
) -> None:
    ann = await User.objects.acreate(username="ann")
    async with serving(), http_client() as http:
        application = as_ann(URLRouter(mcp_urlpatterns()))
        http._transport._application = application  # type: ignore[attr-defined]
        assert (await ask(http, "token", {"x-ann": "1"})).status_code == 401
    assert ann.pk


async def test_the_subject_of_a_token_becomes_djangos_user(ways: dict[str, Way], settings: Settings) -> None:
    await User.objects.acreate(username="ann")
    await User.objects.acreate(username="bob", is_active=False)
    entry = {**settings.MCP_SESSIONS["token"], "SUBJECT_TO_USER": "username"}
    settings.MCP_SESSIONS = {"token": entry}
    async with client() as http:
        assert (await whoami(http, "token", {"authorization": "Bearer ann-1"}))["name"] == "ann"
        assert (await whoami(http, "token", {"authorization": "Bearer bob-1"}))["name"] is None


@pytest.mark.parametrize("field", ["pk", "username"])
async def test_a_subject_that_no_user_can_have_is_nobodys_and_hides_no_other(
    ways: dict[str, Way], settings: Settings, field: str
) -> None:
    ann = await User.objects.acreate(username="ann")
    settings.MCP_SESSIONS = {"token": {**settings.MCP_SESSIONS["token"], "SUBJECT_TO_USER": field}}
    known = str(getattr(ann, field))
    subjects = ["no number", "9" * 30, "\0", "\ud800", known]
    principals = [f"oauth:{json.dumps([None, each])}" for each in subjects]
    find = sync_to_async(find_user)
    found = [await find(endpoint("token"), each) for each in principals]
    assert found == [None] * 4 + [ann]
    assert await sync_to_async(users_of)(endpoint("token"), principals) == {principals[-1]: ann}


async def test_a_subject_that_several_users_have_is_nobodys(ways: dict[str, Way], settings: Settings) -> None:
    entry = {**settings.MCP_SESSIONS["token"], "SUBJECT_TO_USER": "first_name"}
    settings.MCP_SESSIONS = {"token": entry}
    conf = endpoint("token")
    principal = 'oauth:["https://issuer.example.com","ann"]'
    find = sync_to_async(find_user)
    await User.objects.acreate(username="1", first_name="Ann")
    assert await find(conf, principal) is None, "to the letter"
    first = await User.objects.acreate(username="2", first_name="ann")
    assert await find(conf, principal) == first
    assert await sync_to_async(users_of)(conf, [principal]) == {principal: first}
    await User.objects.acreate(username="3", first_name="ann")
    assert await find(conf, principal) is None
    assert await sync_to_async(users_of)(conf, [principal]) == {}
    with pytest.raises(SynchronousOnlyOperation, match="auser"):
        find_user(conf, principal)


class Rude(Authenticator):
    """Refuses everybody, with what the client has sent."""

    async def authenticate(self, scope: Scope) -> None:
        raise CredentialsRefused('"\r\nSet-Cookie: a=b é \\')


async def test_nothing_that_an_authenticator_says_breaks_out_of_the_header(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    path = f"{__name__}.Rude"
    settings.MCP_SESSIONS = {"default": {"SERVER": "tests.served.whoami.server", "AUTHENTICATION": [path]}}
    async with client() as http:
        response = await ask(http, "default", {})
    assert response.status_code == 401
    assert "set-cookie" not in response.headers
    assert re.fullmatch(
        r'Bearer error="\w+", error_description="[^"\\]*"', response.headers["www-authenticate"]
    )
