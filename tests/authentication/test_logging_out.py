"""Who logs out on a real site ends what their pages and programs have open, and what they would send next."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx2
import pytest

from tests.oauth.conftest import prepare
from tests.oauth.person import Person, fields_of
from tests.support.mcp_client import META, MODERN, RawClient
from tests.support.processes import Process, daphne, started
from tests.support.redis import RedisServer

pytestmark = pytest.mark.slow

#: Seconds within which a stream ends after the logout, as docs/authentication.md has it.
BOUND: Final = 15.0


@pytest.fixture(scope="module")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = daphne("logins", tmp_path_factory.mktemp("logins"), REDIS_URL=redis_server.url)
    process.environment["DJANGO_SETTINGS_MODULE"] = "tests.served.logins_site"
    prepare(process)
    with started([process]):
        yield process


@contextmanager
def streams(client: RawClient, url: str) -> Iterator[list[httpx2.Response]]:
    """The standalone stream of a new session, and a listener of the modern era."""
    client.initialize(url)
    listens = "subscriptions/listen"
    wanted = client.request(listens, {"notifications": {"toolsListChanged": True}, "_meta": META})
    other = RawClient(path=client.path, http=client.http)
    with (
        client.get(url) as stream,
        other.stream(url, wanted, mcp_protocol_version=MODERN, mcp_method=listens) as listener,
    ):
        assert (stream.status_code, listener.status_code) == (200, 200)
        yield [stream, listener]


def end_in_time(opened: list[httpx2.Response]) -> None:
    begun = time.monotonic()
    for each in opened:
        each.read()
    assert time.monotonic() - begun < BOUND


def test_who_logs_out_of_the_site_leaves_nothing_open(site: Process) -> None:
    with Person("ann") as ann:
        page = ann.open(f"{site.url}/admin/")
        ann.browser.headers["origin"] = site.url
        client = RawClient(path="/session", http=ann.browser)
        with streams(client, site.url) as opened:
            assert client.post(site.url, client.request("ping")).status_code == 200
            token = fields_of(page)["csrfmiddlewaretoken"]
            said = ann.browser.post(f"{site.url}/admin/logout/", data={"csrfmiddlewaretoken": token})
            assert said.status_code == 200
            assert client.post(site.url, client.request("ping")).status_code == 401
            end_in_time(opened)


def test_who_gives_a_token_back_leaves_nothing_open(site: Process) -> None:
    with httpx2.Client(timeout=30) as http:
        account = {"username": "bob", "password": "bob's password"}
        token = http.post(f"{site.url}/login/", data=account).json()["token"]
        http.headers["authorization"] = f"Token {token}"
        client = RawClient(path="/drf", http=http)
        with streams(client, site.url) as opened:
            assert client.post(site.url, client.request("ping")).status_code == 200
            assert http.post(f"{site.url}/logout/").status_code == 204
            assert client.post(site.url, client.request("ping")).status_code == 401
            end_in_time(opened)
