"""Connections of any thread: which are closed, and which are used again."""

from unittest import mock

import pytest
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.round_trips import NoReply
from mcp_sessions.connections.sync_connections import execute

COMMANDS = [("PING",), ("PING",)]


def played(*replies: object) -> tuple[mock.Mock, mock.Mock]:
    """A client whose one connection gets these replies, and that connection."""
    connection = mock.Mock()
    connection.can_read.return_value = False
    connection.read_response.side_effect = replies
    client = mock.Mock()
    client.connection_pool.get_connection.return_value = connection
    return client, connection


def test_a_connection_with_all_replies_is_used_again_whatever_they_say() -> None:
    client, connection = played(b"PONG", failed := ResponseError("wrong"))
    assert execute(client, COMMANDS) == [b"PONG", failed]
    connection.disconnect.assert_not_called()
    client.connection_pool.release.assert_called_once_with(connection)


def test_a_connection_without_a_reply_is_closed() -> None:
    client, connection = played(b"PONG", RedisTimeoutError("late"))
    first, second = execute(client, COMMANDS)
    assert first == b"PONG"
    assert isinstance(second, NoReply)
    assert second.sent
    connection.disconnect.assert_called_once_with()
    client.connection_pool.release.assert_called_once_with(connection)


@pytest.mark.parametrize("replies", [[KeyboardInterrupt], [b"PONG", KeyboardInterrupt]])
def test_a_connection_whose_caller_is_interrupted_is_closed(replies: list[object]) -> None:
    client, connection = played(*replies)
    with pytest.raises(KeyboardInterrupt):
        execute(client, COMMANDS)
    connection.disconnect.assert_called_once_with()
    client.connection_pool.release.assert_called_once_with(connection)


def test_a_connection_to_what_is_a_replica_now_is_closed() -> None:
    client, connection = played(ReadOnlyError("You can't write against a read only replica."), b"PONG")
    execute(client, COMMANDS)
    connection.disconnect.assert_called_once_with()
