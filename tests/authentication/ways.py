"""Every way to authenticate, as an endpoint of its own, and the credentials that a client may have."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, set_token_value
from rest_framework.authtoken.models import Token

from mcp_sessions.tokens import create_token, revoke_token
from tests.served.tokens import RESOURCE
from tests.support.provider import AUDIENCE, ISSUER, Provider

CASES: Final = (
    "good",
    "none",
    "expired",
    "revoked",
    "foreign audience",
    "missing scope",
    "foreign owner",
    "refreshed",
)
#: A page that may send requests, and whose cookies do not count.
OTHER_ORIGIN: Final = "https://app.example.com"

Headers = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One authenticator."""

    name: str
    #: Its entry in MCP_SESSIONS, apart from what all have.
    entry: Mapping[str, Any]
    #: What a client sends in each case, made by a function; a case that is missing does not exist for this way.
    sends: Mapping[str, Callable[[], Headers]] = field(default_factory=dict)


def in_memory(ways: list[Way]) -> dict[str, Any]:
    """Settings with an endpoint for each way, at the path of its name, whose sessions are in memory."""
    common = {
        "SERVER": "tests.served.whoami.server",
        "ALLOWED_ORIGINS": [OTHER_ORIGIN],
        "REQUIRED_SCOPES": ["mcp"],
    }
    return {
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        "MCP_SESSIONS": {way.name: {**common, "PATH": way.name, **way.entry} for way in ways},
    }


def bearer(text: str) -> Headers:
    return {"authorization": f"Bearer {text}"}


def all_ways(provider: Provider) -> list[Way]:
    """The ways; the users are made with the credentials."""
    return [_token(), _personal(), _jwks(provider), _toolkit(), _session(), _drf(), _proxy()]


def user(name: str) -> User:
    return User.objects.get_or_create(username=name)[0]


def _token() -> Way:
    return Way(
        name="token",
        entry={
            "AUTHENTICATION": ["token"],
            "TOKEN_VERIFIER": "tests.served.tokens.Verifier",
            "ISSUER_URL": "https://issuer.example.com",
            "RESOURCE_URL": RESOURCE,
        },
        sends={
            "good": lambda: bearer("ann-1"),
            "expired": lambda: bearer(f"ann-until-{int(time.time()) - 10}"),
            "revoked": lambda: bearer("ann-revoked"),
            "foreign audience": lambda: bearer("ann-elsewhere"),
            "missing scope": lambda: bearer("unscoped-1"),
            "foreign owner": lambda: bearer("bob-1"),
            "refreshed": lambda: bearer("ann-2"),
        },
    )


def personal(name: str = "ann", *, revoked: bool = False, **more: Any) -> str:
    """The text of a personal token. It is noted as used, so that no test waits for a write of that."""
    token, text = create_token(user(name), **{"scopes": "mcp read", **more})
    token.last_used = timezone.now()
    token.save()
    if revoked:
        revoke_token(token)
    return text


def _personal() -> Way:
    past = timezone.now() - timedelta(seconds=5)
    return Way(
        name="personal-token",
        entry={"AUTHENTICATION": ["personal-token"]},
        sends={
            "good": lambda: bearer(personal()),
            "expired": lambda: bearer(personal(expires=past)),
            "revoked": lambda: bearer(personal(revoked=True)),
            "foreign audience": lambda: bearer(personal(endpoint="jwks")),
            "missing scope": lambda: bearer(personal(scopes="read")),
            "foreign owner": lambda: bearer(personal("bob")),
            "refreshed": lambda: bearer(personal(expires=timezone.now() + timedelta(hours=1))),
        },
    )


def _jwks(provider: Provider) -> Way:
    return Way(
        name="jwks",
        entry={
            "AUTHENTICATION": ["jwks"],
            "ISSUER_URL": ISSUER,
            "RESOURCE_URL": AUDIENCE,
            "JWKS_URL": provider.url,
        },
        sends={
            "good": lambda: bearer(provider.token()),
            "expired": lambda: bearer(provider.token(exp=int(time.time()) - 10)),
            "foreign audience": lambda: bearer(provider.token(aud="https://elsewhere.example.com/mcp")),
            "missing scope": lambda: bearer(provider.token(scope="read")),
            "foreign owner": lambda: bearer(provider.token("bob")),
            "refreshed": lambda: bearer(provider.token(jti="2")),
        },
    )


