"""MIDDLEWARE: what is around an endpoint, in which order, and what is said of a wrong one."""

import re
from typing import Any

import pytest
from channels.routing import URLRouter
from django.core.exceptions import ImproperlyConfigured
from django.urls import re_path

from mcp_sessions.http.endpoint import MCPEndpoint
from mcp_sessions.routing import mcp_urlpatterns, with_mcp
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send
from tests.checks.configurations import entry, found, only
from tests.routing.test_routing import django, post
from tests.support.asgi import endpoint

HERE = "tests.middleware.test_setting"


def adding(name: bytes) -> Any:
    """Middleware that adds itself to a header of requests and to one of responses."""

    def make(application: Application) -> Application:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-passed", name)]
                await send(message)

            await application(scope, receive, tell)

        return middleware

    return make


first, second = adding(b"first"), adding(b"second")


def refusing(_: Application) -> Application:
    """Lets nothing pass."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return middleware


def failing(_: Application) -> Application:
    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("middleware of yours")

    return middleware


def needs_more(application: Application, secret: str) -> Application:
    return application


def makes_nothing(application: Application) -> None:
    """Forgets to return."""


@pytest.mark.parametrize(
    "site",
    [
        lambda: with_mcp(django),
        lambda: URLRouter([*mcp_urlpatterns(), re_path("", django)]),  # type: ignore[arg-type] # no views
        lambda: MCPEndpoint.as_asgi("default"),
    ],
)
async def test_the_first_is_the_outermost_however_the_endpoint_is_served(site: Any) -> None:
    with endpoint(MIDDLEWARE=[f"{HERE}.first", f"{HERE}.second"]):
        answer = await post(site(), "http://testserver/mcp")
    assert answer.status_code == 200
    assert answer.headers["x-passed"] == "second, first"


async def test_it_is_around_what_the_endpoint_refuses_and_not_around_django() -> None:
    with endpoint(MIDDLEWARE=[f"{HERE}.refusing"]):
        site = with_mcp(django)
        assert (await post(site, "http://testserver/mcp")).status_code == 418
        assert (await post(site, "http://evil.example/mcp")).status_code == 418
        assert (await post(site, "http://testserver/other")).headers["x-path"] == "/other"


@pytest.mark.logs_fault("middleware of yours")
async def test_an_exception_of_middleware_is_answered_and_does_not_reach_the_server() -> None:
    with endpoint(MIDDLEWARE=[f"{HERE}.failing"]):
        assert (await post(with_mcp(django), "http://testserver/mcp")).status_code == 500


WRONG = [
    (f"{HERE}.no_such_thing", 'does not define a "no_such_thing"'),
    ("no_such_package.Middleware", "No module named 'no_such_package'"),
    (f"{HERE}.needs_more", "is not a callable that takes an ASGI application: "),
    (f"{HERE}.HERE", "is not a callable that takes an ASGI application: "),
    (f"{HERE}.makes_nothing", "made None of the ASGI application, which is none."),
]


@pytest.mark.parametrize("make", [lambda: with_mcp(django), mcp_urlpatterns])
@pytest.mark.parametrize(("path", "reason"), WRONG)
def test_wrong_middleware_stops_the_start(make: Any, path: str, reason: str) -> None:
    said = re.escape(f"MCP_SESSIONS['default']['MIDDLEWARE']: {path!r} ") + ".*" + re.escape(reason)
    with endpoint(MIDDLEWARE=[path]), pytest.raises(ImproperlyConfigured, match=said):
        make()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        *WRONG,
        (
            "tests.checks.configurations.unprepared",
            "MCP_SESSIONS['default']['MIDDLEWARE']: RuntimeError: no connection to the directory",
        ),
    ],
)
def test_a_check_says_the_same_beforehand(path: str, reason: str) -> None:
    message = only(found({"default": entry(MIDDLEWARE=[path])}), "E021")
    assert reason in message.msg


def test_good_middleware_is_no_error() -> None:
    ours = ["mcp_sessions.middleware.RequestId", "mcp_sessions.middleware.HTTPSRedirect", f"{HERE}.first"]
    assert found({"default": entry(MIDDLEWARE=ours)}) == []
