"""The token endpoint, where the order of two requests decides."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, RefreshToken

from mcp_sessions.oauth.views import TokenView

TOKEN: Final = "a refresh token"
CLIENT: Final = "renews-tokens"


def renew(view: type[TokenView] = TokenView) -> HttpResponse:
    fields = {"grant_type": "refresh_token", "refresh_token": TOKEN, "client_id": CLIENT}
    answer: HttpResponse = view.as_view()(RequestFactory().post("/oauth/token/", fields))
    return answer


@pytest.fixture
def refresh_token(db: None) -> RefreshToken:
    user = get_user_model().objects.create(username=CLIENT)
    application = Application.objects.create(
        client_id=CLIENT, client_type="public", authorization_grant_type="authorization-code", user=user
    )
    access = AccessToken.objects.create(
        user=user,
        application=application,
        token="old",
        token_checksum=hashlib.sha256(b"old").hexdigest(),
        expires=timezone.now() + timedelta(hours=1),
        scope="mcp",
    )
    return RefreshToken.objects.create(
        user=user,
        application=application,
        token="",
        token_checksum=hashlib.sha256(TOKEN.encode()).hexdigest(),
        access_token=access,
        token_family=secrets.token_hex(16),
    )


def test_a_token_that_is_revoked_before_it_is_sent_is_an_invalid_grant(refresh_token: RefreshToken) -> None:
    class Slow(TokenView):
        def create_token_response(self, request: HttpRequest) -> Any:
            answer = super().create_token_response(request)
            assert answer[-1] == 200, answer
            assert renew().status_code == 400, "it has been used"
            return answer

    answer = renew(Slow)
    assert (answer.status_code, answer.content) == (400, b'{"error": "invalid_grant"}')
    assert answer["Cache-Control"] == "no-store"
    assert not RefreshToken.objects.filter(revoked=None).exists()
    assert not AccessToken.objects.exists()


def test_a_token_that_is_not_used_again_is_sent(refresh_token: RefreshToken) -> None:
    assert renew().status_code == 200
    assert RefreshToken.objects.filter(revoked=None).count() == 1
