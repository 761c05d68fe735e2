"""Connections of redis-py's pools, as pipelines use them: taken seldom, and never one that the server has closed."""

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.connections.pipelines import IN_FLIGHT
from mcp_sessions.connections.round_trips import NoReply
from mcp_sessions.connections.server import NO_LIMIT

#: Seconds for which connections stay outside of redis-py's pool: to take one from it and give it back is a quarter of
#: what a call costs that travels alone. After that it goes through the pool, which may have credentials to renew.
KEEP: Final = 1.0


class PooledServer:
    """A server that redis-py has a pool of connections to; behind Sentinels, whichever is the primary."""

    together = True

    def __init__(self, pool: Any) -> None:
        options = pool.connection_kwargs
        self.name = _name(pool)
        self.seconds: float = options["socket_timeout"] or NO_LIMIT
        self.pool = pool
        #: Whether connections are kept: nobody waits for one in the pool, as somebody may in that of a Cluster's node,
        #: and redis-py, since version 8, can tell if one is closed.
        enough = pool.max_connections >= sum(IN_FLIGHT.values())
        self.keeps = self.together and enough and hasattr(AbstractConnection, "can_read")
        #: Connections that are kept; the last one was used last.
        self.kept: list[Any] = []
        #: Every connection, and until when it is kept.
        self._known: WeakKeyDictionary[AbstractConnection, float] = WeakKeyDictionary()
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
        self._outdated.update(self._known.keys())

    async def take(self) -> Any:
        """A connection that was open a moment ago; it has no timeout of its own.

        redis-py looks too, but since version 8 not where it expects maintenance notifications, as it does by default.
        Raises: one of `clients.REDIS_ERRORS`.
        """
        connection: Any = self.kept.pop() if self.kept else None
        if connection is not None and monotonic() > self._known[connection]:
            await self.pool.release(connection)
            connection = None
        if connection is None:
            connection = await self.pool.get_connection()
            self._known[connection] = monotonic() + KEEP
        try:
            stale = bool(self._outdated) and connection in self._outdated
            if not stale and hasattr(connection, "can_read"):  # before redis-py 8, its pool has looked
                try:
                    stale = await connection.can_read()  # closed, or with something that nobody asked for
                except (RedisError, OSError):
                    stale = True
            if stale:
                await connection.disconnect(nowait=True)
                await connection.connect()
                self._outdated.discard(connection)
        except BaseException:
            await self.pool.release(connection)
            raise
        connection.socket_timeout = None  # the timeout of the pipeline covers it
        return connection


class PooledConnection:
    """A connection of a pool, taken from one pipeline to the next as long as they follow each other.

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
        if connection is None:
            return
        if self._server.keeps:
            self._server.kept.append(connection)
        else:
            await self._server.pool.release(connection)

    async def _drop(self, connection: Any) -> None:
        """Close it: replies may still be on their way. What happened to it may have happened to the others."""
        self._server.renew()
        await connection.disconnect(nowait=True)
        self._connection = None
        await self._server.pool.release(connection)


def _name(pool: Any) -> str:
    """Where a pool's server is: a service of Sentinels, a path, or host and port."""
    options = pool.connection_kwargs
    service: str | None = getattr(pool, "service_name", None) or options.get("path")
    return service or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
