"""Connections of any thread: which are closed, and which are used again."""

from unittest import mock

import pytest
from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

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


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_connection_without_a_reply_is_closed(count: int) -> None:
    replies = [b"PONG"] * count
    client, connection = played(*replies, error := RedisTimeoutError("late"))
    found = execute(client, [("PING",)] * 3)
    assert found[:count] == replies
    assert [(reply.cause, reply.sent) for reply in found[count:]] == [(error, True)] * (3 - count)
    connection.disconnect.assert_called_once_with()
    client.connection_pool.release.assert_called_once_with(connection)


@pytest.mark.parametrize("replies", [[KeyboardInterrupt], [b"PONG", KeyboardInterrupt]])
def test_a_connection_whose_caller_is_interrupted_is_closed(replies: list[object]) -> None:
    client, connection = played(*replies)
    with pytest.raises(KeyboardInterrupt):
        execute(client, COMMANDS)
    connection.disconnect.assert_called_once_with()
    client.connection_pool.release.assert_called_once_with(connection)


DEMOTED = ReadOnlyError("You can't write against a read only replica.")


@pytest.mark.parametrize("second", [b"PONG", ResponseError("wrong")])
def test_a_connection_to_what_is_a_replica_now_is_closed(second: object) -> None:
    for replies in ([DEMOTED, second], [second, DEMOTED]):
        client, connection = played(*replies)
        assert execute(client, COMMANDS) == replies
        connection.disconnect.assert_called_once_with()
        client.connection_pool.release.assert_called_once_with(connection)


def test_commands_are_sent_in_one_piece() -> None:
    client, connection = played(b"PONG", b"PONG")
    execute(client, COMMANDS)
    connection.send_packed_command.assert_called_once_with([pack_command(("PING",)) * 2])


def test_what_is_not_sent_completely_may_have_been_done() -> None:
    client, connection = played()
    connection.send_packed_command.side_effect = error = RedisConnectionError("broken")
    replies = execute(client, COMMANDS)
    assert [(reply.cause, reply.sent) for reply in replies] == [(error, True)] * 2
    connection.disconnect.assert_called_once_with()


def test_without_a_connection_nothing_was_sent() -> None:
    client, connection = played()
    client.connection_pool.get_connection.side_effect = error = RedisConnectionError("refused")
    replies = execute(client, COMMANDS)
    assert [(reply.cause, reply.sent) for reply in replies] == [(error, False)] * 2
    client.connection_pool.release.assert_not_called()
    connection.send_packed_command.assert_not_called()


@pytest.mark.parametrize("sign", [[True], RedisError("closed"), OSError("closed")])
def test_a_connection_that_was_closed_meanwhile_is_opened_again_before_it_is_used(sign: object) -> None:
    client, connection = played(b"PONG", b"PONG")
    connection.can_read.side_effect = sign
    assert execute(client, COMMANDS) == [b"PONG", b"PONG"]
    names = [call[0] for call in connection.mock_calls]
    assert names == ["can_read", "disconnect", "connect", "send_packed_command", *["read_response"] * 2]
    client.connection_pool.release.assert_called_once_with(connection)


def test_a_connection_that_cannot_be_opened_again_is_given_back() -> None:
    client, connection = played()
    connection.can_read.return_value = True
    connection.connect.side_effect = error = RedisConnectionError("refused")
    replies = execute(client, COMMANDS)
    assert [(reply.cause, reply.sent) for reply in replies] == [(error, False)] * 2
    client.connection_pool.release.assert_called_once_with(connection)
