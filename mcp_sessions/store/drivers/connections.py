"""Connections to Redis for the pipelines of one event loop, checked before they are used."""

from collections.abc import Sequence
from typing import Any, Final, Protocol
from weakref import WeakSet

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from mcp_sessions.store.clients import REDIS_ERRORS
from mcp_sessions.store.drivers.round_trips import NoReply

#: Seconds that calls may take where SOCKET_TIMEOUT is None: for ever, nearly.
_NO_LIMIT: Final = 86_400.0


class Connection(Protocol):
    """Carries one pipeline after the other. It may be cancelled at any moment, and is usable afterwards."""

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The reply of each command; in the place of a reply an error reply, or `NoReply`."""
        ...

    async def release(self) -> None:
        """Give back what it holds; the next pipeline takes it again."""
        ...


class Server(Protocol):
    """A Redis as the pipelines to it see it."""

    #: For the log: where it is.
    name: str
    #: Seconds that a call may take from its submission.
    seconds: float
    #: Whether all keys are in one place.
    together: bool

    def connection(self) -> Connection:
        """A connection for one pipeline at a time; nothing connects yet."""
        ...

    async def probe(self) -> None:
        """Wait for any answer, on a connection of its own. Raises: one of `clients.REDIS_ERRORS`."""
        ...

    def renew(self) -> None:
        """Use no connection again that is idle now."""
        ...


class PooledServer:
    """A server that redis-py has a pool of connections to; behind Sentinels, whichever is the primary."""

    together = True

    def __init__(self, pool: Any) -> None:
        options = pool.connection_kwargs
        self.name = _name(pool)
        self.seconds: float = options["socket_timeout"] or _NO_LIMIT
        self.pool = pool
        self._known: WeakSet[AbstractConnection] = WeakSet()
        self._outdated: WeakSet[AbstractConnection] = WeakSet()

    def connection(self) -> "PooledConnection":
        return PooledConnection(self)

    async def probe(self) -> None:
        connection = self.pool.make_connection()
        try:
            await connection.connect()
            await connection.send_command("PING")
            await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    def renew(self) -> None:
        self._outdated.update(self._known)

    async def take(self) -> Any:
        """A connection that was open a moment ago; it has no timeout of its own.

        redis-py looks too, but since version 8 not where it expects maintenance notifications, as it does by default.
        Raises: one of `clients.REDIS_ERRORS`.
        """
        connection: Any = await self.pool.get_connection()
        try:
            if (self._outdated and connection in self._outdated) or await _is_stale(connection):
                await connection.disconnect(nowait=True)
                await connection.connect()
                self._outdated.discard(connection)
        except BaseException:
            await self.pool.release(connection)
            raise
        if connection not in self._known:
            self._known.add(connection)
        connection.socket_timeout = None  # the timeout of the pipeline covers it
        return connection


class PooledConnection:
    """A connection of a pool, kept from one pipeline to the next as long as they follow each other.

    redis-py's own pipeline takes a connection each time, sets a timer for every reply and packs in Python: several
    times what all else on the path of a request costs.
    """

    def __init__(self, server: PooledServer) -> None:
        self._server = server
        self._connection: Any = None

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        packed = [pack_command(tuple(command)) for command in commands]
        connection = self._connection
        if connection is None:
            try:
                connection = self._connection = await self._server.take()
            except REDIS_ERRORS as error:
                return [NoReply(error, sent=False)] * len(commands)
        replies: list[Any] = []
        try:
            await connection.send_packed_command(packed)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except REDIS_ERRORS as error:
            await self._drop(connection)
            replies += [NoReply(error, sent=True)] * (len(commands) - len(replies))
        except BaseException:
            await self._drop(connection)
            raise
        return replies

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._server.pool.release(connection)

    async def _drop(self, connection: Any) -> None:
        """Close it: replies may still be on their way. What happened to it may have happened to the others."""
        self._server.renew()
        await connection.disconnect(nowait=True)
        await self.release()


async def _is_stale(connection: Any) -> bool:
    """Whether the server has closed it, or something came that nobody asked for."""
    can_read = getattr(connection, "can_read", None)
    if can_read is None:  # before redis-py 8, whose pool has looked
        return False
    try:
        return bool(await can_read())
    except (RedisError, OSError):
        return True


def _name(pool: Any) -> str:
    """Where a pool's server is: a service of Sentinels, a path, or host and port."""
    options = pool.connection_kwargs
    service: str | None = getattr(pool, "service_name", None) or options.get("path")
    return service or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
