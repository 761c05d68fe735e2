"""Where a request comes from: the client's address, as trusted proxies tell it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORWARDED: Final = b"x-forwarded-for"


def client_address(scope: Mapping[str, Any], trusted: Sequence[str]) -> str | None:
    """The address of the client; None if the connection has none, as one through a Unix socket.

    That is the connection's own address, unless it is a proxy in `trusted` (TRUSTED_PROXIES). Each such proxy appends
    to `X-Forwarded-For` whom it has the request from, so the header is read from its end, and only for as long as a
    trusted proxy has written it: what a client writes there itself is never believed.
    """
    connection = scope.get("client")
    address = parsed(connection[0]) if connection else None
    if address is None or not trusted:
        return None if address is None else str(address)
    networks = networks_of(tuple(trusted))
    hops = [hop for name, value in scope["headers"] if name == _FORWARDED for hop in value.split(b",")]
    while hops and is_within(address, networks):
        before = parsed(hops.pop().decode("latin-1"))
        if before is None:
            break
        address = before
    return str(address)


@lru_cache(maxsize=64)
def networks_of(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks that these texts name; an IPv4 network that is written as IPv6 is IPv4. Raises: ValueError."""
    return tuple(map(_network, texts))


def _network(text: str) -> Network:
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    # One that is larger than ::ffff:0:0/96 has other addresses, too, and does not begin with one of these.
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


@lru_cache(maxsize=4096)
def parsed(text: str) -> Address | None:
    """The address that a text is, with or without a port; an IPv4 address that is written as IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address belongs to one of these networks."""
    return any(address in network for network in networks)


def comes_from(connection: Any, networks: Sequence[Network]) -> bool:
    """Whether a connection, as ASGI describes it, comes from one of these networks."""
    address = parsed(connection[0]) if connection else None
    return address is not None and is_within(address, networks)
