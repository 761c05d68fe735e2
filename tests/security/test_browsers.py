"""What a page may do: CORS for allowed origins, hosts by ALLOWED_HOSTS, and no cookies unless `session` is chosen."""

import httpx2
import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from mcp_sessions.testing import url_of
from tests.authentication.ways import login
from tests.security.conftest import opened, ping
from tests.support.mcp_client import RawClient

ALLOWED = "https://app.example.com"
OWN = "http://testserver"
EVIL = "http://evil.example"


def cors(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control")}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("origin", [EVIL, "null", "https://app.example.com.evil.example", f"{ALLOWED}/", "*"])
async def test_a_page_of_another_origin_is_refused_and_told_nothing(
    http: httpx2.AsyncClient, origin: str, method: str
) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    headers = RawClient(token="ann-1").headers(origin=origin) | asks
    answer = await http.request(method, url_of(), headers=headers)
    assert answer.status_code == 403
    assert cors(answer) == {}


@pytest.mark.parametrize("origin", [ALLOWED, OWN])
async def test_a_page_of_an_allowed_origin_reads_its_answers_and_sends_no_cookies(
    http: httpx2.AsyncClient, origin: str
) -> None:
    asked = await http.options(url_of(), headers={"origin": origin, "access-control-request-method": "POST"})
    assert asked.status_code == 204
    client = RawClient(token="ann-1")
    answer = await http.post(
        url_of(), json=client.initialize_message(), headers=client.headers(origin=origin)
    )
    refused = await http.post(url_of(), headers={"origin": origin})
    assert (answer.status_code, refused.status_code) == (200, 401)
    for each in (asked, answer, refused):
        assert each.headers["access-control-allow-origin"] == origin
        assert "origin" in each.headers["vary"]
        # Without it, browsers do not let a page of another origin read what came with cookies.
        assert "access-control-allow-credentials" not in each.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "testserver@evil.example", "", "[::1"]
)
async def test_a_host_that_is_not_allowed_is_refused(http: httpx2.AsyncClient, host: str) -> None:
    answer = await http.post(url_of(), headers=RawClient(token="ann-1").headers(host=host))
    assert answer.status_code == 421
    if host:
        assert host not in str(answer.headers) + answer.text


async def test_where_any_host_is_allowed_none_makes_an_origin_the_endpoints_own(
    http: httpx2.AsyncClient, settings: Settings
) -> None:
    """DNS rebinding: the name of an attacker leads to this address, and its page sends the request."""
    settings.ALLOWED_HOSTS = ["*"]
    client = RawClient(token="ann-1")
    rebound = client.headers(host="evil.example", origin=EVIL)
    answer = await http.post(url_of(), json=client.initialize_message(), headers=rebound)
    assert answer.status_code == 403
    assert cors(answer) == {}
    listed = client.headers(host="evil.example", origin=ALLOWED)
    assert (await http.post(url_of(), json=client.initialize_message(), headers=listed)).status_code == 200
    assert await ping(http, await opened(http)) == 200, "who is no browser has no origin"


@pytest.mark.django_db(transaction=True)
async def test_a_cookie_is_worth_nothing_unless_logins_are_chosen(http: httpx2.AsyncClient) -> None:
    cookie = dict(await sync_to_async(login)())
    client = RawClient()
    answer = await http.post(url_of(), json=client.initialize_message(), headers=client.headers() | cookie)
    assert answer.status_code == 401
