"""A request for an endpoint that Django gets instead is said in the log, once."""

import asyncio

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory
from pytest_django import Settings

from mcp_sessions import misrouted
from mcp_sessions.documentation import page
from mcp_sessions.transport.asgi import Message
from tests.support.asgi import endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def told_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misrouted, "_told", set())


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == misrouted.__name__]


def over_wsgi(path: str) -> None:
    WSGIHandler()(RequestFactory().post(path).environ, lambda *_: None)  # type: ignore[arg-type] # start_response


async def over_asgi(path: str, root_path: str = "") -> None:
    scope: dict[str, object] = {"type": "http", "method": "POST", "path": path, "root_path": root_path}
    scope |= {"headers": [(b"host", b"testserver")]}
    sent: list[Message] = []

    asked: list[Message] = [{"type": "http.request"}]

    async def receive() -> Message:
        return asked.pop() if asked else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    await ASGIHandler()(scope, receive, send)  # type: ignore[arg-type] # it has types of its own for ASGI
    assert sent[0]["status"] in (400, 404)


def test_a_request_over_wsgi_is_said_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint(PATH="tools/mcp"):
        for path in ("/", "/tools/mcpx", "/tools/mcp", "/tools/mcp/"):
            over_wsgi(path)
    [said] = warnings_in(caplog)
    assert "'default' reached Django over WSGI, which cannot serve it." in said
    assert "add 'daphne' to INSTALLED_APPS" in said
    assert said.endswith(page("troubleshooting", "404"))


async def test_a_request_that_the_asgi_application_does_not_route_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with endpoint():
        await over_asgi("/app/mcp", root_path="/app")
    [said] = warnings_in(caplog)
    assert "use mcp_sessions.routing.with_mcp() in asgi.py" in said


def test_wrong_settings_do_not_keep_django_from_its_pages(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MCP_SESSIONS = {"default": {"SEVER": "shop.mcp.server"}}
    over_wsgi("/mcp")
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    ("scope", "is_ours"),
    [
        ({"path": "/mcp"}, True),
        ({"path": "/app/mcp", "root_path": "/app"}, True),
        ({"path": "/mcp", "root_path": "/app"}, True),
        ({"path": "/app/mcp"}, False),
        ({"path": "/"}, False),
    ],
)
def test_a_request_is_for_an_endpoint_below_the_root_path(
    caplog: pytest.LogCaptureFixture, scope: dict[str, str], *, is_ours: bool
) -> None:
    with endpoint():
        misrouted._look(scope=scope, sender=None)
    assert len(warnings_in(caplog)) == is_ours


def test_a_request_of_which_nothing_is_known_is_for_no_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint():
        misrouted._look()
        misrouted._look(environ={})
    assert warnings_in(caplog) == []
