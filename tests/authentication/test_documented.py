"""docs/authentication.md, followed to the letter: the settings and code of each page, and a client that does so."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from pytest_django import Settings

from mcp_sessions.testing import http_client, serving, url_of
from tests.authentication.ways import Headers, login, rest_token
from tests.docs import markdown
from tests.support.mcp_client import META, MODERN, RawClient, answer_of
from tests.support.provider import Provider

pytestmark = pytest.mark.django_db(transaction=True)

TEXT: Final = markdown.read("authentication.md")
MODULES: Final = ("shop/mcp.py", "shop/tokens.py", "shop/badges.py")


@pytest.fixture
def shop(settings: Settings) -> Iterator[None]:
    """The modules of the document, and Ada."""
    User.objects.create(username="ada")
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    made = {"shop": ModuleType("shop")}
    for block in markdown.blocks(TEXT, "python"):
        if block.title in MODULES:
            name = block.title.removesuffix(".py").replace("/", ".")
            made[name] = ModuleType(name)
            exec(compile(block.code, block.title, "exec"), made[name].__dict__)  # noqa: S102 - the document's own code
    sys.modules.update(made)
    yield
    for name in made:
        del sys.modules[name]


def settings_of(heading: str) -> dict[str, Any]:
    """MCP_SESSIONS as the section below a heading sets it."""
    [block] = [
        block
        for block in markdown.blocks(markdown.section(TEXT, heading), "python")
        if block.title == "settings.py"
    ]
    namespace: dict[str, Any] = {"INSTALLED_APPS": []}
    exec(block.code, namespace)  # noqa: S102
    assert set(namespace["INSTALLED_APPS"]) <= {"rest_framework", "rest_framework.authtoken"}
    return dict(namespace["MCP_SESSIONS"])


def personal() -> Headers:
    """Make a token with the document's own command."""
    lines = "".join(block.code for block in markdown.blocks(TEXT, "console")).splitlines()
    [command] = [line for line in lines if "token create" in line]
    words = command.removeprefix("$ python manage.py ").split()
    from io import StringIO

    said = StringIO()
    call_command(*words, stdout=said, stderr=StringIO())
    return {"authorization": f"Bearer {said.getvalue().strip()}"}


def documented_token() -> Headers:
    return {"authorization": "Bearer the token that your authorization server knows"}


ADA: Final = "ada, user:"
PAGES: Final[dict[str, tuple[Callable[[], Headers], str]]] = {
    "A token in ten lines": (personal, ADA),
    "A token verifier of your own": (documented_token, 'ada, oauth:["https://id.example.com","ada"]'),
    "The login session of a browser": (lambda: login("ada"), ADA),
    "Django REST framework": (lambda: rest_token("ada"), ADA),
    "My proxy authenticates": (lambda: {"x-forwarded-user": "ada"}, 'ada, oauth:[null,"ada"]'),
    "An authenticator of your own": (lambda: {"x-badge": "ada"}, ADA),
}


#: Pages about a whole site, which tests/oauth/test_documented.py follows.
BY_SITES: Final = ("OAuth", "django-allauth beside it")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("heading", PAGES)
async def test_a_page_does_what_it_says(settings: Settings, heading: str, era: str) -> None:
    settings.MCP_SESSIONS = settings_of(heading)
    credentials, expected = PAGES[heading]
    await says(await sync_to_async(credentials)(), expected, era)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_the_page_of_the_provider_does_what_it_says(
    settings: Settings, provider: Provider, era: str
) -> None:
    """But for the address of the keys, which nobody serves at example.com, and the user."""
    [entry] = settings_of("An outside identity provider").values()
    assert entry["JWKS_URL"].startswith(entry["ISSUER_URL"])
    settings.MCP_SESSIONS = {"default": entry | {"JWKS_URL": provider.url, "SUBJECT_TO_USER": "username"}}
    token = provider.token("ada", aud=entry["RESOURCE_URL"], iss=entry["ISSUER_URL"])
    await says({"authorization": f"Bearer {token}"}, 'ada, oauth:["https://id.example.com","ada"]', era)


async def says(headers: Headers, expected: str, era: str) -> None:
    """Ask the document's `whoami`, with the credentials and without."""
    client = RawClient()
    called = client.request("tools/call", {"name": "whoami", "arguments": {}, "_meta": META})
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "whoami"}
    async with serving(), http_client() as http:
        refused = await http.post(url_of(), json=client.initialize_message(), headers=client.headers())
        assert refused.status_code == 401
        if era == "handshake":
            opened = await http.post(
                url_of(), json=client.initialize_message(), headers=client.headers() | dict(headers)
            )
            client.session_id = opened.headers["mcp-session-id"]
            routing = {}
        answer = await http.post(url_of(), json=called, headers=client.headers() | routing | dict(headers))
    text = answer_of(answer)["result"]["content"][0]["text"]
    assert text.startswith(expected)


def test_every_way_has_a_page_and_every_page_a_test() -> None:
    table = markdown.table(TEXT, "`AUTHENTICATION`")
    linked = {row[0].partition("](#")[2].rstrip(")") for row in table}
    anchors = {
        heading.lower().replace(" ", "-") for heading in (*PAGES, "An outside identity provider", *BY_SITES)
    }
    assert linked | {"django-allauth-beside-it"} == anchors
