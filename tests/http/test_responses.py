"""Responses other than event streams, and where requests over plain HTTP are sent."""

import json
from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.http.headers import get_rejection, post_rejection, repetition
from mcp_sessions.http.responses import preflight, reject, respond, send_message, with_cors
from mcp_sessions.http.secure import redirect, scheme, secure_url
from mcp_sessions.transport import rejections


class Server:
    """What was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(each["body"] for each in self.sent[1:])


def test_a_page_may_send_the_headers_of_the_protocol_and_those_of_parameters() -> None:
    common = b"authorization, content-type, last-event-id, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"
    for requested, more in (
        (b"", b""),
        (b"x-other, Mcp-Param-B ,mcp-param-a", b", mcp-param-a, mcp-param-b"),
        (b"mcp-param-, mcp-param-a b, mcp-param-c\n, x-mcp-param-d", b", mcp-param-c"),
    ):
        headers = dict(preflight(requested))
        assert headers[b"access-control-allow-headers"] == common + more
    assert headers[b"access-control-allow-methods"] == b"GET, POST, DELETE"
    assert headers[b"allow"] == b"GET, POST, DELETE, OPTIONS"
    assert headers[b"access-control-max-age"] == b"86400"
    assert headers[b"vary"] == b"access-control-request-headers"


async def test_a_message_is_a_json_object_or_a_stream_of_one_event() -> None:
    for as_stream, kind in ((False, b"application/json"), (True, b"text/event-stream")):
        server = Server()
        await send_message(server.send, {"a": 1}, ((b"x", b"y"),), status=202, as_stream=as_stream)
        headers = dict(server.headers)
        assert (server.status, headers[b"content-type"], headers[b"x"]) == (202, kind, b"y")
        assert headers[b"content-length"] == b"%d" % len(server.body)
        assert server.body == (b'event: message\ndata: {"a":1}\n\n' if as_stream else b'{"a":1}')
    server = Server()
    await send_message(server.send, {})
    assert (server.status, dict(server.headers)[b"content-type"]) == (200, b"application/json")


async def test_a_response_without_a_body_says_so_where_it_might_have_one() -> None:
    for status, length in ((202, [(b"content-length", b"0")]), (204, [])):
        server = Server()
        await respond(server.send, status, ((b"x", b"y"),))
        assert (server.status, server.headers, server.body) == (status, [(b"x", b"y"), *length], b"")


async def test_a_page_of_an_allowed_origin_may_read_the_answer() -> None:
    server = Server()
    await reject(with_cors(server.send, b"https://app.example"), rejections.BLOCKED)
    assert json.loads(server.body)["error"]["code"] == -32600
    assert "headers" not in server.sent[1], "a part of a body has none"
    assert server.headers[: len(rejections.BLOCKED.headers)] == rejections.BLOCKED.headers
    assert server.headers[len(rejections.BLOCKED.headers) :] == [
        (b"access-control-allow-origin", b"https://app.example"),
        (b"access-control-expose-headers", b"mcp-session-id, www-authenticate"),
        (b"vary", b"origin"),
    ]


def a_scope(**changes: Any) -> dict[str, Any]:
    return {
        "scheme": "http",
        "path": "/app/mcp",
        "query_string": b"",
        "headers": [(b"host", b"shop.example")],
        **changes,
    }


def test_plain_http_is_sent_to_the_same_address_over_https(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["shop.example"]
    assert secure_url(a_scope()) == "https://shop.example/app/mcp"
    assert secure_url(a_scope(query_string=b"a=1&b")) == "https://shop.example/app/mcp?a=1&b"
    assert secure_url(a_scope(scheme="https")) is None
    assert secure_url(a_scope(headers=[(b"host", b"evil.example")])) is None
    settings.SECURE_REDIRECT_EXEMPT = ["^other", "^app/mcp$"]
    assert secure_url(a_scope()) is None
    assert secure_url(a_scope(path="/app/mcp/x")) is not None
    settings.SECURE_SSL_HOST = "secure.example"
    assert secure_url(a_scope(path="/x")) == "https://secure.example/x"


def test_only_a_proxy_that_the_settings_name_is_believed(settings: Settings) -> None:
    said = {b"x-forwarded-proto": "https"}
    assert scheme(a_scope(), said) == "http"
    assert scheme({}, {}) == "http"
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert scheme(a_scope(), said) == "https"
    assert scheme(a_scope(), {b"x-forwarded-proto": " https , http"}) == "https"
    assert scheme(a_scope(scheme="https"), {b"x-forwarded-proto": "http, https"}) == "http"
    assert scheme(a_scope(scheme="https"), {}) == "https"


async def test_a_redirection_keeps_the_method() -> None:
    server = Server()
    await redirect(server.send, "https://shop.example/mcp")
    assert (server.status, server.headers[0]) == (308, (b"location", b"https://shop.example/mcp"))


@pytest.mark.parametrize(
    ("content_type", "accept", "json_only", "expected"),
    [
        (b"application/json", b"application/json, text/event-stream", False, None),
        (b"Application/JSON ; charset=utf-8", b"*/*", False, None),
        (b"application/json", b"application/json", False, rejections.NOT_ACCEPTABLE),
        (b"application/json", b"application/json", True, None),
        (b"application/json", b"text/event-stream", True, rejections.NOT_ACCEPTABLE),
        (b"application/jsonp", b"*/*", False, rejections.NOT_JSON),
        (b"", b"*/*", False, rejections.NOT_JSON),
    ],
)
def test_a_post_says_what_it_sends_and_takes(
    content_type: bytes, accept: bytes, json_only: bool, expected: Any
) -> None:
    assert post_rejection(content_type, accept, json_only=json_only) is expected


def test_a_get_takes_event_streams() -> None:
    assert get_rejection(b"text/event-stream") is None
    assert get_rejection(b"application/json") is rejections.NOT_ACCEPTABLE_STREAM


def test_a_header_that_must_be_unique_is_refused_twice() -> None:
    host, via = (b"host", b"a"), (b"via", b"x")
    assert repetition([host, via, via]) is None
    assert repetition([host, via, host]) is rejections.REPEATED_HEADER
