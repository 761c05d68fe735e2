"""Calls on Redis from any thread, with the connections of `clients.sync_client`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis import Redis

from mcp_sessions.connections.defaults import REDIS_ERRORS, log
from mcp_sessions.connections.round_trips import Gathering, Job, NoReply, round_trips
from mcp_sessions.connections.sync_cluster import cluster_replies
from mcp_sessions.connections.sync_connections import execute, replies_of
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, check_unused, failure
from mcp_sessions.store.clients import SyncClient
from mcp_sessions.store.drivers import SyncStore
from mcp_sessions.store.keys import Keys

if TYPE_CHECKING:
    # It needs a package that few have.
    from mcp_sessions.store.sealing import Sealer

T = TypeVar("T")


class SyncRunner(ABC):
    """Drives calls and operations over whatever gives the replies of jobs."""

    #: Equal for stores whose calls can share a round trip.
    server: Hashable

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
        return self.run_beside([(self, list(calls))])[0]

    def run_beside(self, asked: "Sequence[tuple[SyncRunner, Sequence[Call[Any]]]]") -> list[list[Any]]:
        """The results of calls on stores whose `server` is that of this one, in one round trip."""
        jobs = [job for store, calls in asked for job in store.jobs(calls)]
        replies = iter(self._replies(jobs) if jobs else ())
        return [[store.result(call, next(replies)) for call in calls] for store, calls in asked]

    def jobs(self, calls: Iterable[Call[Any]]) -> list[Job]:
        """What is sent for calls."""
        now = "" if self._clock is None else self._clock()
        sealed = attrgetter("arguments") if self._sealer is None else self._sealer.arguments
        return [
            (call.script, self._keys.resolve(call.home, call.parts), (now, *sealed(call))) for call in calls
        ]

    def result(self, call: Call[Any], reply: Any) -> Any:
        """What the reply to a call means. Raises: StoreUnavailable."""
        if call.script.takes_many and isinstance(reply, list):
            [reply] = reply
        error = failure(call, reply) if isinstance(reply, Exception) else None
        if error is not None:
            if call.fails_alone:
                return error
            raise error
        if self._sealer is not None:
            reply = self._sealer.opened(call, reply)
        result = call.decode(call.home, reply)
        following = () if call.follow_up is None else call.follow_up(result, reply)
        if following:
            try:
                self.run_all(following)
            except StoreUnavailable as error:
                log.debug("An index update failed: %s", error)
        return result


def run_together(works: Sequence[tuple[SyncStore, Operation[T]]]) -> list[T]:
    """The results of operations on several stores, side by side.

    What they wait for at the same time shares a round trip where the stores share a server. Raises: StoreUnavailable.
    """
    results: dict[int, T] = {}
    answers: dict[int, list[Any] | None] = dict.fromkeys(range(len(works)))
    while answers:
        asked: dict[int, Sequence[Call[Any]]] = {}
        for number, answer in answers.items():
            try:
                asked[number] = works[number][1].send(answer)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as stop:
                results[number] = stop.value
        answers = {}
        by_server: dict[Hashable, list[int]] = {}
        for number in asked:
            store = works[number][0]
            by_server.setdefault(getattr(store, "server", id(store)), []).append(number)
        for numbers in by_server.values():
            first = works[numbers[0]][0]
            if isinstance(first, SyncRunner):
                runners = [(cast("SyncRunner", works[number][0]), asked[number]) for number in numbers]
                answers.update(zip(numbers, first.run_beside(runners), strict=True))
            else:
                found = iter(first.run_all([call for number in numbers for call in asked[number]]))
                answers.update({number: [next(found) for _ in asked[number]] for number in numbers})
    return [results[number] for number in range(len(works))]


class SyncRedisStore(SyncRunner):
    """See `drivers.SyncStore`."""

    shared = True

    def __init__(
        self,
        keys: Keys,
        connect: Callable[[], SyncClient],
        *,
        clock: Callable[[], int] | None = None,
        server: Hashable = None,
        sealer: "Sealer | None" = None,
    ) -> None:
        super().__init__(keys, clock=clock, sealer=sealer)
        self._connect = connect
        self._gathering = Gathering(together=True)
        self.server = connect if server is None else server

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        try:
            client = self._connect()
        except REDIS_ERRORS as error:  # a Cluster's client asks for its nodes
            return [NoReply(error, sent=False)] * len(jobs)
        if not isinstance(client, Redis):
            return cluster_replies(client, jobs)
        script = jobs[0][0]
        if script.together == 1 or any(each is not script for each, _, _ in jobs):
            return replies_of(round_trips(jobs), partial(execute, client))
        steps = self._gathering.round_trips(jobs, most=script.together)
        replies = replies_of(steps, partial(execute, client))
        return [reply if isinstance(reply, Exception) else [reply] for reply in replies]
