"""What principals are called."""

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from mcp_sessions.inventory import search
from mcp_sessions.inventory.principals import (
    Named,
    is_known_principal,
    names_of,
    principal_named,
    principals_of,
    principals_of_tokens,
    principals_of_users,
)
from mcp_sessions.store.calls.queries import Query


@pytest.mark.django_db
@pytest.mark.parametrize("length", [150, 151, 5000])
def test_a_name_is_no_longer_than_its_column(length: int) -> None:
    [found] = names_of([("default", "p" * length)]).values()
    assert found == Named(name="p" * 150 if length == 150 else "p" * 149 + "…")


def test_who_has_nothing_in_the_field_is_no_subject(settings: LazySettings) -> None:
    """Not even that of a token whose subject is "None"."""
    entry = {"SERVER": "project.mcp.server", "SUBJECT_TO_USER": "last_login"}
    settings.MCP_SESSIONS = {"default": entry}
    assert principals_of(User(pk=7), "default") == ["user:7"]


@pytest.mark.django_db
def test_principals_are_named_for_people(settings: LazySettings, django_assert_num_queries: Any) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    ada = User.objects.create_user("ada")
    long = "x" * 200
    expected = {
        "anonymous": Named(name="anonymous"),
        f"user:{ada.pk}": Named(name="ada", user=ada.pk),
        "user:999": Named(name="deleted user 999"),
        "user:nobody": Named(name="deleted user nobody"),
        f"user:{long}": Named(name=f"deleted user {'x' * 39}…"),
        'oauth:["https://issuer","ada"]': Named(name="ada (https://issuer)"),
        'oauth:[null,"ada"]': Named(name="ada"),
        'oauth-client:["https://issuer","app"]': Named(name="client app (https://issuer)"),
        f'oauth:["{long}","{long}"]': Named(name=f"{'x' * 79}… ({'x' * 59}…)"),
        'other:["https://issuer","ada"]': Named(name='other:["https://issuer","ada"]'),
        "oauth:[1]": Named(name="oauth:[1]"),
        "oauth:no JSON": Named(name="oauth:no JSON"),
        "oauth:7": Named(name="oauth:7"),
        "oauth:[null,7]": Named(name="7"),
    }
    with django_assert_num_queries(1):
        found = names_of(("default", principal) for principal in expected)
    assert found == {("default", principal): named for principal, named in expected.items()}
    with django_assert_num_queries(0):
        assert names_of([("default", "anonymous")]) == {("default", "anonymous"): Named(name="anonymous")}


@pytest.mark.django_db
def test_a_user_who_is_the_subject_of_a_token_is_named_with_it(settings: LazySettings) -> None:
    verifier = {"TOKEN_VERIFIER": "tests.served.tokens.verify"}
    mapped = {"SERVER": "unused", "SUBJECT_TO_USER": "username"}
    settings.MCP_SESSIONS = {
        "mapped": mapped | {"ISSUER_URL": "https://issuer/"} | verifier,
        "plain": {"SERVER": "unused", "PATH": "plain"},
    }
    ada = User.objects.create_user("ada")
    subject = 'oauth:["https://issuer","ada"]'
    assert names_of([("mapped", subject), ("plain", subject)]) == {
        ("mapped", subject): Named(name="ada, ada (https://issuer)", user=ada.pk),
        ("plain", subject): Named(name="ada (https://issuer)"),
    }
    assert principals_of(ada, "plain") == [f"user:{ada.pk}"]
    assert principals_of(ada, "mapped") == [
        f"user:{ada.pk}",
        'oauth:[null,"ada"]',
        subject,
        'oauth:["https://issuer/","ada"]',
    ]


def test_a_token_may_have_its_issuer_with_a_slash_without_one_or_none() -> None:
    every = [
        *('oauth:[null,"a\\"b"]', 'oauth:["https://i","a\\"b"]', 'oauth:["https://i/","a\\"b"]'),
        *('oauth-client:[null,"a\\"b"]', 'oauth-client:["https://i","a\\"b"]'),
        'oauth-client:["https://i/","a\\"b"]',
    ]
    assert principals_of_tokens('a"b', "https://i") == principals_of_tokens('a"b', "https://i/") == every
    assert principals_of_tokens("ada", None) == ['oauth:[null,"ada"]', 'oauth-client:[null,"ada"]']


@pytest.mark.django_db
def test_users_are_found_by_name_or_a_part_of_it() -> None:
    users = {name: User.objects.create_user(name) for name in ("cara", "Ada", "bob", "anonymous")}
    keys = {name: f"user:{user.pk}" for name, user in users.items()}
    assert principals_of_users("A", limit=9) == [keys["Ada"], keys["anonymous"], keys["cara"]]
    assert principals_of_users("a", limit=2) == [keys["Ada"], keys["anonymous"]]
    assert principals_of_users("\0", limit=9) == []
    assert principal_named("Ada") == keys["Ada"]
    for other in ("Ad", "anonymous", "user:7", "nobody", "Ada\0"):
        assert principal_named(other) == other
    known = {text: is_known_principal(text) for text in ("anonymous", "user:7", "oauth:x", "nobody", "")}
    assert known == {"anonymous": True, "user:7": True, "oauth:x": True, "nobody": False, "": False}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("users", "clients", "ambiguous"), [(10, 9, False), (11, 9, True), (10, 10, True), (0, 0, False)]
)
def test_a_search_means_so_many_users_and_clients_at_most(
    settings: LazySettings, users: int, clients: int, ambiguous: bool
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    keys = [f"user:{User.objects.create_user(f'coder {number:02}').pk}" for number in range(users)]
    seen = [f"My CODER {number}" for number in range(clients)]
    found = search.search("coder", ["default"], [*seen, "other", "coder", *seen])
    assert found.ambiguous is ambiguous
    assert found.matches == [
        *(Query(client=name) for name in ["coder", *seen][:10]),
        *(Query(principal=principal) for principal in keys[:10]),
    ]


@pytest.mark.django_db
def test_a_search_knows_who_is_no_user(settings: LazySettings) -> None:
    tokens = {"TOKEN_VERIFIER": "tests.served.tokens.verify", "ISSUER_URL": "https://issuer"}
    settings.MCP_SESSIONS = {
        "plain": {"SERVER": "unused"},
        "tokens": {"SERVER": "unused", "PATH": "tokens"} | tokens,
    }
    assert search.search("Anonymous", ["plain"], []).matches == [
        Query(client="Anonymous"),
        Query(principal="anonymous"),
    ]
    assert search.search("ada", ["plain"], []).matches == [Query(client="ada")]
    assert search.search("ada", ["plain", "tokens"], []).matches == [
        Query(client="ada"),
        *(Query(principal=each) for each in principals_of_tokens("ada", "https://issuer")),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("more", [0, 1])
def test_the_user_and_the_subject_of_a_token_fit_the_column_together(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}
    ada, subject = User(pk=7, username="u" * (145 + more)), 'oauth:[null,"ada"]'
    monkeypatch.setattr("mcp_sessions.inventory.principals.users_of", lambda *_: {subject: ada})
    [found] = names_of([("default", subject)]).values()
    whole = f"{'u' * (145 + more)}, ada"
    assert found == Named(name=whole if not more else f"{whole[:149]}…", user=7)
