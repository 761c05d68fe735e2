"""Calls on Redis from any thread, with the connections of `clients.sync_client`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from hiredis import pack_command
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, log
from mcp_sessions.store.clients import REDIS_ERRORS, SyncClient
from mcp_sessions.store.drivers.round_trips import Job, NoReply, check_unused, failure, round_trips
from mcp_sessions.store.keys import Keys

T = TypeVar("T")


class SyncRunner(ABC):
    """Drives calls and operations over whatever gives the replies of jobs."""

    def __init__(self, keys: Keys, *, clock: Callable[[], int] | None = None) -> None:
        self._keys = keys
        self._clock = clock

    @abstractmethod
    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        """The reply to each job; an error reply, and `NoReply`, as values."""

    def run(self, work: Call[T] | Operation[T], /) -> T:
        if isinstance(work, Call):
            [result] = self.run_all([work])
            return cast("T", result)
        check_unused(work)
        try:
            calls = next(work)
            while True:
                try:
                    results = self.run_all(calls)
                except StoreUnavailable as error:
                    calls = work.throw(error)
                else:
                    calls = work.send(results)
        except StopIteration as stop:
            return cast("T", stop.value)

    def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        calls = list(calls)
        now = "" if self._clock is None else self._clock()
        jobs: list[Job] = [
            (call.script, self._keys.resolve(call.home, call.parts), (now, *call.arguments)) for call in calls
        ]
        replies = self._replies(jobs) if jobs else []
        return [self._result(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def _result(self, call: Call[Any], reply: Any) -> Any:
        if call.script.takes_many and isinstance(reply, list):
            [reply] = reply
        error = failure(call, reply) if isinstance(reply, Exception) else None
        if error is not None:
            if call.fails_alone:
                return error
            raise error
        result = call.decode(call.home, reply)
        following = None if call.follow_up is None else call.follow_up(result, reply)
        if following is not None:
            try:
                self.run(following)
            except StoreUnavailable as error:
                log.debug("An index update failed: %s", error)
        return result


class SyncRedisStore(SyncRunner):
    """See `drivers.SyncStore`."""

    shared = True

    def __init__(
        self, keys: Keys, connect: Callable[[], SyncClient], *, clock: Callable[[], int] | None = None
    ) -> None:
        super().__init__(keys, clock=clock)
        self._connect = connect

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        steps = round_trips(jobs)
        try:
            client = self._connect()
        except REDIS_ERRORS as error:  # a Cluster's client asks for its nodes
            return [NoReply(error, sent=False)] * len(jobs)
        try:
            commands = next(steps)
            while True:
                commands = steps.send(
                    _execute(client, commands)
                    if isinstance(client, Redis)
                    else _execute_on_cluster(client, commands)
                )
        except StopIteration as stop:
            done: list[Any] = stop.value
            return done


def _execute(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """As `connections.Connection.execute`. redis-py's pipelines do not tell what was sent when a connection breaks."""
    pool: Any = client.connection_pool
    packed = [pack_command(tuple(command)) for command in commands]
    try:
        connection = _take(pool)
    except REDIS_ERRORS as error:
        return [NoReply(error, sent=False)] * len(commands)
    replies: list[Any] = []
    try:
        connection.send_packed_command(packed)
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
    except REDIS_ERRORS as error:
        replies += [NoReply(error, sent=True)] * (len(commands) - len(replies))
    finally:
        if len(replies) < len(commands) or isinstance(replies[-1], NoReply):
            connection.disconnect()  # replies may still be on their way
        pool.release(connection)
    return replies


def _take(pool: Any) -> Any:
    """A connection that was open a moment ago, as `pipelines.PooledServer.take` does."""
    connection = pool.get_connection()
    try:
        if _is_stale(connection):
            connection.disconnect()
            connection.connect()
    except BaseException:
        pool.release(connection)
        raise
    return connection


def _is_stale(connection: Any) -> bool:
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True


def _execute_on_cluster(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    try:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        return [NoReply(error, sent=True)] * len(commands)
    return replies
