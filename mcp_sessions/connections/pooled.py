"""Connections of redis-py's pools, as pipelines use them."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

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
        #: Whether connections are kept: the pool has more than the pipelines use, for those who look who serves what
        #: in a Cluster, and redis-py, since version 8, can tell if one is closed.
        self.keeps = pool.max_connections > sum(IN_FLIGHT.values()) and hasattr(
            AbstractConnection, "can_read"
        )
        #: Connections that are kept; the last one was used last.
        self.kept: list[Taken] = []
        #: How often connections were renewed, and after how many of these each was opened.
        self._renewals = 0
        self._opened: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()

    def connection(self) -> "PooledConnection":
        return PooledConnection(self)

    async def probe(self) -> None:
        connection = self.pool.make_connection()
        try:
            await connection.connect()
            # A script, as calls are: a server whose writes are paused (CLIENT PAUSE, a failover) still answers PING.
            await connection.send_command("EVAL", "return 1", 0)
            await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    def renew(self) -> None:
        self._renewals += 1

    async def give_back(self) -> None:
        """Keep no connection."""
        while self.kept:
            await self.pool.release(self.kept.pop().connection)

    async def take(self) -> "Taken":
        """A connection that was open a moment ago; it has no timeout of its own.

        redis-py looks too, but since version 8 not where it expects maintenance notifications, as it does by default.
        Raises: one of `clients.REDIS_ERRORS`.
        """
        taken = self.kept.pop() if self.kept else None
        if taken is not None and monotonic() > taken.until:
            await self.pool.release(taken.connection)
            taken = None
        if taken is None:
            fresh = await self.pool.get_connection()
            taken = Taken(fresh, monotonic() + KEEP, self._opened.setdefault(fresh, self._renewals))
        connection = taken.connection
        try:
            stale = taken.renewals != self._renewals
            if not stale and hasattr(connection, "can_read"):  # before redis-py 8, its pool has looked
                try:
                    stale = await connection.can_read()  # closed, or with something that nobody asked for
                except (RedisError, OSError):
                    stale = True
            if stale:
                await connection.disconnect(nowait=True)
                taken.renewals = self._opened[connection] = self._renewals
                await connection.connect()
        except BaseException:
            await self.pool.release(connection)
            raise
        connection.socket_timeout = None  # the timeout of the pipeline covers it
        return taken


@dataclass(slots=True, eq=False)
class Taken:
    """A connection outside of its pool."""

    connection: Any
    #: Until when it may be kept, by the monotonic clock.
    until: float
    #: How often the connections to its server had been renewed when it was opened.
    renewals: int


class PooledConnection:
    """A connection of a pool, taken from one pipeline to the next as long as they follow each other.

    redis-py's own pipeline takes a connection each time, sets a timer for every reply and packs in Python: several
    times what all else on the path of a request costs.
    """

    #: Whether it may stay outside of the pool when it is released.
    stays = True

    def __init__(self, server: PooledServer) -> None:
        self._server = server
        self._taken: Taken | None = None

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        packed = [pack_command(tuple(command)) for command in commands]
        if self._taken is None:
            try:
                self._taken = await self._server.take()
            except REDIS_ERRORS as error:
                return [NoReply(error, sent=False)] * len(commands)
        connection = self._taken.connection
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
        taken, self._taken = self._taken, None
        if taken is None:
            return
        if self.stays and self._server.keeps:
            self._server.kept.append(taken)
        else:
            await self._server.pool.release(taken.connection)

    async def _drop(self, connection: Any) -> None:
        """Close it: replies may still be on their way. What happened to it may have happened to the others."""
        self._server.renew()
        await connection.disconnect(nowait=True)
        self._taken = None
        await self._server.pool.release(connection)


def _name(pool: Any) -> str:
    """Where a pool's server is: a service of Sentinels, a path, or host and port."""
    options = pool.connection_kwargs
    service: str | None = getattr(pool, "service_name", None) or options.get("path")
    return service or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
