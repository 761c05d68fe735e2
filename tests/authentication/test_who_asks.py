"""Who asks: what is taken for credentials, whose they are, and whom a block means."""

from datetime import timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from mcp_sessions.authentication import blocking, login
from mcp_sessions.authentication.authenticator import bearer_token
from mcp_sessions.authentication.blocks import Block
from mcp_sessions.authentication.identity import KEY, Identity, identity_of
from mcp_sessions.blocks import block, unblock


def test_who_asks_is_whom_the_gate_knows_or_else_the_user_in_the_scope() -> None:
    user = SimpleNamespace(pk=7, is_authenticated=True)
    known = Identity(principal="ann")
    of_client = AuthenticatedUser(
        AccessToken(token="t", client_id="c", scopes=[], claims={"iss": "https://i"})
    )
    for scope, principal in (
        ({KEY: known, "user": user}, "ann"),
        ({"user": user}, "user:7"),
        ({"user": of_client}, 'oauth-client:["https://i","c"]'),
        ({"user": SimpleNamespace(pk=7)}, "anonymous"),
        ({"user": SimpleNamespace(pk=7, is_authenticated=False)}, "anonymous"),
        ({"user": SimpleNamespace(pk=None, is_authenticated=True)}, "anonymous"),
        ({"user": SimpleNamespace(is_authenticated=True)}, "anonymous"),
        ({}, "anonymous"),
    ):
        assert identity_of(scope).principal == principal


def test_credentials_are_in_no_text_about_who_asks() -> None:
    found = Identity(
        principal="ann", key="a secret", credential="personal token mcps_abc", scopes=frozenset("b")
    )
    assert "a secret" not in repr(found)
    assert found.access_token == AccessToken(token="", client_id="", scopes=["b"], subject="ann")


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (None, None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"bEARER  t ", "t"),
        (b"Bearer\tt", None),
        (b"Basic t", None),
        (b"Bearer \xe9", "\xe9"),
    ],
)
def test_a_bearer_token_is_what_stands_behind_the_word(value: bytes | None, token: str | None) -> None:
    headers = [(b"x", b"Bearer x")] + ([] if value is None else [(b"authorization", value)])
    assert bearer_token({"headers": headers}) == token


@pytest.mark.parametrize(
    ("origin", "host", "site", "method", "own"),
    [
        (b"http://testserver", b"testserver", None, "POST", True),
        (b"http://testserver:80", b"testserver", None, "POST", False),
        (b"http://evil.example", b"evil.example", None, "POST", False),
        (None, b"testserver", b"same-origin", "GET", True),
        (None, b"testserver", b"same-origin", "POST", False),
        (None, b"testserver", b"none", "GET", False),
        (None, b"testserver", None, "GET", False),
    ],
)
def test_a_cookie_counts_on_pages_of_the_own_origin(
    settings: Any, origin: bytes | None, host: bytes, site: bytes | None, method: str, own: bool
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    headers = [(b"host", host), (b"origin", origin), (b"sec-fetch-site", site)]
    scope = {
        "type": "http",
        "method": method,
        "path": "/mcp",
        "headers": [(name, value) for name, value in headers if value is not None],
    }
    assert login._is_of_own_page(scope) is own


@pytest.mark.parametrize(
    ("cookie", "key"),
    [
        (None, None),
        (b"", None),
        (b"other=1", None),
        (b"sessionid=", None),
        (b"other=1; sessionid=abc; more=2", "abc"),
        (rb'sessionid="a\000b"', None),
        (b"sessionid=\xe9", "\xe9"),
    ],
)
def test_a_login_session_is_named_by_its_cookie(cookie: bytes | None, key: str | None) -> None:
    headers = [(b"x-cookie", b"sessionid=wrong")] + ([] if cookie is None else [(b"cookie", cookie)])
    assert login._session_key({"headers": headers}) == key


@pytest.mark.django_db
def test_what_is_longer_than_its_column_is_cut(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    made = block("client", "c" * 300, duration=timedelta(hours=1), reason="r" * 201, by="b" * 256)
    assert (len(made.value), made.reason, made.by) == (300, "r" * 200, "b" * 255)
    assert made.expires is not None
    assert abs(made.expires - made.created - timedelta(hours=1)) < timedelta(seconds=30)
    with pytest.raises(ValueError, match="gone is no endpoint"):
        block("client", "c", duration=None, endpoint="gone")
    assert unblock([made, Block(lifted=timezone.now()), made]) == 1


@pytest.mark.django_db(transaction=True)
def test_the_blocks_of_an_endpoint_are_its_own_and_those_of_every_one(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"a": {"SERVER": "unused"}, "b": {"SERVER": "unused", "PATH": "b"}}
    until = block("client", "for a time", duration=timedelta(hours=1)).expires
    block("client", "for ever", duration=None, endpoint="a")
    block("client", "elsewhere", duration=None, endpoint="b")
    unblock([block("client", "lifted", duration=None)])
    assert until is not None
    assert sorted(blocking._active("a")) == [
        ("client", "for a time", until.timestamp()),
        ("client", "for ever", inf),
    ]
