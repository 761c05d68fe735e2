"""Tokens of django-oauth-toolkit that are good for the toolkit, and not for an endpoint."""

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import modify_settings
from oauth2_provider.models import Application
from pytest_django import Settings

from mcp_sessions.authentication.loading import authenticators_for
from mcp_sessions.conf import endpoint
from mcp_sessions.testing import http_client, serving
from tests.authentication.test_hostile import ask, client, whoami
from tests.authentication.ways import Way, access_token, bearer, user
from tests.support.provider import AUDIENCE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "more",
    [
        {"resource": []},
        {"resource": ["https://mcp.example.com"]},
        {"resource": ["https://mcp.example.com/mcp/more"]},
        {"resource": ["https://mcp.example.com.evil.example/mcp"]},
        {"resource": ["https://mcp.example.com@evil.example/mcp"]},
        {"resource": ["not a url", "\x00"]},
        {"scope": "mcp oauth2_provider:registration"},
    ],
    ids=str,
)
async def test_a_token_for_something_else_is_refused(more: dict[str, Any]) -> None:
    text = await sync_to_async(access_token)(**more)
    async with client() as http:
        response = await ask(http, "oauth-toolkit", bearer(text))
    assert response.status_code == 401
    assert "resource_metadata=" in response.headers["www-authenticate"]


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "resource", [[f"{AUDIENCE}/"], ["HTTPS://MCP.example.com:443/mcp"], ["https://x.example.com", AUDIENCE]]
)
async def test_a_resource_is_compared_as_a_url(resource: list[str]) -> None:
    text = await sync_to_async(access_token)(resource=resource)
    async with client() as http:
        assert (await whoami(http, "oauth-toolkit", bearer(text)))["name"] == "ann"


@pytest.mark.usefixtures("ways")
async def test_a_client_without_a_user_is_a_principal_of_its_own() -> None:
    text = await sync_to_async(access_token)(None)
    [authenticator] = authenticators_for(endpoint("oauth-toolkit"))
    scope = {"headers": [(b"authorization", f"Bearer {text}".encode())]}
    identity = await authenticator.authenticate(scope)
    assert identity is not None
    assert identity.principal == 'oauth-client:["https://auth.example.com","agent"]'
    assert identity.credential == "OAuth client Agent"


@pytest.mark.usefixtures("ways")
async def test_who_is_no_longer_active_and_a_client_that_may_not_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = await sync_to_async(access_token)()
    ann = await sync_to_async(user)("ann")
    async with client() as http:
        assert (await ask(http, "oauth-toolkit", bearer(text))).status_code == 200
        ann.is_active = False
        await ann.asave()
        assert (await ask(http, "oauth-toolkit", bearer(text))).status_code == 401
        ann.is_active = True
        await ann.asave()
        monkeypatch.setattr(Application, "is_usable", lambda self, request: False)
        assert (await ask(http, "oauth-toolkit", bearer(text))).status_code == 401


async def test_a_registration_token_is_refused_where_no_resource_is_asked_for(
    ways: dict[str, Way], settings: Settings
) -> None:
    entry = {**settings.MCP_SESSIONS["oauth-toolkit"], "VALIDATE_TOKEN_RESOURCE": False}
    settings.MCP_SESSIONS = {"oauth-toolkit": entry}
    anywhere = await sync_to_async(access_token)(resource=[])
    registration = await sync_to_async(access_token)(resource=[], scope="mcp oauth2_provider:registration")
    async with serving(), http_client() as http:
        assert (await ask(http, "oauth-toolkit", bearer(anywhere))).status_code == 200
        assert (await ask(http, "oauth-toolkit", bearer(registration))).status_code == 401


@pytest.mark.usefixtures("ways")
def test_what_is_missing_is_said(settings: Settings) -> None:
    with (
        modify_settings(INSTALLED_APPS={"remove": "oauth2_provider"}),
        pytest.raises(ImproperlyConfigured, match=re.escape("mcp-sessions[oauth]")),
    ):
        authenticators_for(endpoint("oauth-toolkit"))
    settings.OAUTH2_PROVIDER = {"OIDC_ISS_ENDPOINT": "https://other.example.com"}
    with pytest.raises(ImproperlyConfigured, match="another issuer"):
        authenticators_for(endpoint("oauth-toolkit"))
