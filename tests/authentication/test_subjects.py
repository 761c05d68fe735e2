"""Django's users behind subjects, and the subjects that tokens and proxies name."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db.models import Q
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pytest_django import Settings

from mcp_sessions.authentication import identity as identities
from mcp_sessions.authentication import toolkit, users
from mcp_sessions.authentication.bearer import BearerAuthenticator, metadata_url
from mcp_sessions.authentication.identity import Identity, of_token
from mcp_sessions.authentication.proxy import ProxyAuthenticator
from mcp_sessions.authentication.toolkit import ToolkitAuthenticator
from mcp_sessions.authentication.users import find_user, subject_of, users_of, whose_user_is_active
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import CredentialsRefused
from tests.served.tokens import RESOURCE

ISSUER = "https://i.example"
USERS = {
    (ISSUER, "ann"): SimpleNamespace(pk=1, is_active=True),
    (None, "bob"): SimpleNamespace(pk=2, is_active=False),
}
ANN, BOB, EVE = 'oauth:["https://i.example","ann"]', 'oauth:[null,"bob"]', 'oauth:[null,"eve"]'
asked: list[tuple[str | None, str]] = []


def find(issuer: str | None, subject: str) -> Any:
    """SUBJECT_TO_USER of a project."""
    asked.append((issuer, subject))
    return USERS.get((issuer, subject))


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    asked.clear()


def an_endpoint(**fields: Any) -> Endpoint:
    given = {"issuer_url": ISSUER, "resource_url": RESOURCE, "subject_to_user": f"{__name__}.find", **fields}
    return Endpoint(alias="shop", server="unused", **given)


@pytest.mark.parametrize(
    ("principal", "found"),
    [
        (ANN, (ISSUER, "ann")),
        (BOB, (None, "bob")),
        ("user:1", None),
        ('oauth-client:[null,"c"]', None),
        ("oauth:", None),
        ("oauth:7", None),
        ("oauth:[1]", None),
        ("oauth:[null,7]", None),
        ("oauth:[null,null,null]", None),
        ("anonymous", None),
    ],
)
def test_a_subject_is_in_principals_that_name_one(principal: str, found: Any) -> None:
    assert subject_of(principal) == found


def test_a_callable_of_the_project_finds_users_and_only_active_ones_count_as_who_asks() -> None:
    conf = an_endpoint()
    assert [find_user(conf, each) for each in (ANN, BOB, EVE, "user:1")] == [
        USERS[ISSUER, "ann"],
        None,
        None,
        None,
    ]
    assert asked == [(ISSUER, "ann"), (None, "bob"), (None, "eve")]
    assert users_of(conf, [ANN, BOB, EVE, "user:1"]) == {ANN: USERS[ISSUER, "ann"], BOB: USERS[None, "bob"]}
    asked.clear()
    nobody = an_endpoint(subject_to_user=None)
    assert (find_user(nobody, ANN), users_of(nobody, [ANN]), users_of(conf, ["user:1"])) == (None, {}, {})
    assert asked == []


def test_who_asks_is_looked_for_once() -> None:
    conf = an_endpoint()
    token = AccessToken(token="t", client_id="c", scopes=[], subject="eve")
    eve = of_token(token)
    assert [eve.find_user(conf) for _ in range(2)] == [None, None]
    assert asked == [(None, "eve")]
    user = SimpleNamespace(pk=1)
    assert Identity(principal="user:1", user=user).find_user(conf) is user
    assert Identity(principal="anonymous", user=user).find_user(conf) is user
    assert Identity(principal="anonymous").find_user(conf) == AnonymousUser()
    assert len(asked) == 1


async def test_in_an_event_loop_a_user_is_looked_for_in_a_thread() -> None:
    conf = an_endpoint()
    token = AccessToken(token="t", client_id="c", scopes=[], subject="ann", claims={"iss": ISSUER})
    ann = of_token(token)
    with pytest.raises(SynchronousOnlyOperation, match="auser"):
        ann.find_user(conf)
    assert asked == []
    assert await ann.afind_user(conf) is USERS[ISSUER, "ann"]
    assert ann.find_user(conf) is USERS[ISSUER, "ann"], "who was found is known"
    assert find_user(an_endpoint(subject_to_user=None), ANN) is None, "which asks nobody"


def test_a_text_about_who_asks_does_not_say_who_can_tell_or_was_found() -> None:
    eve = Identity(
        principal="eve", user=AuthenticatedUser(AccessToken(token="t", client_id="c", scopes=[])), key="k"
    )
    eve._found = (SimpleNamespace(email="eve@example.com"),)
    for hidden in ("source", "key", "eve@example.com"):
        assert hidden not in repr(eve)
    assert not hasattr(eve, "__dict__")
    assert eve != Identity(principal="eve")
    assert identities.NOBODY.principal == "anonymous"


@pytest.mark.parametrize(
    ("fields", "rows"), [(["id", "is_active"], Q(user__is_active=True)), (["id"], Q(user__isnull=False))]
)
def test_a_user_model_may_do_without_the_field_that_says_who_is_active(
    monkeypatch: pytest.MonkeyPatch, fields: list[str], rows: Q
) -> None:
    meta = SimpleNamespace(get_fields=lambda: [SimpleNamespace(name=name) for name in fields])
    monkeypatch.setattr(users, "get_user_model", lambda: SimpleNamespace(_meta=meta))
    assert whose_user_is_active() == rows


@pytest.mark.parametrize(
    ("values", "principal"),
    [
        ([b" ann "], ANN),
        (["ä".encode()], f"oauth:{json.dumps([ISSUER, 'ä'], separators=(',', ':'))}"),
        ([], None),
        ([b""], None),
        ([b"  "], None),
        ([b"\xff"], "an unknown encoding"),
        ([b"root", b"ann"], "more than one user"),
        ([b"ann", b"ann"], "more than one user"),
    ],
)
async def test_a_proxy_names_one_user(values: list[bytes], principal: str | None) -> None:
    way = ProxyAuthenticator(an_endpoint(trusted_proxies=["10.0.0.0/8"], proxy_user_header="X-User"))
    headers = [(b"x-users", b"eve"), *((b"x-user", value) for value in values)]
    scope = {"client": ("10.0.0.1", 1), "headers": headers}
    assert await way.authenticate({**scope, "client": ("192.0.2.1", 1)}) is None
    if principal is not None and not principal.startswith("oauth:"):
        with pytest.raises(CredentialsRefused, match=principal):
            await way.authenticate(scope)
        return
    found = await way.authenticate(scope)
    assert (None if found is None else (found.principal, found.scopes, found.expires_at)) == (
        None if principal is None else (principal, None, None)
    )


async def test_a_proxy_of_no_issuer_names_a_subject_without_one() -> None:
    way = ProxyAuthenticator(
        an_endpoint(trusted_proxies=["10.0.0.1"], proxy_user_header="X-User", issuer_url=None)
    )
    found = await way.authenticate({"client": ("10.0.0.1", 1), "headers": [(b"x-user", b"bob")]})
    assert found is not None
    assert found.principal == BOB


@pytest.mark.parametrize(("validates", "elsewhere"), [(True, False), (False, True)])
async def test_a_token_for_another_resource_is_good_only_where_that_does_not_matter(
    *, validates: bool, elsewhere: bool
) -> None:
    way = BearerAuthenticator(
        an_endpoint(token_verifier="tests.served.tokens.Verifier", validate_token_resource=validates)
    )
    found = [
        await way.authenticate({"type": "http", "headers": [(b"authorization", text)]})
        for text in (b"Bearer ann-1", b"Bearer ann-elsewhere")
    ]
    assert [each is not None for each in found] == [True, elsewhere]


def test_the_metadata_is_where_the_challenge_says() -> None:
    way = BearerAuthenticator(an_endpoint(token_verifier="tests.served.tokens.Verifier"))
    assert list(way.metadata()) == [".well-known/oauth-protected-resource/mcp"]
    assert metadata_url(an_endpoint()).endswith("/.well-known/oauth-protected-resource/mcp")


class Tokens:
    """In the place of the questions to the toolkit's tables."""

    def __init__(self, token: Any) -> None:
        self.token = token

    async def ask(self, digest: str) -> Any:
        return self.token


