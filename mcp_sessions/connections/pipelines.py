"""Scripts on their way to Redis, for one event loop: what is submitted within two ticks shares a round trip.

Two, because what one tick reads from several sockets is mostly submitted in the next. A round trip costs as much CPU as
a whole request, whether it carries one script or sixteen, and a busy loop's ticks are long enough to fill it.
"""

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mcp_sessions.connections.breaker import SLOW, Breaker
from mcp_sessions.connections.round_trips import Gathering, Job, NoReply, Steps, round_trips
from mcp_sessions.connections.server import Connection, Server

#: Round trips at the same moment. Of touches one: what comes while Redis answers shares the next. Of messages and
#: notifications, which are many and small, two.
IN_FLIGHT: Final = {"touches": 1, "messages": 2, "others": 8, "follow_ups": 1}
#: Scripts that may wait in one pipeline; further ones fail at once.
MOST_WAITING: Final = 10_000
#: Seconds by which a timer is late when the loop stood still: replies may be there that nobody has read yet.
STALL: Final = 0.25

#: Seconds after which a round trip is ended again that goes on: asyncio.wait_for may swallow it, up to Python 3.11.
AGAIN: Final = 1.0

#: A job, its reply, and until when there must be one, by the loop's clock.
Waiting = tuple[Job, "asyncio.Future[Any]", float]


