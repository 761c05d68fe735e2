"""From the settings of an endpoint to what authenticates there, and to the gate in front of it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from rest_framework.authentication import BaseAuthentication

from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.gate import Gate
from mcp_sessions.authentication.jwks import JWKSAuthenticator
from mcp_sessions.authentication.loading import (
    NAMES,
    authenticators_for,
    gated,
    names_for,
    requires_user,
)
from mcp_sessions.authentication.rest_framework import RestFrameworkAuthenticator, _request
from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from tests.served.tokens import RESOURCE

VERIFIER = "tests.served.tokens.Verifier"


def an_endpoint(**fields: Any) -> Endpoint:
    return Endpoint(alias="shop", server="unused", **fields)


class Nobody(Authenticator):
    """Knows nobody."""

    async def authenticate(self, scope: Scope) -> None:
        return None


class Told(Nobody):
    """Says where to get credentials."""

    def metadata(self) -> Mapping[str, Application]:
        return {"somewhere": application}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fields", "names", "is_required"),
    [
        ({}, (), False),
        ({"require_user": True}, (), True),
        ({"token_verifier": VERIFIER}, ("token",), True),
        ({"token_verifier": VERIFIER, "require_user": False}, ("token",), False),
        ({"authentication": ("drf", "token"), "token_verifier": VERIFIER}, ("drf", "token"), True),
    ],
)
def test_a_user_is_required_wherever_something_authenticates_unless_the_settings_say_otherwise(
    fields: Any, names: tuple[str, ...], *, is_required: bool
) -> None:
    conf = an_endpoint(**fields)
    assert (tuple(names_for(conf)), requires_user(conf)) == (names, is_required)


@pytest.mark.parametrize(
    ("fields", "ways", "around", "trusts"),
    [
        ({"require_user": True}, [], False, True),
        ({"required_scopes": ("a",)}, [], True, True),
        ({"require_user": False}, [Nobody], False, False),
        ({}, [Nobody], True, True),
    ],
)
def test_a_gate_trusts_the_scope_where_nothing_else_authenticates_or_something_around_it(
    fields: Any, ways: list[type[Authenticator]], *, around: bool, trusts: bool
) -> None:
    conf, wrapped = an_endpoint(**fields), list[Application]()

    def wrap(inner: Application) -> Application:
        wrapped.append(inner)
        return application

    found = gated(conf, application, [way(conf) for way in ways], wrap if around else None)
    gate = wrapped[0] if around else found
    assert (found is application) is around
    assert isinstance(gate, Gate)
    assert (gate._trusts_scope, gate._require_user) == (trusts, requires_user(conf))
    assert (gate._application, gate._metadata_url) == (application, None)


def test_where_nothing_is_asked_for_there_is_no_gate() -> None:
    assert gated(an_endpoint(), application, [], None) is application
    told = an_endpoint(issuer_url="https://i.example", resource_url=RESOURCE)
    gate = gated(told, application, [Nobody(told), Told(told)], None)
    assert isinstance(gate, Gate)
    assert gate._metadata_url == "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.Nobody", "'nowhere.Nobody' cannot be imported: No module named 'nowhere'"),
        (f"{__name__}.application", "is neither an Authenticator nor an authentication class of Django REST"),
        (f"{__name__}.Endpoint", f"The short names are {', '.join(NAMES)}."),
    ],
)
def test_what_cannot_authenticate_is_named(name: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)) as refused:
        authenticators_for(an_endpoint(authentication=(f"{__name__}.Nobody", name)))
    assert str(refused.value).startswith("MCP_SESSIONS['shop']['AUTHENTICATION']: ")


class Kind(BaseAuthentication):  # type: ignore[misc]  # DRF has no types
    """Finds what a test says."""

    found: Any = None
    header: str | None = 'Basic realm="api"'

    def authenticate(self, request: Any) -> Any:
        return self.found

    def authenticate_header(self, request: Any) -> str | None:
        return self.header


class Person:
    def __init__(self, pk: int | None, *, is_authenticated: bool) -> None:
        self.pk, self.is_authenticated = pk, is_authenticated


def test_a_class_of_rest_framework_says_its_scheme_and_whom_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    [way] = authenticators_for(an_endpoint(authentication=(f"{__name__}.Kind",)))
    assert isinstance(way, RestFrameworkAuthenticator)
    assert (way.scheme, way.advice) == ("Basic", "Send credentials for Kind in Authorization: Basic.")
    ann = Person(1, is_authenticated=True)
    scope = _request({"path": "/mcp"})
    for found, user in (
        (None, None),
        ((ann, None), ann),
        ((Person(1, is_authenticated=False), None), None),
        ((Person(None, is_authenticated=True), None), None),
        ((object(), None), None),
    ):
        monkeypatch.setattr(Kind, "found", found)
        assert way._user_of(scope) is user
    monkeypatch.setattr(Kind, "header", None)
    assert RestFrameworkAuthenticator(an_endpoint(), Kind).scheme == "Bearer"


def test_nothing_is_kept_of_a_request_but_its_path_and_its_credentials() -> None:
    headers = [(b"authorization", b"a"), (b"x-other", b"b"), (b"cookie", b"c"), (b"host", b"d")]
    kept = _request({"type": "http", "method": "POST", "path": "/mcp", "headers": headers, "more": 1})
    assert kept == {
        "type": "http",
        "method": "GET",
        "path": "/mcp",
        "headers": [(b"authorization", b"a"), (b"cookie", b"c"), (b"host", b"d")],
    }
    assert _request({}) == {"type": "http", "method": "GET", "path": "/", "headers": []}


@pytest.mark.parametrize(("audiences", "wanted"), [((), (RESOURCE,)), (("a", "b"), ("a", "b"))])
def test_tokens_of_a_provider_are_for_the_audiences_that_are_set_or_the_endpoint(
    audiences: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    conf = an_endpoint(
        issuer_url="https://i.example",
        resource_url=RESOURCE,
        jwks_url="https://i.example/keys",
        jwt_audiences=audiences,
        jwt_algorithms=("ES256",),
    )
    verifier: Any = JWKSAuthenticator(conf)._verifier()
    assert (verifier._issuer, verifier._audiences, verifier._algorithms) == (
        "https://i.example",
        wanted,
        ("ES256",),
    )
    assert verifier._keys._url == "https://i.example/keys"


def test_an_authenticator_that_does_not_say_how_it_authenticates_is_refused() -> None:
    class Unfinished(Authenticator):
        """Has no `authenticate`."""

    unfinished: Any = Unfinished
    with pytest.raises(TypeError, match="authenticate"):
        unfinished(an_endpoint())