@pytest.mark.parametrize(
    ("application", "client", "credential"),
    [
        (None, "", "OAuth client (none)"),
        ("agent", "agent", "OAuth client agent"),
        ("x" * 200, "x" * 200, f"OAuth client {'x' * 107}"),
    ],
)
async def test_a_token_of_the_toolkit_says_which_client_it_was_issued_to(
    application: str | None, client: str, credential: str
) -> None:
    class Application(SimpleNamespace):
        def __str__(self) -> str:
            return str(self.client_id)

    token = SimpleNamespace(
        pk=3,
        scope="b  a",
        resource=["https://elsewhere.example", f"{RESOURCE}/"],
        application=None if application is None else Application(client_id=client),
        expires=SimpleNamespace(timestamp=lambda: 1_800_000_000.75),
        user=None,
    )
    way = ToolkitAuthenticator(an_endpoint(issuer_url="https://auth.example.com"))
    way._questions = Tokens(token)  # type: ignore[assignment]  # what is asked of it
    scope = {"headers": [(b"authorization", b"Bearer t")]}
    found = await way.authenticate(scope)
    assert found is not None
    assert found.principal == f'oauth-client:["https://auth.example.com","{client}"]'
    assert (found.scopes, found.expires_at) == (frozenset("ab"), 1_800_000_000)
    assert (found.credential, found.key, found.source) == (credential, 3, way)
    assert found.access_token.scopes == ["a", "b"]
    token.user = SimpleNamespace(pk=7)
    of_ann = await way.authenticate(scope)
    assert of_ann is not None
    assert (of_ann.principal, of_ann.expires_at, of_ann.scopes) == (
        "user:7",
        1_800_000_000.75,
        frozenset("ab"),
    )
    assert (of_ann.credential, of_ann.key, of_ann.source) == (credential, 3, way)
    token.resource = ["https://elsewhere.example"]
    assert await way.authenticate(scope) is None
    assert await way.authenticate({"headers": []}) is None


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://X.example:443/mcp/", "https://x.example/mcp"),
        ("http://x.example:80", "http://x.example"),
        ("https://x.example/mcp//", "https://x.example/mcp/"),
        ("no url", None),
    ],
)
def test_urls_are_compared_without_what_does_not_matter(url: str, normal: str | None) -> None:
    assert toolkit._normal(url) == normal


@pytest.mark.parametrize("issuer", ["https://a.example", "https://z.example", "https://i.example/"])
def test_the_toolkit_names_the_same_issuer_or_none(settings: Settings, issuer: str) -> None:
    settings.OAUTH2_PROVIDER = {"OIDC_ISS_ENDPOINT": issuer}
    with pytest.raises(
        ImproperlyConfigured, match="clients trust no server whose metadata names another issuer"
    ):
        ToolkitAuthenticator(an_endpoint())
    for same in (ISSUER, ""):
        settings.OAUTH2_PROVIDER = {"OIDC_ISS_ENDPOINT": same}
        ToolkitAuthenticator(an_endpoint())  # which is no error


@pytest.mark.parametrize("subject", ["07", " 7", "7 ", "6", "8", "70", ""])
def test_a_field_is_the_subject_to_the_letter(subject: str) -> None:
    """Whatever the database takes for the same."""
    seven = SimpleNamespace(pk=7)
    assert users._is_called(seven, "pk", "7")
    assert not users._is_called(seven, "pk", subject)
