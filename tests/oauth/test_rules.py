"""The authorization server, asked by hand: what is not in the way of a good client, but of everybody else."""

import base64
import hashlib
import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
import pytest

from tests.oauth.conftest import SCOPE, Site
from tests.oauth.person import Person
from tests.oauth.test_python_client import status

pytestmark = pytest.mark.slow

REDIRECT: Final = "http://127.0.0.1:3000/callback"
HTTP: Final = httpx2.Client(timeout=30)


class Program:
    """A client that is registered, and says what it wants to."""

    def __init__(self, site: Site, name: str = "A program") -> None:
        self.site = site
        self.verifier = secrets.token_urlsafe(48)
        metadata = {
            "client_name": name,
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        }
        answer = HTTP.post(f"{site.url}/oauth/register/", json=metadata)
        assert answer.status_code == 201, answer.text
        self.registered: dict[str, Any] = answer.json()
        self.id = str(self.registered["client_id"])

    def asks(self, **changed: str | None) -> str:
        """The address to which it sends its user."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=")
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": REDIRECT,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
            "scope": SCOPE,
            "state": "a state",
            "resource": self.site.resource,
        }
        wanted = {name: value for name, value in (query | changed).items() if value is not None}
        return f"{self.site.url}/oauth/authorize/?{urlencode(wanted)}"

    def redeem(self, code: str, **changed: str | None) -> httpx2.Response:
        good = {"redirect_uri": REDIRECT, "code_verifier": self.verifier}
        return self._token(grant_type="authorization_code", code=code, **{**good, **changed})

    def renew(self, refresh_token: str, **changed: str | None) -> httpx2.Response:
        return self._token(grant_type="refresh_token", refresh_token=refresh_token, **changed)

    def _token(self, **fields: str | None) -> httpx2.Response:
        wanted = {"client_id": self.id, "resource": self.site.resource, **fields}
        said = {name: value for name, value in wanted.items() if value is not None}
        return HTTP.post(f"{self.site.url}/oauth/token/", data=said)

    def tokens(self, person: Person, **changed: str | None) -> dict[str, Any]:
        answer = self.redeem(
            person.agree(self.asks(**changed))["code"], resource=changed.get("resource", self.site.resource)
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def test_what_the_metadata_says(site: Site) -> None:
    resource = HTTP.get(f"{site.b.url}/.well-known/oauth-protected-resource/mcp").json()
    assert resource["resource"] == site.resource
    assert resource["authorization_servers"] == [site.url]
    said = HTTP.get(f"{site.b.url}/.well-known/oauth-authorization-server").json()
    assert said["issuer"] == site.url
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["grant_types_supported"] == ["authorization_code", "refresh_token"]
    assert said["client_id_metadata_document_supported"]
    assert said["authorization_response_iss_parameter_supported"]
    for name in ("authorization", "token", "revocation", "registration"):
        assert said[f"{name}_endpoint"].startswith(f"{site.url}/oauth/")


def test_a_stolen_code_is_worth_nothing(site: Site, ann: Person) -> None:
    program, thief = Program(site), Program(site)
    code = ann.agree(program.asks())["code"]
    assert thief.redeem(code).status_code == 400, "another client"
    thief.id = program.id
    assert thief.redeem(code).status_code == 400, "without the verifier"
    assert program.redeem(code, code_verifier=None).status_code == 400
    assert program.redeem(code, redirect_uri="http://127.0.0.1:3000/other").status_code == 400
    good = program.redeem(code)
    assert good.status_code == 200, good.text
    assert program.redeem(code).status_code == 400, "it counts once"


@pytest.mark.parametrize(
    "changed",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"response_type": "token"},
    ],
    ids=str,
)
def test_a_client_without_pkce_gets_no_code(site: Site, ann: Person, changed: dict[str, str | None]) -> None:
    ann.open(f"{site.url}/admin/")
    answer = ann.browser.get(Program(site).asks(**changed))
    if answer.status_code == 200:
        answer = ann.press(answer, allow="Authorize")
    assert answer.status_code in (302, 400)
    assert "code=" not in answer.headers.get("location", "")
    assert "token=" not in answer.headers.get("location", "")


@pytest.mark.parametrize(
    "redirect",
    [
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example:3000/callback",
        "http://127.0.0.1:3000/callback/../other",
        "http://127.0.0.1:3000/callback?more=1",
        "javascript:alert(1)",
    ],
)
def test_an_answer_goes_only_where_the_client_has_said(site: Site, ann: Person, redirect: str) -> None:
    ann.open(f"{site.url}/admin/")
    answer = ann.browser.get(Program(site).asks(redirect_uri=redirect))
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_token_for_another_resource_is_refused(site: Site, ann: Person) -> None:
    program = Program(site)
    for resource in ("https://elsewhere.example.com/mcp", site.url, f"{site.resource}/more", None):
        found = program.tokens(ann, resource=resource)
        assert status(site.url, found["access_token"]) == 401
    tokens = program.tokens(ann)
    assert status(site.b.url, tokens["access_token"]) == 200
    elsewhere = program.renew(tokens["refresh_token"], resource="https://elsewhere.example.com/mcp")
    assert elsewhere.status_code == 400, "a token is not renewed for more than its user has agreed to"


def test_a_refresh_token_that_is_used_twice_ends_the_tokens_of_both(site: Site, ann: Person) -> None:
    program = Program(site)
    stolen = program.tokens(ann)
    renewed = program.renew(stolen["refresh_token"]).json()
    assert status(site.url, renewed["access_token"]) == 200
    assert status(site.url, stolen["access_token"]) == 401
    assert program.renew(stolen["refresh_token"]).status_code == 400
    assert status(site.url, renewed["access_token"]) == 401
    assert program.renew(renewed["refresh_token"]).status_code == 400


def test_a_refresh_token_that_is_used_twice_at_the_same_moment_is_good_at_most_once(
    site: Site, ann: Person
) -> None:
    program = Program(site)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            tokens = program.tokens(ann)
            both = list(threads.map(program.renew, [tokens["refresh_token"]] * 2))
            assert sorted(each.status_code for each in both) in ([200, 400], [400, 400]), [
                each.text for each in both
            ]
            for refused in both:
                assert refused.status_code == 200 or refused.json() == {"error": "invalid_grant"}


def test_no_token_is_stored_in_the_clear(site: Site, ann: Person) -> None:
    program = Program(site)
    tokens = program.tokens(ann)
    renewed = program.renew(tokens["refresh_token"]).json()
    with closing(sqlite3.connect(site.database, timeout=20)) as database:
        written = "".join(database.iterdump()) + site.a.output() + site.b.output()
    assert program.registered["client_id"] in written
    for each in (tokens, renewed):
        assert each["access_token"] not in written
        assert each["refresh_token"] not in written
    assert program.registered["registration_access_token"] not in written


def test_no_page_can_agree_in_the_name_of_its_visitor(site: Site, ann: Person) -> None:
    page = ann.open(Program(site).asks())
    assert page.headers["x-frame-options"] == "DENY"
    forged = ann.browser.post(str(page.url), data={"allow": "Authorize", "client_id": "any"})
    assert forged.status_code == 403, "without Django's CSRF token"


@pytest.mark.parametrize("resource", ["the same", "https://elsewhere.example.com/mcp"])
def test_no_address_has_a_client_agreed_to_without_asking(site: Site, ann: Person, resource: str) -> None:
    """Not even one that its user has agreed to before."""
    program = Program(site)
    program.tokens(ann)
    wanted = site.resource if resource == "the same" else resource
    page = ann.browser.get(program.asks(approval_prompt="auto", resource=wanted))
    assert page.status_code == 200, page.headers.get("location")
    assert "A program" in page.text


def test_the_user_sees_who_asks_and_where_the_answer_goes(site: Site, ann: Person) -> None:
    ann.agree(Program(site, name="<b>The bank</b>").asks())
    [asked] = ann.asked
    assert "&lt;b&gt;The bank&lt;/b&gt;" in asked
    assert REDIRECT in asked


def test_a_user_ends_a_clients_access(site: Site, ann: Person, bob: Person) -> None:
    program = Program(site)
    tokens = program.tokens(ann)
    listed = ann.open(f"{site.url}/oauth/clients/")
    assert "A program" in listed.text
    [[pk]] = site.rows("SELECT max(id) FROM oauth2_provider_accesstoken WHERE user_id IS NOT NULL")
    page = f"{site.url}/oauth/clients/{pk}/delete/"
    assert bob.open(page).status_code == 404
    assert status(site.url, tokens["access_token"]) == 200
    page_of_ann = ann.open(page)
    ann.submit(page_of_ann)
    assert status(site.b.url, tokens["access_token"]) == 401
    assert program.renew(tokens["refresh_token"]).status_code == 400


def test_a_registration_token_changes_its_client_and_nothing_else(site: Site) -> None:
    program, other = Program(site), Program(site)
    token = str(program.registered["registration_access_token"])
    assert status(site.url, token) == 401
    headers = {"authorization": f"Bearer {token}"}
    assert HTTP.get(program.registered["registration_client_uri"], headers=headers).status_code == 200
    assert HTTP.get(other.registered["registration_client_uri"], headers=headers).status_code in (401, 403)


@pytest.mark.parametrize("page", ["applications/", "introspect/", "device/", "userinfo/"])
def test_what_clients_do_not_need_is_not_there(site: Site, page: str) -> None:
    assert HTTP.get(f"{site.url}/oauth/{page}").status_code == 404
