"""When personal tokens were used, and which of them are accepted."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from mcp_sessions.authentication import personal
from mcp_sessions.authentication.models import PersonalToken, create_token
from mcp_sessions.authentication.personal import PersonalTokenAuthenticator
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import AuthenticationUnavailable, CredentialsRefused
from tests.authentication.test_bounds import at_once

NOW = timezone.now()


@pytest.fixture
def authenticator(monkeypatch: pytest.MonkeyPatch) -> PersonalTokenAuthenticator:
    """One whose clock stands still."""
    monkeypatch.setattr(personal, "timezone", SimpleNamespace(now=lambda: NOW))
    return PersonalTokenAuthenticator(Endpoint(alias="default", server="unused"))


def token(pk: int, *, used: float | None = None, **more: Any) -> PersonalToken:
    """One that was used so many seconds ago."""
    last_used = None if used is None else NOW - timedelta(seconds=used)
    return PersonalToken(pk=pk, last_used=last_used, user=User(pk=7), **more)


async def test_the_last_use_is_noted_once_a_minute(
    authenticator: PersonalTokenAuthenticator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    noted: list[list[int]] = []
    noting: list[Any] = []
    monkeypatch.setattr(personal, "_note_use", noted.append)
    monkeypatch.setattr(personal, "in_thread", at_once)
    for used in ([token(1, used=59.9), token(2, used=0)], [token(1), token(2, used=59.9), token(3, used=60)]):
        authenticator._note(used)
        noting.append(authenticator._noting)
    authenticator._note([token(5)])
    assert noting == [None, authenticator._noting], "the next use is noted"
    await noting[1]
    assert noted == [[1, 3]]

    async def fail(_: Any) -> None:
        raise AuthenticationUnavailable("away")

    monkeypatch.setattr(personal, "in_thread", fail)
    caplog.set_level("INFO", "mcp_sessions")
    authenticator._note([token(6)])
    while authenticator._noting is not None:
        await asyncio.sleep(0)
    assert "The last use of personal tokens is not noted: away" in caplog.text


async def test_a_token_says_who_asks_what_is_allowed_and_until_when(
    authenticator: PersonalTokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[PersonalToken | None] = []

    async def ask(digest: str) -> PersonalToken | None:
        return found[0]

    monkeypatch.setattr(authenticator._questions, "ask", ask)
    scope = {"headers": [(b"authorization", b"Bearer mcps_x")]}
    until = NOW + timedelta(hours=1)
    found[:] = [token(3, prefix="mcps_abc", scopes="a  b", endpoint="default", expires=until)]
    identity = await authenticator.authenticate(scope)
    assert identity is not None
    assert (identity.principal, identity.scopes, identity.key) == ("user:7", frozenset("ab"), 3)
    assert (identity.expires_at, identity.credential) == (until.timestamp(), "personal token mcps_abc")
    assert identity.source is authenticator
    found[:] = [token(3)]
    identity = await authenticator.authenticate(scope)
    assert identity is not None
    assert (identity.expires_at, identity.scopes) == (None, frozenset())
    for refused in (None, token(3, endpoint="other")):
        found[:] = [refused]
        with pytest.raises(CredentialsRefused, match="for another endpoint"):
            await authenticator.authenticate(scope)
    for other in (b"Bearer eyJ", b"Basic mcps_x"):
        assert await authenticator.authenticate({"headers": [(b"authorization", other)]}) is None


@pytest.mark.django_db
def test_tokens_are_accepted_that_are_neither_over_nor_of_somebody_who_is_not_active() -> None:
    now = timezone.now()
    ann, bob = User.objects.create(username="ann"), User.objects.create(username="bob", is_active=False)
    made = {
        "lasting": create_token(ann)[0],
        "valid": create_token(ann, expires=now + timedelta(minutes=1))[0],
        "expired": create_token(ann, expires=now - timedelta(seconds=1))[0],
        "revoked": create_token(ann)[0],
        "of nobody": create_token(bob)[0],
    }
    PersonalToken.objects.filter(pk=made["revoked"].pk).update(revoked=now)
    good = {made["lasting"], made["valid"]}
    digests = [each.digest for each in made.values()]
    assert set(personal._good(digests).values()) == good
    assert personal._good(digests[:1]) == {digests[0]: made["lasting"]}
    assert personal._still_good(each.pk for each in made.values()) == {each.pk for each in good}
    personal._note_use([made["valid"].pk])
    used = PersonalToken.objects.exclude(last_used=None)
    assert [each.pk for each in used] == [made["valid"].pk]
    assert abs(used[0].last_used - now) < timedelta(minutes=1)  # type: ignore[operator]  # it has one