def access_token(name: str | None = "ann", *, revoked: bool = False, **more: Any) -> str:
    """The text of a token that the toolkit has issued to a client; for the client itself without a user's name."""
    client, _ = Application.objects.get_or_create(
        client_id="agent",
        defaults={
            "name": "Agent",
            "client_type": Application.CLIENT_PUBLIC,
            "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE,
        },
    )
    facts = {
        "expires": timezone.now() + timedelta(hours=1),
        "scope": "mcp read",
        "resource": [AUDIENCE],
        **more,
    }
    token = AccessToken(user=None if name is None else user(name), application=client, **facts)
    text = secrets.token_urlsafe(30)
    set_token_value(token, text)
    token.save()
    if revoked:
        token.revoke()
    return text


def _toolkit() -> Way:
    past = timezone.now() - timedelta(seconds=5)
    return Way(
        name="oauth-toolkit",
        entry={
            "AUTHENTICATION": ["oauth-toolkit"],
            "ISSUER_URL": "https://auth.example.com",
            "RESOURCE_URL": AUDIENCE,
        },
        sends={
            "good": lambda: bearer(access_token()),
            "expired": lambda: bearer(access_token(expires=past)),
            "revoked": lambda: bearer(access_token(revoked=True)),
            "foreign audience": lambda: bearer(access_token(resource=["https://elsewhere.example.com/mcp"])),
            "missing scope": lambda: bearer(access_token(scope="read")),
            "foreign owner": lambda: bearer(access_token("bob")),
            "refreshed": lambda: bearer(access_token()),
        },
    )


def login(name: str = "ann", *, origin: str = "http://testserver", over: bool = False) -> Headers:
    """What a page of a browser sends whose user has logged in."""
    browser = Client()
    browser.force_login(user(name))
    key = browser.cookies[settings.SESSION_COOKIE_NAME].value
    if over:
        session = SessionStore(key)
        session.set_expiry(-5)
        session.save()
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={key}", "origin": origin}


def _logged_out() -> Headers:
    headers = login()
    SessionStore(headers["cookie"].partition("=")[2]).flush()
    return headers


def _session() -> Way:
    return Way(
        name="session",
        entry={"AUTHENTICATION": ["session"]},
        sends={
            "good": login,
            "expired": lambda: login(over=True),
            "revoked": _logged_out,
            "foreign audience": lambda: login(origin=OTHER_ORIGIN),
            "foreign owner": lambda: login("bob"),
            "refreshed": login,
        },
    )


def rest_token(name: str = "ann") -> Headers:
    key = Token.objects.get_or_create(user=user(name))[0].key
    return {"authorization": f"Token {key}"}


def _deleted() -> Headers:
    headers = rest_token("eve")
    Token.objects.filter(user__username="eve").delete()
    return headers


def _renewed() -> Headers:
    Token.objects.filter(user__username="ann").delete()
    return rest_token()


def _drf() -> Way:
    return Way(
        name="drf",
        entry={"AUTHENTICATION": ["drf"]},
        sends={
            "good": rest_token,
            "revoked": _deleted,
            "foreign owner": lambda: rest_token("bob"),
            "refreshed": _renewed,
        },
    )


def _proxy() -> Way:
    return Way(
        name="proxy",
        entry={"AUTHENTICATION": ["proxy"], "TRUSTED_PROXIES": ["127.0.0.0/8"], "ISSUER_URL": ISSUER},
        sends={
            "good": lambda: {"x-forwarded-user": "ann"},
            "foreign owner": lambda: {"x-forwarded-user": "bob"},
            "refreshed": lambda: {"x-forwarded-user": "ann"},
        },
    )
