"""The client's address, as trusted proxies tell it, and never as the client does."""

import pytest

from mcp_sessions.authentication.addresses import client_address, comes_from, networks_of

TRUSTED = ["10.0.0.0/8", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("connection", "forwarded", "found"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.3"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.5, 10.0.0.3"], "10.0.0.5"),
        ("10.0.0.1", ["unknown, 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["", " "], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("2001:db8:1::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
    ],
)
def test_the_header_is_read_from_its_end_as_far_as_trusted_proxies_wrote_it(
    connection: str, forwarded: list[str], found: str
) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"client": (connection, 1234), "headers": headers}
    assert client_address(scope, TRUSTED) == found
    assert client_address(scope, []) == connection.removeprefix("::ffff:")


@pytest.mark.parametrize("connection", [None, ("", 0), ("unix", None)])
def test_a_connection_without_an_address_has_none(connection: tuple[str, int] | None) -> None:
    scope = {"client": connection, "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
    assert client_address(scope, TRUSTED) is None


def test_a_network_that_is_written_as_ipv6_is_that_of_ipv4() -> None:
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
    assert client_address(scope, ["::ffff:10.0.0.0/104"]) == "198.51.100.7"
    assert client_address(scope, ["::ffff:11.0.0.0/104"]) == "10.0.0.1"
    assert client_address(scope, ["::ffff:0:0/96"]) == "198.51.100.7", "which is all of IPv4"
    for larger in ("::/0", "::fffe:0:0/95"):
        assert client_address(scope, [larger]) == "10.0.0.1", "which is of IPv6, and nothing else"


def test_a_connection_comes_from_where_its_address_is() -> None:
    networks = networks_of(("10.0.0.0/8", "192.0.2.1"))
    for connection, comes in (
        (("10.1.2.3", 1), True),
        (("192.0.2.1", 1), True),
        (("::ffff:10.0.0.1", 1), True),
        (("192.0.2.2", 1), False),
        (("unix", 1), False),
        (("", 0), False),
        (None, False),
    ):
        assert comes_from(connection, networks) is comes
