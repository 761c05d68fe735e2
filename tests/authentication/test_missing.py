"""An authenticator without what it needs says at the start which one it is, and what is missing."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import modify_settings

from mcp_sessions.authentication.bearer import metadata_url
from mcp_sessions.authentication.loading import authenticators_for
from mcp_sessions.conf import Endpoint

VERIFIER = "tests.served.tokens.Verifier"
ISSUER = {"issuer_url": "https://issuer.example"}


def an_endpoint(*authentication: str, **fields: Any) -> Endpoint:
    return Endpoint(
        alias="shop", server="tests.served.everything.server", authentication=authentication, **fields
    )


@pytest.mark.parametrize(
    ("ways", "fields", "said"),
    [
        (["token"], {}, "authenticates by token, and needs ISSUER_URL."),
        (["jwks"], {}, "authenticates by jwks, and needs ISSUER_URL."),
        (["jwks"], ISSUER, "authenticates by jwks, and needs RESOURCE_URL."),
        (["jwks", "personal-token"], {}, "authenticates by jwks, personal-token, and needs ISSUER_URL."),
        (["oauth-toolkit"], ISSUER, "authenticates by oauth-toolkit, and needs RESOURCE_URL."),
        (["proxy"], {}, "authenticates by proxy, and needs TRUSTED_PROXIES."),
        (
            ["session"],
            {"token_verifier": VERIFIER},
            "has TOKEN_VERIFIER, which nothing uses: AUTHENTICATION has",
        ),
    ],
)
def test_a_setting_that_is_missing_is_named(ways: list[str], fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        authenticators_for(an_endpoint(*ways, **fields))
    assert str(refused.value).startswith(f"MCP_SESSIONS['shop'] {said}")


def test_where_only_a_verifier_is_set_the_way_is_called_token() -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        metadata_url(an_endpoint(token_verifier=VERIFIER))
    assert str(refused.value) == "MCP_SESSIONS['shop'] authenticates by token, and needs ISSUER_URL."


@pytest.mark.parametrize(
    ("way", "app"), [("session", "django.contrib.contenttypes"), ("oauth-toolkit", "oauth2_provider")]
)
def test_an_app_that_is_missing_is_named(way: str, app: str) -> None:
    with (
        modify_settings(INSTALLED_APPS={"remove": [app]}),
        pytest.raises(
            ImproperlyConfigured, match=f"authenticates by {way}, and needs {app} in INSTALLED_APPS"
        ),
    ):
        authenticators_for(an_endpoint(way))
