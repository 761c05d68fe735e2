"""What takes a pipeline to Redis and its replies back, for the async side."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from mcp_sessions.store.clients import AsyncClient


class Carrier(Protocol):
    """Carries one pipeline after the other. Raises: one of `clients.REDIS_ERRORS`."""

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The reply of each command, error replies as values."""
        ...

    async def release(self) -> None:
        """Give back what it holds; the next pipeline takes it again."""
        ...


def carrier_for(client: AsyncClient) -> Carrier:
    return PooledConnection(client) if isinstance(client, Redis) else ClusterPipelines(client)


class PooledConnection:
    """A connection of the client's pool, kept from one pipeline to the next, with one timeout for each pipeline.

    redis-py's own pipeline takes a connection each time, sets a timer for every reply and packs in Python: several
    times what all else on the path of a request costs.
    """

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._seconds = self._pool.connection_kwargs["socket_timeout"]
        self._connection: AbstractConnection | None = None

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        try:
            async with asyncio.timeout(self._seconds):
                connection = self._connection or await self._connect()
                await connection.send_packed_command([pack_command(tuple(command)) for command in commands])
                return [await _read(connection) for _ in commands]
        except BaseException:
            await self.release()
            raise

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = await self._pool.get_connection()
        connection.socket_timeout = None  # the timeout of the pipeline covers it
        self._connection = connection
        return connection


async def _read(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


class ClusterPipelines:
    """redis-py's pipelines, which know the nodes and follow redirections."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def release(self) -> None:
        """Nothing is held."""
