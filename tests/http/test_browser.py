"""A person who opens the URL of an endpoint in a browser gets a page; clients get what they always got."""

from collections.abc import AsyncIterator
from typing import Final

import httpx2
import pytest
from pytest_django import Settings

from mcp_sessions.routing import with_mcp
from mcp_sessions.testing import serving
from tests.routing.test_routing import django
from tests.support.asgi import endpoint

#: What browsers send for an address that was typed in.
NAVIGATION: Final = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(NAMESPACE="shop", ALLOWED_ORIGINS=["https://app.example.com"]):
        transport = httpx2.ASGITransport(with_mcp(django))
        async with serving(), httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
            yield http


async def test_a_browser_gets_a_page_that_says_how_to_connect(http: httpx2.AsyncClient) -> None:
    page = await http.get("/mcp?utm=1", headers=NAVIGATION)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "This is an MCP server" in page.text
    assert "claude mcp add --transport http shop http://testserver/mcp\n" in page.text.replace("</pre>", "\n")
    assert "Authentication" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("language", "lang"), [("de-AT, en;q=0.5", "de"), ("xx, en", "en"), ("", "en"), (None, "en")]
)
async def test_the_page_is_in_the_language_that_the_browser_likes_best(
    http: httpx2.AsyncClient, language: str | None, lang: str
) -> None:
    """Whatever comes before and after that header."""
    said = {} if language is None else {"accept-language": language}
    page = await http.get("/mcp", headers={**said, **NAVIGATION, "x-language": "fr"})
    assert f'<html lang="{lang}">' in page.text
    assert ("This is an MCP server" in page.text) is (lang == "en")
    assert int(page.headers["content-length"]) == len(page.content)
    assert page.headers["vary"] == "accept, accept-language"


async def test_the_page_names_the_address_that_the_browser_used(
    http: httpx2.AsyncClient, settings: Settings
) -> None:
    settings.FORCE_SCRIPT_NAME = "/app"
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    page = await http.get("/mcp", headers={**NAVIGATION, "x-forwarded-proto": "https"})
    assert ">https://testserver/app/mcp<" in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "text/event-stream"},
        {"accept": "text/html, text/event-stream"},
        {"accept": "*/*"},
        {"accept": "text/html, Text/Event-Stream;q=0.9"},
        {"accept": "text/html", "mcp-session-id": "x"},
        {"accept": "text/html", "mcp-protocol-version": "2025-11-25"},
    ],
)
async def test_a_client_gets_no_page(http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.get("/mcp", headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code >= 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"host": "<b>"}, 421), ({"origin": "https://evil.example"}, 403)],
)
async def test_what_is_refused_gets_no_page_either(
    http: httpx2.AsyncClient, headers: dict[str, str], status: int
) -> None:
    answer = await http.get("/mcp", headers=NAVIGATION | headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")


async def test_nothing_of_the_address_becomes_markup(http: httpx2.AsyncClient) -> None:
    with endpoint(PATH="<b>mcp", NAMESPACE="shop"):
        transport = httpx2.ASGITransport(with_mcp(django))
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as odd:
            page = await odd.get("/<b>mcp", headers=NAVIGATION)
    assert page.status_code == 200
    assert "<b>" not in page.text
    assert "&lt;b&gt;mcp" in page.text


async def test_the_page_says_how_to_authenticate_and_asks_for_no_credentials() -> None:
    with endpoint(AUTHENTICATION=["personal-token"], RESOURCE_URL="https://mcp.example.com/mcp"):
        transport = httpx2.ASGITransport(with_mcp(django))
        async with serving(), httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
            page = await http.get("/mcp", headers=NAVIGATION)
            refused = await http.post("/mcp", json={})
    assert page.status_code == 200
    assert "Send a personal access token in Authorization: Bearer." in page.text
    assert ">https://mcp.example.com/mcp<" in page.text
    assert refused.status_code == 401


async def test_a_project_without_templates_has_the_page_too(
    http: httpx2.AsyncClient, settings: Settings
) -> None:
    settings.TEMPLATES = []
    assert "This is an MCP server" in (await http.get("/mcp", headers=NAVIGATION)).text


async def test_a_template_of_the_project_replaces_the_page(
    http: httpx2.AsyncClient, settings: Settings
) -> None:
    loaders = [
        ("django.template.loaders.locmem.Loader", {"mcp_sessions/endpoint.html": "Ask Ann: {{ url }}"})
    ]
    settings.TEMPLATES = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders}}
    ]
    assert (await http.get("/mcp", headers=NAVIGATION)).text == "Ask Ann: http://testserver/mcp"
