"""Calls on Redis from any thread, with the connections of `clients.sync_client`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis import Redis

from mcp_sessions.connections.defaults import REDIS_ERRORS, log
from mcp_sessions.connections.round_trips import Job, NoReply, round_trips
from mcp_sessions.connections.sync_cluster import cluster_replies
from mcp_sessions.connections.sync_connections import execute, replies_of
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, check_unused, failure
from mcp_sessions.store.clients import SyncClient
from mcp_sessions.store.keys import Keys

if TYPE_CHECKING:
    # It needs a package that few have.
    from mcp_sessions.store.sealing import Sealer

T = TypeVar("T")


class SyncRunner(ABC):
    """Drives calls and operations over whatever gives the replies of jobs."""

    def __init__(
        self, keys: Keys, *, clock: Callable[[], int] | None = None, sealer: "Sealer | None" = None
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._sealer = sealer

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
        sealed = [call.arguments if self._sealer is None else self._sealer.arguments(call) for call in calls]
        jobs: list[Job] = [
            (call.script, self._keys.resolve(call.home, call.parts), (now, *arguments))
            for call, arguments in zip(calls, sealed, strict=True)
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
        if self._sealer is not None:
            reply = self._sealer.opened(call.home, reply)
        result = call.decode(call.home, reply)
        following = () if call.follow_up is None else call.follow_up(result, reply)
        if following:
            try:
                self.run_all(following)
            except StoreUnavailable as error:
                log.debug("An index update failed: %s", error)
        return result


class SyncRedisStore(SyncRunner):
    """See `drivers.SyncStore`."""

    shared = True

    def __init__(
        self,
        keys: Keys,
        connect: Callable[[], SyncClient],
        *,
        clock: Callable[[], int] | None = None,
        sealer: "Sealer | None" = None,
    ) -> None:
        super().__init__(keys, clock=clock, sealer=sealer)
        self._connect = connect

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        try:
            client = self._connect()
        except REDIS_ERRORS as error:  # a Cluster's client asks for its nodes
            return [NoReply(error, sent=False)] * len(jobs)
        if isinstance(client, Redis):
            return replies_of(round_trips(jobs), partial(execute, client))
        return cluster_replies(client, jobs)
