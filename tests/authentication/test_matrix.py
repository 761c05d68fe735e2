"""Who may pass: each authenticator in both eras, with each kind of credentials. The tables of the document are that."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from tests.authentication import matrix
from tests.authentication.matrix import ERAS, Answer, Key
from tests.authentication.ways import CASES, all_ways, in_memory
from tests.docs import markdown
from tests.support.provider import provider

pytestmark = pytest.mark.django_db  # so that there is a database at all

WAYS: Final = ("token", "personal-token", "jwks", "oauth-toolkit", "session", "drf", "proxy")
REFUSED: Final = {
    "none": "401",
    "expired": "401",
    "revoked": "401",
    "foreign audience": "401",
    "missing scope": "403",
}
SCHEMES: Final = {"session": "Cookie", "drf": "Token"}
PRINCIPALS: Final = {
    "token": 'oauth:["https://issuer.example.com","ann"]',
    "jwks": 'oauth:["https://id.example.com","ann"]',
    "proxy": 'oauth:["https://id.example.com","ann"]',
}


@pytest.fixture(scope="module")
def answers(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[Key, Answer | None]]:
    """Measured once for all tests, because that takes users, servers and databases."""
    with django_db_blocker.unblock(), provider() as running:
        ways = all_ways(running)
        with override_settings(**in_memory(ways)):
            yield asyncio.run(matrix.measure({way.name: way for way in ways}))
        User.objects.all().delete()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_the_same_rule_holds_in_both_eras(
    answers: dict[Key, Answer | None], way: str, case: str, era: str
) -> None:
    answer = answers[way, case, era]
    if answer is None:
        return
    if case in REFUSED:
        error = "insufficient_scope" if case == "missing scope" else "invalid_token"
        assert (answer.status, answer.challenge) == (REFUSED[case], f"{SCHEMES.get(way, 'Bearer')}, {error}")
    elif case == "foreign owner":
        assert answer.status == ("404" if era == "handshake" else "200, the error of an unknown handle")
    else:
        assert answer.status == "200"
        assert answer.principal == PRINCIPALS.get(way, answer.principal)
        assert answer.principal.startswith(("user:", "oauth:"))


@pytest.mark.parametrize("way", WAYS)
def test_the_document_has_what_was_measured(answers: dict[Key, Answer | None], way: str) -> None:
    table = matrix.rows(answers, way)
    section = markdown.section(markdown.read("authentication.md"), f"What `{way}` answers")
    assert markdown.table(section, "Credentials") == table, f"Write:\n{matrix.as_markdown(table)}"
