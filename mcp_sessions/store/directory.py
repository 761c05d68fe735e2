"""The session store in Redis: the sync face, through django-redis' own connection."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.cluster import RedisCluster

from mcp_sessions.errors import SessionGone, StoreUnavailable
from mcp_sessions.store import operations
from mcp_sessions.store.base import EndReason, Limits, Page, Query
from mcp_sessions.store.clients import REDIS_ERRORS
from mcp_sessions.store.commands import Call, Commands, Operation
from mcp_sessions.store.roundtrips import pipelines, results, unavailable
from mcp_sessions.store.session import Session

T = TypeVar("T")
SyncClient = Redis | RedisCluster


class RedisDirectory:
    """See `base.SessionDirectory`. `limits` is asked each time, so that changed settings hold at once."""

    shared = True

    def __init__(
        self, commands: Commands, connect: Callable[[], SyncClient], limits: Callable[[], Limits]
    ) -> None:
        self._commands = commands
        self._connect = connect
        self._limits = limits

    def page(self, query: Query, *, offset: int, limit: int) -> Page:
        return self._run(operations.page(self._commands, query, self._limits(), offset=offset, limit=limit))

    def get(self, fingerprint: str) -> Session | None:
        return self._one(self._commands.get(fingerprint))

    def find(self, prefix: str, *, limit: int) -> Sequence[Session]:
        if not operations.searchable(prefix):
            return []
        return self._run(operations.find(self._commands, prefix, self._limits(), limit=limit))

    def count(self) -> int:
        index = self._commands.keys.activity
        total, _ = self._one(self._commands.page(index, self._limits(), offset=0, limit=0, ascending=False))
        return total

    def clients(self) -> Sequence[str]:
        return self._one(self._commands.clients())

    def state(self, fingerprint: str) -> Mapping[str, Any]:
        try:
            items = self._one(self._commands.state_items(fingerprint))
        except SessionGone:
            return {}
        return {name: json.loads(value) for name, value in items.items()}

    def end(self, fingerprint: str, *, reason: EndReason = "expired_by_operator") -> Session | None:
        return self._run(operations.end(self._commands, fingerprint, None, reason))

    def end_many(
        self, fingerprints: Sequence[str], *, reason: EndReason
    ) -> Sequence[Session | StoreUnavailable | None]:
        return self._run(operations.end_many(self._commands, fingerprints, reason))

    def ping(self) -> None:
        try:
            self._connect().ping()
        except REDIS_ERRORS as error:
            raise unavailable(error) from error

    def _run(self, operation: Operation[T]) -> T:
        """Drive an operation of several round trips."""
        outcome: list[Any] | None = None
        failure: StoreUnavailable | None = None
        while True:
            try:
                calls = operation.throw(failure) if failure else operation.send(outcome)  # type: ignore[arg-type]
            except StopIteration as stop:
                value: T = stop.value
                return value
            outcome, failure = None, None
            try:
                outcome = self._ask(calls)
            except StoreUnavailable as error:
                failure = error

    def _one(self, call: Call[T]) -> T:
        [result] = self._ask([call])
        value: T = result
        return value

    def _ask(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return ask(self._connect, calls)


def ask(connect: Callable[[], SyncClient], calls: Sequence[Call[Any]]) -> list[Any]:
    """What each call gives, in one round trip. Raises: StoreUnavailable, and what the calls' decoders raise."""
    steps = pipelines([(call.script, call.arguments) for call in calls])
    commands = next(steps)
    while True:
        try:
            try:
                replies = _execute(connect(), commands)
            except REDIS_ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
        except StopIteration as stop:
            return results(calls, stop.value)
        except REDIS_ERRORS as error:
            raise unavailable(error) from error


def _execute(client: SyncClient, commands: Sequence[Sequence[Any]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies
