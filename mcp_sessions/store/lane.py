"""Scripts on their way to Redis, for one event loop: what is submitted within one tick shares a round trip."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

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
        if not self._scheduled and self._free:
            self._scheduled = True
            self._loop.call_soon(self._depart)
        return future

    async def aclose(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._tasks or self._waiting:
            await asyncio.gather(*self._tasks) if self._tasks else await asyncio.sleep(0)

    def _depart(self) -> None:
        self._scheduled = False
        while self._free and self._waiting:
            size = min(len(self._waiting), self._batch)
            jobs = [self._waiting.popleft() for _ in range(size)]
            self._free -= 1
            task = self._loop.create_task(self._travel(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _travel(self, jobs: list[Waiting]) -> None:
        try:
            replies = await run(self._client, [(script, arguments) for script, arguments, _ in jobs])
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


async def run(client: AsyncClient, jobs: Sequence[Job]) -> list[Any]:
    """A reply for each job, error replies as values. Raises: StoreUnavailable."""
    steps = pipelines(jobs)
    commands = next(steps)
    while True:
        try:
            try:
                replies = await _execute(client, commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
        except StopIteration as stop:
            done: list[Any] = stop.value
            return done
        except REDIS_ERRORS as error:
            raise unavailable(error) from error


async def _execute(client: AsyncClient, commands: Commands) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies
