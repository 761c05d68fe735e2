"""The checks of how the project is served."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core import management

from mcp_sessions import routing
from mcp_sessions.checks import applications
from tests.checks.configurations import HERE, entry, found, ids, only

APPS = [app for app in settings.INSTALLED_APPS if app != "daphne"]


@pytest.fixture
def commands_anew() -> Iterator[None]:
    """Django remembers which app has which command."""
    cached: Any = management.get_commands
    cached.cache_clear()
    yield
    cached.cache_clear()


@pytest.mark.usefixtures("commands_anew")
@pytest.mark.parametrize("apps", [APPS, [app for app in APPS if "runserver" not in app]])
def test_a_runserver_that_cannot_serve_mcp_is_a_warning_that_says_what_to_install(apps: list[str]) -> None:
    message = only(found({"default": entry()}, INSTALLED_APPS=apps), "W021")
    assert "every request for an endpoint gets 404" in message.msg
    assert "Add 'daphne' to INSTALLED_APPS, above django.contrib.staticfiles." in str(message.hint)


@pytest.mark.usefixtures("commands_anew")
def test_the_order_of_daphne_among_the_apps_is_left_to_its_own_check() -> None:
    assert found({"default": entry()}, INSTALLED_APPS=[*APPS, "daphne"]) == []


def test_a_runserver_of_an_app_that_is_not_known_may_serve_the_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applications, "get_commands", lambda: {"runserver": "uvicorn_for_django"})
    assert found({"default": entry()}, INSTALLED_APPS=APPS) == []


@pytest.mark.usefixtures("commands_anew")
def test_a_project_without_endpoints_may_have_any_runserver() -> None:
    assert ids(found({}, INSTALLED_APPS=APPS)) == {"W009"}


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "ASGI_APPLICATION is not set"),
        ("mysite.asgi.application", "cannot be imported: ModuleNotFoundError: No module named 'mysite'"),
        (f"{HERE}.no_such_application", "cannot be imported: ImportError"),
    ],
)
def test_an_application_that_cannot_be_imported_is_a_warning_that_says_why(path: str, problem: str) -> None:
    message = only(found({"default": entry()}, ASGI_APPLICATION=path), "W022")
    assert problem in message.msg
    assert "with_mcp(get_asgi_application())" in str(message.hint)


def test_an_application_without_the_endpoints_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "used", set())
    message = only(found({"default": entry()}, ASGI_APPLICATION=f"{HERE}.pages"), "W022")
    assert "does not serve the endpoints: every request for one gets 404." in message.msg


def test_a_server_that_cannot_be_imported_is_said_once() -> None:
    """`asgi.py` imports it, too."""
    broken = {"default": entry(SERVER="no_such_package.server")}
    assert ids(found(broken, ASGI_APPLICATION="tests.checks.unstartable.application")) == {"E005"}


@pytest.mark.parametrize(("used", "expected"), [({"mcp_urlpatterns"}, {"W023"}), ({"with_mcp"}, set())])
def test_patterns_that_serve_over_plain_http_are_a_warning_where_django_redirects(
    monkeypatch: pytest.MonkeyPatch, used: set[str], expected: set[str]
) -> None:
    monkeypatch.setattr(routing, "used", used)
    assert ids(found({"default": entry()}, SECURE_SSL_REDIRECT=True)) == expected
    assert ids(found({"default": entry()}, SECURE_SSL_REDIRECT=False)) == set()


def test_endpoints_that_redirect_by_themselves_are_not_among_those_that_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "used", {"mcp_urlpatterns"})
    redirecting = entry(PATH="a", MIDDLEWARE=["mcp_sessions.middleware.HTTPSRedirect"])
    plain = {"shop": entry(PATH="shop"), "stock": entry(PATH="stock")}
    message = only(found({"default": redirecting, **plain}, SECURE_SSL_REDIRECT=True), "W023")
    assert "SECURE_SSL_REDIRECT does not apply to 'shop' and 'stock' in MCP_SESSIONS" in message.msg
    assert found({"default": redirecting}, SECURE_SSL_REDIRECT=True) == []


def test_where_nothing_serves_the_endpoints_nothing_is_said_of_redirects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "used", {"mcp_urlpatterns"})
    only(found({"default": entry()}, SECURE_SSL_REDIRECT=True, ASGI_APPLICATION=""), "W022")


def test_a_project_without_endpoints_is_not_asked_for_an_application() -> None:
    assert ids(found({}, ASGI_APPLICATION="")) == {"W009"}
