"""Credentials of many open streams are looked at in parts, each once, and in the order of their streams."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest
from django.db import OperationalError
from mcp.server.auth.provider import AccessToken

from mcp_sessions.authentication import login, rest_framework
from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.bearer import BearerAuthenticator
from mcp_sessions.authentication.identity import Identity, of_token
from mcp_sessions.authentication.jwks import JWKSAuthenticator
from mcp_sessions.authentication.login import LoginAuthenticator
from mcp_sessions.authentication.personal import PersonalTokenAuthenticator
from mcp_sessions.authentication.proxy import ProxyAuthenticator
from mcp_sessions.authentication.rest_framework import RestFrameworkAuthenticator
from mcp_sessions.authentication.toolkit import ToolkitAuthenticator
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import CredentialsRefused
from tests.served.tokens import RESOURCE


class Verifier:
    """Refuses tokens that end with 3, and does not know of those that end with 7."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.running = self.most = 0

    async def verify_token(self, token: str) -> AccessToken | None:
        self.asked.append(token)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if token.endswith("7"):
            raise ValueError(token)
        return None if token.endswith("3") else a_token(token)


def a_token(text: str) -> AccessToken:
    return AccessToken(token=text, client_id="c", scopes=[], resource=RESOURCE)


verifier = Verifier()


async def test_a_verifier_is_asked_about_each_token_once_and_about_ten_at_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Verifier()
    monkeypatch.setattr(f"{__name__}.verifier", asked)
    conf = Endpoint(
        alias="shop",
        server="unused",
        token_verifier=f"{__name__}.verifier",
        issuer_url="https://i.example",
        resource_url=RESOURCE,
    )
    known = [of_token(a_token(f"t{number % 25}")) for number in range(30)]
    good = await BearerAuthenticator(conf).still_good(known)
    expected = [each for each in known if not each.access_token.token.endswith("3")]
    assert list(good) == expected
    assert sorted(asked.asked) == sorted(f"t{number}" for number in range(25))
    assert asked.most == 10
    assert caplog.messages == [
        "Whether 2 tokens of open streams are still good is not known: the verifier raised ValueError."
    ]
    caplog.clear()
    assert await BearerAuthenticator(conf).still_good(known[:3]) == known[:3]
    assert caplog.messages == []


def looked_at(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[int]:
    """How many of them each question to the database is about."""
    sizes: list[int] = []

    async def in_thread(function: Callable[[], Any]) -> Any:
        sizes.append(len(function.args[0]))  # type: ignore[attr-defined]  # a partial
        return function()

    monkeypatch.setattr(module, "in_thread", in_thread)
    return sizes


class User:
    def __init__(self, pk: int) -> None:
        self.pk = pk
        self.is_authenticated = True


async def test_logins_are_looked_at_in_parts_of_fifty(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = looked_at(monkeypatch, login)
    now = {"k3": None, "k7": User(70), "k9": User(8)}
    monkeypatch.setattr(login, "_user_of", lambda key: now.get(key, User(int(key[1:]))))
    authenticator = LoginAuthenticator(Endpoint(alias="shop", server="unused"))
    known = [Identity(principal="p", key=f"k{number}", user=User(number)) for number in range(101)]
    good = await authenticator.still_good([*known, known[5]])
    assert list(good) == [*(each for each in known if each.key not in now), known[5]]
    assert sizes == [50, 50, 1]


async def test_streams_of_rest_framework_are_looked_at_in_parts_of_fifty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = looked_at(monkeypatch, rest_framework)
    raised = {3: CredentialsRefused("no"), 7: ValueError("who knows")}

    class Asked(RestFrameworkAuthenticator):
        def __init__(self) -> None:
            self._kind = type("Kind", (), {})

        def _user_of(self, scope: Any) -> Any:
            if scope in raised:
                raise raised[scope]
            return {11: None, 12: User(13), 14: User(13)}.get(scope, User(scope))

    authenticator = Asked()
    known = [Identity(principal="p", key=number, user=User(number)) for number in range(101)]
    good = await authenticator.still_good(known)
    assert [each.key for each in good] == [n for n in range(101) if n not in (3, 11, 12, 14)]
    assert sizes == [50, 50, 1]
    raised[50] = OperationalError("away")
    with pytest.raises(OperationalError):
        await authenticator.still_good(known)


def test_credentials_that_can_be_revoked_are_looked_at_as_often_as_the_documentation_says() -> None:
    assert {kind: kind.recheck_seconds for kind in WAYS} == WAYS


WAYS: Final[dict[type[Authenticator], float | None]] = {
    BearerAuthenticator: 10.0,
    PersonalTokenAuthenticator: 1.0,
    JWKSAuthenticator: None,
    ToolkitAuthenticator: 1.0,
    LoginAuthenticator: 10.0,
    RestFrameworkAuthenticator: 10.0,
    ProxyAuthenticator: None,
}
