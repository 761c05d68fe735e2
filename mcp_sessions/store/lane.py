"""Scripts on their way to Redis, for one event loop: what is submitted within two ticks shares a round trip.

Two, because what one tick reads from several sockets is mostly submitted in the next. A round trip costs as much CPU as
a whole request, whether it carries one script or sixteen, and a busy loop's ticks are long enough to fill it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.carriers import Carrier, carrier_for
from mcp_sessions.store.clients import REDIS_ERRORS, AsyncClient
from mcp_sessions.store.roundtrips import Gathering, Job, Steps, pipelines, unavailable
from mcp_sessions.store.scripts import Script

Waiting = tuple[Script, Sequence[Any], "asyncio.Future[Any]"]


class Lane:
    """A few pipelines in flight at most; what comes meanwhile goes with the next one, in order of submission.

    A script that takes many has a lane of its own.
    """

    def __init__(self, client: AsyncClient, *, in_flight: int, batch: int = 256) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._free = in_flight
        self._batch = batch
        self._gathering = Gathering(together=isinstance(client, Redis))
        self._waiting: deque[Waiting] = deque()
        self._starting = False
        self._workers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many submitted scripts have not left yet."""
        return len(self._waiting)

    def submit(self, script: Script, arguments: Sequence[Any]) -> "asyncio.Future[Any]":
        """The reply, an error reply included as a value. Fails with StoreUnavailable only."""
        future = self._loop.create_future()
        self._waiting.append((script, arguments, future))
        if self._free and not self._starting:
            self._start()
        return future

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._workers:
            await asyncio.wait(self._workers)

    def _start(self) -> None:
        """A worker takes with it what is submitted until its second tick."""
        self._starting = True
        self._free -= 1
        worker = self._loop.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._stopped)

    def _stopped(self, worker: "asyncio.Task[None]") -> None:
        self._free += 1
        self._workers.discard(worker)
        if worker.cancelled():  # the loop is shutting down
            self._starting = False
            while self._waiting:
                self._waiting.popleft()[2].cancel()
        elif self._waiting and not self._starting:
            self._start()

    async def _work(self) -> None:
        carrier = carrier_for(self._client)
        try:
            await asyncio.sleep(0)
            self._starting = False
            while jobs := self._next():
                await _carry(carrier, jobs, self._steps(jobs))
                await asyncio.sleep(0)
        finally:
            await carrier.release()

    def _steps(self, waiting: Sequence[Waiting]) -> Steps:
        jobs: list[Job] = [(script, arguments) for script, arguments, _ in waiting]
        return self._gathering.pipelines(jobs) if jobs[0][0].takes_many else pipelines(jobs)

    def _next(self) -> list[Waiting]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch))]


async def _carry(carrier: Carrier, jobs: list[Waiting], steps: Steps) -> None:
    """Take scripts to Redis and their replies to who waits for them. Whatever happens, nobody is left waiting."""
    try:
        replies = await _replies(carrier, steps)
    except asyncio.CancelledError:
        for _, _, future in jobs:
            future.cancel()
        raise
    except StoreUnavailable as error:
        for _, _, future in jobs:
            if not future.done():
                future.set_exception(unavailable(error.__cause__ or error))
    except Exception as error:  # noqa: BLE001 - a mistake of ours belongs to the callers, not to this task
        for _, _, future in jobs:
            if not future.done():
                future.set_exception(error)
    else:
        for (_, _, future), reply in zip(jobs, replies, strict=True):
            if not future.done():
                future.set_result(reply)


async def _replies(carrier: Carrier, steps: Steps) -> list[Any]:
    """What the steps end with, a reply for each job. Raises: StoreUnavailable."""
    commands = next(steps)
    while True:
        try:
            try:
                replies = await carrier.execute(commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
        except StopIteration as stop:
            done: list[Any] = stop.value
            return done
        except REDIS_ERRORS as error:
            raise unavailable(error) from error
