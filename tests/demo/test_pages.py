"""The demo's home page and the two probes."""

import pytest
from django.test import Client
from pytest_django import Settings

from project.catalogue.models import Book
from tests.support.processes import free_port


@pytest.fixture
def visitor() -> Client:
    """Somebody with a browser."""
    return Client()


@pytest.fixture
def silent_redis(settings: Settings) -> None:
    """Sessions are configured for a Redis that nobody started."""
    location = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}


@pytest.mark.django_db
def test_the_home_page_shows_the_address_to_paste_and_leads_to_the_admin(visitor: Client) -> None:
    page = visitor.get("/").content.decode()

    assert '<code id="url">http://testserver/mcp</code>' in page
    assert '"url": "http://testserver/mcp"' in page
    assert 'href="/admin/mcp_sessions/mcpsession/"' in page
    assert f"It has {Book.objects.count()} books." in page, "15, unless a test before emptied the database"


@pytest.mark.django_db
def test_the_home_page_of_another_server_does_not_describe_the_library(
    visitor: Client, settings: Settings
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "elsewhere.server", "PATH": "tools"}}

    page = visitor.get("/").content.decode()

    assert '<code id="url">http://testserver/tools</code>' in page
    assert "elsewhere.server" in page
    assert "books" not in page


def test_the_count_of_sessions_is_never_cached(visitor: Client) -> None:
    answer = visitor.get("/live")

    assert answer.json() == {"sessions": 0, "shared": False}
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.usefixtures("silent_redis")
def test_the_count_of_sessions_is_unknown_while_the_store_is_silent(visitor: Client) -> None:
    assert visitor.get("/live").json() == {"sessions": None, "shared": True}


@pytest.mark.usefixtures("silent_redis")
def test_a_process_is_alive_whatever_its_store_does(visitor: Client) -> None:
    answer = visitor.get("/healthz")

    assert (answer.status_code, answer.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_a_process_is_ready_when_its_database_and_its_store_answer(visitor: Client) -> None:
    answer = visitor.get("/readyz")

    assert (answer.status_code, answer.content) == (200, b"ready\n")


@pytest.mark.django_db
@pytest.mark.usefixtures("silent_redis")
def test_a_process_is_not_ready_while_its_store_is_silent(visitor: Client) -> None:
    answer = visitor.get("/readyz")

    assert answer.status_code == 503
    assert answer.content == b"The session store of the endpoint 'default' does not answer.\n"


@pytest.mark.django_db
def test_a_process_is_not_ready_while_its_database_is_silent(
    visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError, connection

    def cursor() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", cursor)

    answer = visitor.get("/readyz")

    assert answer.status_code == 503
    assert answer.content == b"The database 'default' does not answer.\n"


def test_the_admin_carries_the_name_of_the_demo(visitor: Client) -> None:
    assert "Library over MCP" in visitor.get("/admin/login/").content.decode()
