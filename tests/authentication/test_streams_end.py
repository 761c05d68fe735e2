"""Open streams of both eras end when the credentials expire, or are revoked, that they were opened with."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session as LoginSession
from django.utils import timezone
from oauth2_provider.models import AccessToken
from rest_framework.authtoken.models import Token

from mcp_sessions.authentication.bearer import BearerAuthenticator
from mcp_sessions.authentication.jwks import JWKSAuthenticator
from mcp_sessions.authentication.login import LoginAuthenticator
from mcp_sessions.authentication.models import PersonalToken
from mcp_sessions.authentication.personal import PersonalTokenAuthenticator
from mcp_sessions.authentication.rest_framework import RestFrameworkAuthenticator
from mcp_sessions.authentication.toolkit import ToolkitAuthenticator
from mcp_sessions.testing import http_client, serving, url_of
from mcp_sessions.tokens import revoke_token
from tests.authentication.test_matrix import WAYS
from tests.authentication.ways import Headers, Way, access_token, bearer, login, personal
from tests.served.tokens import Verifier
from tests.support.mcp_client import META, MODERN, RawClient
from tests.support.provider import Provider

pytestmark = pytest.mark.django_db(transaction=True)

SOON: Final = 3.0
#: Seconds within which a stream has to end: a token is accepted to the end of its last second.
BOUND: Final = 10.0


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are looked at every ten seconds, tenfold."""
    for kind in (
        BearerAuthenticator,
        LoginAuthenticator,
        PersonalTokenAuthenticator,
        RestFrameworkAuthenticator,
        ToolkitAuthenticator,
    ):
        assert kind.recheck_seconds is not None
        monkeypatch.setattr(kind, "recheck_seconds", kind.recheck_seconds / 10)
    assert JWKSAuthenticator.recheck_seconds is None


def _soon() -> Any:
    return timezone.now() + timedelta(seconds=SOON)


def _login_that_expires() -> Headers:
    headers = login()
    session = SessionStore(headers["cookie"].partition("=")[2])
    session.set_expiry(round(SOON))
    session.save()
    return headers


#: What opens streams that end by themselves.
EXPIRING: Final[dict[str, Callable[[Provider], Headers]]] = {
    "token": lambda _: bearer(f"ann-until-{int(time.time() + SOON)}"),
    "personal-token": lambda _: bearer(personal(expires=_soon())),
    "jwks": lambda provider: bearer(provider.token(exp=int(time.time() + SOON))),
    "oauth-toolkit": lambda _: bearer(access_token(expires=_soon())),
    "session": lambda _: _login_that_expires(),
}


def _refuse_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verify_token(self: Verifier, token: str) -> None:
        return None

    monkeypatch.setattr(Verifier, "verify_token", verify_token)


#: What revokes the credentials of all streams.
REVOKED: Final[dict[str, Callable[[pytest.MonkeyPatch], Any]]] = {
    "token": _refuse_all,
    "personal-token": lambda _: [revoke_token(token) for token in PersonalToken.objects.all()],
    "oauth-toolkit": lambda _: [token.revoke() for token in AccessToken.objects.all()],
    "session": lambda _: LoginSession.objects.all().delete(),
    "drf": lambda _: Token.objects.all().delete(),
}


@asynccontextmanager
async def streams(
    http: httpx2.AsyncClient, way: str, sends: Headers
) -> AsyncIterator[list[AsyncIterator[bytes]]]:
    """The standalone stream of a session, and a listener of the modern era."""
    url, client = url_of(way), RawClient()
    opened = await http.post(url, json=client.initialize_message(), headers=client.headers() | dict(sends))
    assert opened.status_code == 200, opened.text
    client.session_id = opened.headers["mcp-session-id"]
    listens = client.headers() | dict(sends) | {"accept": "text/event-stream"}
    method = "subscriptions/listen"
    wanted = client.request(method, {"notifications": {"toolsListChanged": True}, "_meta": META})
    routed = RawClient().headers() | {"mcp-protocol-version": MODERN, "mcp-method": method} | dict(sends)
    async with (
        http.stream("GET", url, headers=listens) as stream,
        http.stream("POST", url, json=wanted, headers=routed) as listener,
    ):
        assert (stream.status_code, listener.status_code) == (200, 200)
        yield [stream.aiter_bytes(), listener.aiter_bytes()]


async def to_the_end(stream: AsyncIterator[bytes]) -> None:
    async for _ in stream:
        pass


@pytest.fixture
def way_names() -> None:
    """Each way is in one of the two tables, or has no credentials that end."""
    assert EXPIRING.keys() | REVOKED.keys() | {"proxy"} == set(WAYS)


@pytest.mark.usefixtures("ways", "way_names")
@pytest.mark.parametrize("way", EXPIRING)
async def test_streams_end_when_their_credentials_expire(way: str, provider: Provider) -> None:
    async with serving(), http_client() as http:
        sends = await sync_to_async(EXPIRING[way])(provider)
        async with streams(http, way, sends) as opened, asyncio.timeout(BOUND):
            await asyncio.gather(*map(to_the_end, opened))


@pytest.mark.parametrize("way", REVOKED)
async def test_streams_end_when_their_credentials_are_revoked(
    ways: dict[str, Way], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(), http_client() as http:
        sends = await sync_to_async(ways[way].sends["good"])()
        async with streams(http, way, sends) as opened, asyncio.timeout(BOUND):
            ends = [asyncio.create_task(to_the_end(stream)) for stream in opened]
            done, _ = await asyncio.wait(ends, timeout=1.5)
            assert not done, "they are open as long as the credentials are good"
            await sync_to_async(REVOKED[way])(monkeypatch)
            await asyncio.gather(*ends)
