"""Connections of redis-py for the calls of any thread, checked before they are used."""

from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.connections.round_trips import Commands, NoReply, Steps, says_demoted


def replies_of(steps: Steps, execute: Callable[[Commands], list[Any]]) -> list[Any]:
    """What the steps end with, a reply for each job."""
    try:
        commands = next(steps)
        while True:
            commands = steps.send(execute(commands))
    except StopIteration as stop:
        done: list[Any] = stop.value
        return done


def execute(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """As `connections.Connection.execute`. redis-py's pipelines do not tell what was sent when a connection breaks."""
    pool: Any = client.connection_pool
    # In one piece, because redis-py sends each of several with a system call of its own.
    packed = b"".join(pack_command(tuple(command)) for command in commands)
    try:
        connection = _take(pool)
    except REDIS_ERRORS as error:
        return [NoReply(error, sent=False)] * len(commands)
    replies: list[Any] = []
    is_demoted = False
    try:
        connection.send_packed_command([packed])
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
                is_demoted = is_demoted or says_demoted(error)
    except REDIS_ERRORS as error:
        replies += [NoReply(error, sent=True)] * (len(commands) - len(replies))
    finally:
        if len(replies) < len(commands) or isinstance(replies[-1], NoReply) or is_demoted:
            connection.disconnect()  # replies may still be on their way, or another server is the primary
        pool.release(connection)
    return replies


def _take(pool: Any) -> Any:
    """A connection that was open a moment ago, as `pipelines.PooledServer.take` does."""
    connection = pool.get_connection()
    try:
        if _is_stale(connection):
            connection.disconnect()
            connection.connect()
    except BaseException:
        pool.release(connection)
        raise
    return connection


def _is_stale(connection: Any) -> bool:
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True
