"""Scripts on their way to Redis, for one event loop: what is submitted within one tick shares a round trip."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.clients import REDIS_ERRORS, AsyncClient
from mcp_sessions.store.roundtrips import Commands, Job, pipelines, unavailable
from mcp_sessions.store.scripts import Script

Waiting = tuple[Script, Sequence[Any], "asyncio.Future[Any]"]


class Lane:
    """A few pipelines in flight at most; what comes meanwhile goes with the next one, in order of submission."""

    def __init__(self, client: AsyncClient, *, in_flight: int, batch: int = 256) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._free = in_flight
        self._batch = batch
        self._waiting: deque[Waiting] = deque()
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many submitted scripts have not left yet."""
        return len(self._waiting)

    def submit(self, script: Script, arguments: Sequence[Any]) -> "asyncio.Future[Any]":
        """The reply, an error reply included as a value. Fails with StoreUnavailable only."""
        future = self._loop.create_future()
        self._waiting.append((script, arguments, future))
        if self._free and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._depart)
        return future

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._tasks or self._waiting:
            await asyncio.gather(*self._tasks) if self._tasks else await asyncio.sleep(0)

    def _depart(self) -> None:
        self._scheduled = False
        while self._free and self._waiting:
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch))]
            self._free -= 1
            task = self._loop.create_task(self._travel(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _travel(self, jobs: list[Waiting]) -> None:
        try:
            replies = await _run(self._client, [(script, arguments) for script, arguments, _ in jobs])
        except StoreUnavailable as error:
            for _, _, future in jobs:
                if not future.done():
                    future.set_exception(StoreUnavailable(*error.args))
        except asyncio.CancelledError:
            for _, _, future in jobs:
                future.cancel()
            raise
        else:
            for (_, _, future), reply in zip(jobs, replies, strict=True):
                if not future.done():
                    future.set_result(reply)
        finally:
            self._free += 1
            self._depart()


async def _run(client: AsyncClient, jobs: Sequence[Job]) -> list[Any]:
    """A reply for each job, error replies as values. Raises: StoreUnavailable."""
    execute = _execute if isinstance(client, Redis) else _execute_on_cluster
    steps = pipelines(jobs)
    commands = next(steps)
    while True:
        try:
            try:
                replies = await execute(client, commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
        except StopIteration as stop:
            done: list[Any] = stop.value
            return done
        except REDIS_ERRORS as error:
            raise unavailable(error) from error


async def _execute_on_cluster(client: Any, commands: Commands) -> list[Any]:
    pipeline = client.pipeline()
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


async def _execute(client: Any, commands: Commands) -> list[Any]:
    """One pipeline on one connection, under one timeout: redis-py's own pipeline sets a timer for every reply and
    packs in Python, which is several times what all else on this path costs."""
    pool = client.connection_pool
    async with asyncio.timeout(pool.connection_kwargs["socket_timeout"]):
        connection = await pool.get_connection()
        try:
            connection.socket_timeout = None  # the timeout around covers it
            await connection.send_packed_command([pack_command(tuple(command)) for command in commands])
            return [await _read(connection) for _ in commands]
        finally:
            await pool.release(connection)


async def _read(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
