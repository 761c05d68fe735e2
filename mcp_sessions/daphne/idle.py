"""Idle connections of a process that stops: nobody may send one more request on them."""

import socket
from collections.abc import Iterator
from typing import Any

from twisted.web.http import HTTPChannel


def close_idle_connections(reactor: Any) -> bool:
    """Close connections without a request. Whether there are some on which one has begun to arrive; these stay open.

    Clients, and proxies with their pools, connect elsewhere then. What cannot be helped is a request that is under way
    in the network at this moment.
    """
    arriving = False
    for transport, channel in list(_open_channels(reactor)):
        if channel.requests:
            continue
        if _has_data(transport):
            arriving = True
        else:
            channel.loseConnection()  # type: ignore[no-untyped-call]  # Twisted has few type hints
    return arriving


def _open_channels(reactor: Any) -> Iterator[tuple[Any, HTTPChannel]]:
    """The HTTP/1.1 connections that are read, with their transports."""
    for transport in reactor.getReaders():
        protocol = getattr(transport, "protocol", None)
        protocol = getattr(protocol, "wrappedProtocol", protocol)  # below TLS
        channel = getattr(protocol, "_channel", None)  # Twisted chooses it after the handshake of TLS
        if isinstance(channel, HTTPChannel):
            yield transport, channel


def _has_data(transport: Any) -> bool:
    """Whether bytes wait in the system that nobody has read."""
    try:
        return bool(transport.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
