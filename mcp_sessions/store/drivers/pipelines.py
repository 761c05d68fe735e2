"""Scripts on their way to Redis, for one event loop: what is submitted within two ticks shares a round trip.

Two, because what one tick reads from several sockets is mostly submitted in the next. A round trip costs as much CPU as
a whole request, whether it carries one script or sixteen, and a busy loop's ticks are long enough to fill it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.clients import REDIS_ERRORS
from mcp_sessions.store.drivers.round_trips import Gathering, Job, Steps, round_trips, unavailable

Waiting = tuple[Job, "asyncio.Future[Any]"]


class Pipeline:
    """A few round trips in flight at most; what comes meanwhile goes with the next one, in order of submission.

    Scripts that take many have a pipeline of their own.
    """

    def __init__(self, client: Redis, *, in_flight: int, batch: int = 256, together: bool = True) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = [PooledConnection(client) for _ in range(in_flight)]
        self._batch = batch
        self._gathering = Gathering(together=together)
        self._waiting: deque[Waiting] = deque()
        self._starting = False
        self._workers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many submitted scripts have not left yet."""
        return len(self._waiting)

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """The reply, an error reply included as a value. Fails with StoreUnavailable only."""
        future = self._loop.create_future()
        self._waiting.append((job, future))
        if self._idle and not self._starting:
            self._start()
        return future

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._workers:
            await asyncio.wait(self._workers)

    def _start(self) -> None:
        """A worker takes with it what is submitted until its second tick."""
        self._starting = True
        connection = self._idle.pop()
        worker = self._loop.create_task(self._work(connection))
        self._workers.add(worker)
        worker.add_done_callback(partial(self._stopped, connection))

    def _stopped(self, connection: "Connection", worker: "asyncio.Task[None]") -> None:
        self._idle.append(connection)
        self._workers.discard(worker)
        if worker.cancelled():  # the loop is shutting down
            self._starting = False
            while self._waiting:
                self._waiting.popleft()[1].cancel()
        elif self._waiting and not self._starting:
            self._start()

    async def _work(self, connection: "Connection") -> None:
        try:
            await asyncio.sleep(0)
            self._starting = False
            while self._waiting:
                count = min(len(self._waiting), self._batch)
                await self._carry(connection, [self._waiting.popleft() for _ in range(count)])
                await asyncio.sleep(0)
        finally:
            await connection.release()

    async def _carry(self, connection: "Connection", waiting: list[Waiting]) -> None:
        """Take scripts to Redis and their replies to the callers. Whatever happens, no caller is left waiting."""
        jobs = [job for job, _ in waiting]
        steps: Steps = (self._gathering.round_trips if jobs[0][0].takes_many else round_trips)(jobs)
        try:
            replies = await replies_of(connection, steps)
        except asyncio.CancelledError:
            for _, future in waiting:
                future.cancel()
            raise
        except StoreUnavailable as error:
            # The cause was caught in `replies_of`: an error that was caught here would hold this frame, and with it the
            # futures that hold the error, until the garbage collector finds the cycle.
            self._fail(waiting, error.__cause__ or error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours belongs to the callers, not to this task
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
        else:
            self._deliver(waiting, replies)

    def _deliver(self, waiting: list[Waiting], replies: list[Any]) -> None:
        for (_, future), reply in zip(waiting, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    def _fail(self, waiting: list[Waiting], error: BaseException) -> None:
        for _, future in waiting:
            if not future.done():
                future.set_exception(unavailable(error))


async def replies_of(connection: "Connection", steps: Steps) -> list[Any]:
    """What the steps end with, a reply for each job. Raises: StoreUnavailable."""
    try:
        commands = next(steps)
        while True:
            try:
                replies = await connection.execute(commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as stop:
        done: list[Any] = stop.value
        return done
    except REDIS_ERRORS as error:
        raise unavailable(error) from error


class Connection(Protocol):
    """Carries one pipeline after the other. Raises: one of `clients.REDIS_ERRORS`."""

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The reply of each command, error replies as values."""
        ...

    async def release(self) -> None:
        """Give back what it holds; the next pipeline takes it again."""
        ...


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
        replies: list[Any] = []
        try:
            async with asyncio.timeout(self._seconds):
                connection = self._connection
                if connection is None:
                    connection = self._connection = await self._pool.get_connection()
                    connection.socket_timeout = None  # the timeout of the pipeline covers it
                await connection.send_packed_command([pack_command(tuple(command)) for command in commands])
                for _ in commands:
                    try:
                        replies.append(await connection.read_response())
                    except ResponseError as error:
                        replies.append(error)
        except BaseException:
            await self.release()
            raise
        return replies

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)
