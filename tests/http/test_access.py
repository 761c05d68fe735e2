"""From where an endpoint may be used: what the Host and the Origin of a request decide."""

import pytest
from pytest_django import Settings

from mcp_sessions.conf import Endpoint
from mcp_sessions.http.access import host_allowed, origin_allowed, rejection
from mcp_sessions.transport import rejections

ENDPOINT = Endpoint(alias="default", server="no.server", allowed_origins=["https://app.example.com"])


@pytest.mark.parametrize(
    ("host", "allowed", "debug", "expected"),
    [
        (b"shop.example", ("shop.example",), False, True),
        (b"shop.example:8000", ("shop.example",), False, True),
        (b"a.shop.example", (".shop.example",), False, True),
        (b"evil.example", ("shop.example",), False, False),
        (b"", ("*",), False, False),
        (b"bad host", ("*",), False, False),
        (b"\xff", ("*",), False, False),
        (b"localhost", (), False, False),
        (b"localhost:8000", (), True, True),
        (b"a.localhost", (), True, True),
        (b"127.0.0.1", (), True, True),
        (b"[::1]:8000", (), True, True),
        (b"shop.example", (), True, False),
        (b"localhost", ("shop.example",), True, False),
    ],
)
def test_a_host_is_allowed_as_django_allows_it(
    host: bytes, allowed: tuple[str, ...], debug: bool, expected: bool
) -> None:
    assert host_allowed(host, allowed, debug) is expected


@pytest.mark.parametrize(
    ("origin", "hosts", "allowed", "expected"),
    [
        (b"https://shop.example", ("shop.example",), (), True),
        (b"http://shop.example", ("shop.example",), (), True),
        (b"ftp://shop.example", ("shop.example",), (), False),
        (b"https://shop.example:444", ("shop.example",), (), False),
        (b"https://evil.example", ("shop.example",), (), False),
        (b"https://evil.example", ("shop.example",), ("*",), True),
        (b"https://app.example", ("shop.example",), ("https://app.example",), True),
        (b"http://app.example", ("shop.example",), ("https://app.example",), False),
        (b"https://shop.example", ("*",), (), False),
        (b"https://shop.example", ("*",), ("https://shop.example",), True),
        (b"null", ("shop.example",), (), False),
        (b"null", ("shop.example",), ("null",), True),
    ],
)
def test_an_origin_is_allowed_that_is_listed_or_the_endpoints_own(
    origin: bytes, hosts: tuple[str, ...], allowed: tuple[str, ...], expected: bool
) -> None:
    assert origin_allowed(origin, b"shop.example", hosts, allowed) is expected


def test_a_request_is_refused_for_its_host_before_its_origin(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["shop.example"]
    good, evil = b"shop.example", b"evil.example"
    for headers, expected in (
        ({b"host": good}, None),
        ({b"host": good, b"origin": b"https://app.example.com"}, None),
        ({b"host": good, b"origin": b"https://evil.example"}, rejections.BAD_ORIGIN),
        ({b"host": evil, b"origin": b"https://evil.example"}, rejections.BAD_HOST),
        ({}, rejections.BAD_HOST),
    ):
        assert rejection(headers, ENDPOINT) is expected
