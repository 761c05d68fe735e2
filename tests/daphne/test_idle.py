"""The connections of a process that stops: each is looked at on its own, and nothing is taken from what has arrived."""

import socket
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mcp_sessions.daphne import idle  # isort: skip  # first: it chooses Twisted's reactor
from tests.daphne.test_steps import a_channel


def a_transport(waits: bytes = b"", *, requests: bool = False) -> Any:
    transport = mock.Mock(protocol=SimpleNamespace(_channel=a_channel(requests=requests)))
    transport.socket.recv.return_value = waits
    return transport


def test_every_idle_connection_is_closed_and_one_on_which_a_request_arrives_is_reported() -> None:
    busy, arriving, first, last = a_transport(requests=True), a_transport(b"G"), a_transport(), a_transport()
    reactor = SimpleNamespace(getReaders=lambda: [busy, first, arriving, busy, last])
    assert idle.close_idle_connections(reactor) is True
    closed = [each.protocol._channel.loseConnection.called for each in (busy, arriving, first, last)]
    assert closed == [False, False, True, True]
    arriving.socket.recv.assert_called_once_with(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    busy.socket.recv.assert_not_called()