class Pipeline:
    """A few round trips in flight at most; what comes meanwhile goes with the next one, in order of submission.

    Scripts that take many have a pipeline of their own. Every script has its reply, or `NoReply`, `server.seconds`
    after it was submitted: time in the queue and for getting a connection included.

    Its tasks and timers have contexts of their own: a connection keeps the context in which it was opened, and that of
    a caller has a whole exchange in it.
    """

    def __init__(self, server: Server, breaker: Breaker, *, in_flight: int, batch: int = 256) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = server.seconds
        self._breaker = breaker
        self._idle = [server.connection() for _ in range(in_flight)]
        self._batch = batch
        self._gathering = Gathering(together=server.together)
        self._waiting: deque[Waiting] = deque()
        #: What is on its way. There is one timer, not one for each script or round trip.
        self._trips: set[_Trip] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._starting = False
        self._workers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many submitted scripts have not left yet."""
        return len(self._waiting)

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """The reply, an error reply or `NoReply` included as a value."""
        future = self._loop.create_future()
        if self._breaker.is_open or len(self._waiting) >= MOST_WAITING:
            future.set_result(self._refusal())
            return future
        deadline = self._loop.time() + self._seconds
        self._waiting.append((job, future, deadline))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._look, deadline, context=Context())
        if self._idle and not self._starting:
            self._start()
        return future

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._workers:
            await asyncio.wait(self._workers)

    def give_up(self) -> None:
        """Let nothing wait any more, neither here nor for Redis."""
        for trip in self._trips:
            _give_up(trip.waiting, self._refusal())
            trip.end()
        _give_up(self._waiting, NoReply(TimeoutError("Redis does not answer"), sent=False))
        self._waiting.clear()

    def _refusal(self) -> NoReply:
        reason = "Redis does not answer" if self._breaker.is_open else "too many calls wait for Redis"
        return NoReply(TimeoutError(reason), sent=False)

    def _start(self) -> None:
        """A worker takes with it what is submitted until its second tick, or what `_gather` waits for."""
        self._starting = True
        connection = self._idle.pop()
        worker = self._loop.create_task(self._work(connection), context=Context())
        self._workers.add(worker)
        worker.add_done_callback(partial(self._stopped, connection))

    def _stopped(self, connection: Connection, worker: "asyncio.Task[None]") -> None:
        self._idle.append(connection)
        self._workers.discard(worker)
        if worker.cancelled():  # the loop is shutting down
            self._starting = False
            while self._waiting:
                self._waiting.popleft()[1].cancel()
        elif self._waiting and not self._starting:
            self._start()

    async def _work(self, connection: Connection) -> None:
        try:
            await self._gather()
            self._starting = False
            while self._waiting:
                count = min(len(self._waiting), self._batch)
                await self._carry(connection, [self._waiting.popleft() for _ in range(count)])
                await self._gather()
        finally:
            await connection.release()

    async def _gather(self) -> None:
        """Let others submit what shares the next round trip."""
        await asyncio.sleep(0)

    async def _carry(self, connection: Connection, waiting: list[Waiting]) -> None:
        """Take scripts to Redis and their replies to the callers. Whatever happens, no caller is left waiting.

        The newest script decides how long that may take: the older ones are not worth its connection.
        """
        jobs = [job for job, _, _ in waiting]
        steps: Steps = (self._gathering.round_trips if jobs[0][0].takes_many else round_trips)(jobs)
        now, deadline = self._loop.time(), waiting[-1][2]
        worker: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment] # it is one
        trip = _Trip(worker, waiting, deadline if deadline > now else now + STALL)
        self._trips.add(trip)
        try:
            try:
                commands = next(steps)
                while True:
                    commands = steps.send(await connection.execute(commands))
            except StopIteration as stop:
                replies: list[Any] = stop.value
            finally:
                self._trips.discard(trip)
                ended = trip.ended > 0 and trip.is_ended_alone()
        except asyncio.CancelledError:
            if not ended:
                for _, future, _ in waiting:
                    future.cancel()
                raise
            self._breaker.doubt()
            _give_up(waiting, self._late())
        except Exception as error:  # noqa: BLE001 - a mistake of ours belongs to the callers, not to this task
            for _, future, _ in waiting:
                if not future.done():
                    future.set_exception(error)
        else:
            for each, reply in zip(waiting, replies, strict=True):
                if each[1].done() or (isinstance(reply, Exception) and self._follows(each, reply)):
                    continue
                each[1].set_result(reply)
            if isinstance(replies[-1], NoReply) and (replies[-1].is_late or self._loop.time() - now > SLOW):
                self._breaker.doubt()

    def _follows(self, waiting: Waiting, reply: Exception) -> bool:
        """Whether somebody else gives the future its result."""
        return False

    def _look(self, due: float) -> None:
        """Tell callers whose time is over; come again when that of the next one is."""
        now = self._loop.time()
        if now - due > STALL:
            self._timer = self._loop.call_at(now + STALL, self._look, now + STALL)
            return
        late: list[Waiting] = []
        following: list[float] = []
        for trip in self._trips:
            if trip.deadline <= now:
                trip.end()
                trip.deadline = now + AGAIN
            following.append(trip.deadline)
        for waiting in (*(trip.waiting for trip in self._trips), self._waiting):
            for each in waiting:
                if each[2] > now:
                    following.append(each[2])
                    break
                late.append(each)
        while self._waiting and self._waiting[0][2] <= now:
            self._waiting.popleft()
        if late:
            _give_up(late, self._late())
            self._breaker.doubt()
        soonest = min(following, default=None)
        self._timer = None if soonest is None else self._loop.call_at(soonest, self._look, soonest)

    def _late(self) -> NoReply:
        return NoReply(TimeoutError(f"Redis did not answer within {self._seconds:g} s"), sent=True)


@dataclass(slots=True, eq=False)
class _Trip:
    """Scripts on their way, in a task, and until when the replies must be there, by the loop's clock."""

    task: "asyncio.Task[None]"
    waiting: list[Waiting]
    deadline: float
    #: How often it was told to wait no longer.
    ended: int = 0

    def end(self) -> None:
        """Wait no longer."""
        self.ended += 1
        self.task.cancel()

    def is_ended_alone(self) -> bool:
        """Whether nothing else has cancelled the task. The trip is over."""
        for _ in range(self.ended):
            self.task.uncancel()
        return not self.task.cancelling()


def _give_up(waiting: "deque[Waiting] | list[Waiting]", reply: NoReply) -> None:
    for _, future, _ in waiting:
        if not future.done():
            future.set_result(reply)
