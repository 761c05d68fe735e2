"""Scripts on their way to Redis, for one event loop: what is submitted within two ticks shares a round trip.

Two, because what one tick reads from several sockets is mostly submitted in the next. A round trip costs as much CPU as
a whole request, whether it carries one script or sixteen, and a busy loop's ticks are long enough to fill it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from mcp_sessions.connections.breaker import SLOW, Breaker
from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.connections.round_trips import Gathering, Job, NoReply, Steps, round_trips, says_demoted
from mcp_sessions.connections.server import NO_LIMIT, Connection, Server, Taken, name_of
from mcp_sessions.connections.trips import Trip, Waiting, give_up

#: Round trips at the same moment. Of touches one: what comes while Redis answers shares the next. Of messages and
#: notifications, which are many and small, two.
IN_FLIGHT: Final = {"touches": 1, "looks": 1, "messages": 2, "others": 8, "follow_ups": 1}
#: Scripts that may wait in one pipeline; further ones fail at once.
MOST_WAITING: Final = 10_000
#: Seconds for which connections stay outside of redis-py's pool: to take one from it and give it back is a quarter of
#: what a call costs that travels alone. After that it goes through the pool, which may have credentials to renew.
KEEP: Final = 1.0
#: Seconds by which a timer is late when the loop stood still: replies may be there that nobody has read yet.
STALL: Final = 0.25
#: Seconds, once, in which the loop reads them.
GRACE: Final = 0.05

#: Seconds after which a round trip is ended again that goes on: asyncio.wait_for may swallow it, up to Python 3.11.
AGAIN: Final = 1.0


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
        self._trips: set[Trip] = set()
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
            give_up(trip.waiting, self._refusal())
            trip.end()
        give_up(self._waiting, NoReply(TimeoutError("Redis does not answer"), sent=False))
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
        trip = Trip(worker, waiting, deadline if deadline > now else now + STALL)
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
            give_up(waiting, self._late())
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
            self._timer = self._loop.call_at(now + GRACE, self._look, inf)
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
            give_up(late, self._late())
            self._breaker.doubt()
        soonest = min(following, default=None)
        self._timer = None if soonest is None else self._loop.call_at(soonest, self._look, soonest)

    def _late(self) -> NoReply:
        return NoReply(TimeoutError(f"Redis did not answer within {self._seconds:g} s"), sent=True)


class PooledServer:
    """A server that redis-py has a pool of connections to; behind Sentinels, whichever is the primary."""

    together = True

    def __init__(self, pool: Any) -> None:
        options = pool.connection_kwargs
        self.name = name_of(pool)
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
        is_demoted = False
        try:
            await connection.send_packed_command(packed)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
                    is_demoted = is_demoted or says_demoted(error)
        except REDIS_ERRORS as error:
            await self._drop(connection)
            replies += [NoReply(error, sent=True)] * (len(commands) - len(replies))
        except BaseException:
            await self._drop(connection)
            raise
        if is_demoted:
            await self._drop(connection)
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
        """Close it: replies may be on their way, or another server be the primary. The others may be no better."""
        self._server.renew()
        await connection.disconnect(nowait=True)
        self._taken = None
        await self._server.pool.release(connection)
