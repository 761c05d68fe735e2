"""The settings of the authorization server, and its rules about refresh tokens and about asking the user."""

from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from oauth2_provider import settings as toolkit
from oauth2_provider import views as toolkit_views
from oauth2_provider.models import RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.errors import InvalidGrantError

from mcp_sessions.oauth import provider, validator
from mcp_sessions.oauth.validator import Validator
from mcp_sessions.oauth.views import AuthorizationView
from tests.oauth.test_token_endpoint import refresh_token

__all__ = ["refresh_token"]  # a fixture


def test_the_settings_are_safe_and_those_of_the_project_win() -> None:
    scopes = {"shop": "Use the shop"}
    made = provider("https://shop.example.com", scopes=scopes, DCR_ENABLED=False, RESOURCES=1)
    assert (made["OIDC_ISS_ENDPOINT"], made["SCOPES"]) == ("https://shop.example.com", scopes)
    assert (made["DCR_ENABLED"], made["RESOURCES"]) == (False, 1)
    assert (made["ACCESS_TOKEN_EXPIRE_SECONDS"], made["REFRESH_TOKEN_EXPIRE_SECONDS"]) == (3_600, 2_592_000)
    made = provider("https://shop.example.com", scopes={})
    rules = {name for name in toolkit.DEFAULTS if name.startswith("COMPLIANT_BCP_RFC9700_")}
    # Clients on a user's machine are answered over plain HTTP, or at a scheme of their own.
    rules.remove("COMPLIANT_BCP_RFC9700_REDIRECT_URI_SCHEME")
    on = {name for name, value in made.items() if value is True}
    assert on == rules | {
        "PKCE_REQUIRED",
        "CIMD_ENABLED",
        "DCR_ENABLED",
        "ALLOW_LOCALHOST_LOOPBACK",
        "REFRESH_TOKEN_REUSE_PROTECTION",
    }
    assert made.keys() <= toolkit.DEFAULTS.keys()


@pytest.mark.parametrize(
    ("is_revoked", "stores_hashes", "grace_seconds", "is_saved"),
    [
        (False, True, 0, True),
        (False, False, 0, True),
        (True, True, 0, False),
        (True, False, 0, False),
        (True, True, 120, False),
        (True, False, 120, True),  # the toolkit gives what the first use got
    ],
)
def test_a_refresh_token_that_was_used_meanwhile_is_good_only_where_the_toolkit_can_repeat_its_answer(
    refresh_token: RefreshToken,
    monkeypatch: pytest.MonkeyPatch,
    grace_seconds: int,
    *,
    is_revoked: bool,
    stores_hashes: bool,
    is_saved: bool,
) -> None:
    class Rules:
        COMPLIANT_BCP_RFC9700_TOKEN_STORAGE = stores_hashes
        REFRESH_TOKEN_GRACE_PERIOD_SECONDS = grace_seconds

    saved: list[Any] = []
    monkeypatch.setattr(validator, "oauth2_settings", Rules)
    monkeypatch.setattr(OAuth2Validator, "_save_bearer_token", lambda _, token, *__: saved.append(token))
    if is_revoked:
        RefreshToken.objects.update(revoked=refresh_token.created)
    request = Request("https://shop.example.com/oauth/token/")
    request.refresh_token_instance = refresh_token
    if is_saved:
        Validator()._save_bearer_token({"access_token": "new"}, request)
        assert saved == [{"access_token": "new"}]
    else:
        with pytest.raises(InvalidGrantError):
            Validator()._save_bearer_token({"access_token": "new"}, request)
        assert saved == []


def test_a_request_without_a_refresh_token_gets_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(OAuth2Validator, "_save_bearer_token", lambda _, token, *__: saved.append(token))
    Validator()._save_bearer_token({}, Request("https://shop.example.com/oauth/token/"))
    assert saved == [{}]


def test_no_address_says_whether_the_user_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get(_: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> str:
        asked.append((request.GET.dict(), args, kwargs))
        return "the page"

    monkeypatch.setattr(toolkit_views.AuthorizationView, "get", get)
    for query in ("approval_prompt=auto&scope=mcp", "scope=mcp"):
        request = RequestFactory().get(f"/oauth/authorize/?{query}")
        assert AuthorizationView().get(request, 1, more=2) == "the page"
    assert asked == [({"scope": "mcp"}, (1,), {"more": 2})] * 2
