"""The session store in Redis: the async face."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store import operations, scripts
from mcp_sessions.store.base import EndReason, Limits
from mcp_sessions.store.clients import AsyncClient, close_async_client
from mcp_sessions.store.commands import Call, Commands, Operation
from mcp_sessions.store.lane import Lane
from mcp_sessions.store.loops import PerLoop
from mcp_sessions.store.record import parse_session
from mcp_sessions.store.roundtrips import checked, results
from mcp_sessions.store.session import Handshake, Session

log = logging.getLogger("mcp_sessions.store")

#: Pipelines of touches at the same moment: with one, what comes while Redis answers shares the next round trip.
TOUCHES_IN_FLIGHT: Final = 1
#: Index updates that may wait for Redis; further ones are dropped, they are hints.
MOST_INDEX_UPDATES: Final = 10_000

T = TypeVar("T")


class _Loop:
    """What belongs to one event loop: a client and the lanes on it."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.touches = Lane(client, in_flight=TOUCHES_IN_FLIGHT)
        self.others = Lane(client, in_flight=8)
        self.hints = Lane(client, in_flight=1)

    async def aclose(self) -> None:
        for lane in (self.touches, self.others, self.hints):
            await lane.drain()
        await close_async_client(self.client)


class RedisStore:
    """See `base.SessionStore`. One client per running event loop; those of closed loops are dropped."""

    shared = True

    def __init__(self, commands: Commands, make_client: Callable[[], AsyncClient]) -> None:
        self._commands = commands
        self._healing = operations.Healing(commands.monotonic_ms)
        self._loops = PerLoop(lambda: _Loop(make_client()))

    async def create(
        self, fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits
    ) -> Session:
        return await self._run(
            operations.create(self._commands, self._healing, fingerprint, principal, handshake, limits)
        )

    async def touch(
        self, fingerprint: str, *, principal: str, limits: Limits, call: str = "", initialized: bool = False
    ) -> Session | None:
        loop = self._loops.get()
        arguments = self._commands.touch(fingerprint, principal, limits, call, initialized)
        reply = checked(scripts.TOUCH, await loop.touches.submit(scripts.TOUCH, arguments))
        session = parse_session(fingerprint, reply)
        if session is not None and reply[1]:
            self._index(loop, session, limits)
        return session

    async def keep(self, fingerprints: Sequence[str], *, limits: Limits) -> Mapping[str, Session]:
        loop = self._loops.get()
        kept = await self._ask([self._commands.keep(fingerprint, limits) for fingerprint in fingerprints])
        for session, due in kept:
            if due:
                self._index(loop, session, limits)
        return {session.fingerprint: session for session, _ in kept if session is not None}

    async def get(self, fingerprint: str) -> Session | None:
        return await self._one(self._commands.get(fingerprint))

    async def end(self, fingerprint: str, *, principal: str | None, reason: EndReason) -> Session | None:
        return await self._run(operations.end(self._commands, fingerprint, principal, reason))

    async def set_log_level(self, fingerprint: str, level: str) -> bool:
        return await self._one(self._commands.set_log_level(fingerprint, level))

    async def change_tools(
        self, fingerprint: str, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
    ) -> frozenset[str] | None:
        return await self._one(self._commands.change_tools(fingerprint, enable, disable))

    async def state_get(self, fingerprint: str, names: Sequence[str]) -> list[str | None]:
        return await self._one(self._commands.state_get(fingerprint, names))

    async def state_set(self, fingerprint: str, values: Mapping[str, str], *, max_bytes: int) -> None:
        await self._one(self._commands.state_set(fingerprint, values, max_bytes))

    async def state_delete(self, fingerprint: str, names: Sequence[str]) -> int:
        return await self._one(self._commands.state_delete(fingerprint, names))

    async def state_incr(self, fingerprint: str, name: str, amount: int | float, *, max_bytes: int) -> str:
        return await self._one(self._commands.state_incr(fingerprint, name, amount, max_bytes))

    async def state_append(self, fingerprint: str, name: str, item: str, *, max_bytes: int) -> int:
        return await self._one(self._commands.state_append(fingerprint, name, item, max_bytes))

    async def state_names(self, fingerprint: str) -> list[str]:
        items = await self._one(self._commands.state_items(fingerprint))
        return list(items)

    async def aclose(self) -> None:
        if loop := self._loops.pop():
            await loop.aclose()

    async def settle(self) -> None:
        """Wait until the index updates that this event loop has begun are written, or have failed."""
        await self._loops.get().hints.drain()

    def _index(self, loop: _Loop, session: Session, limits: Limits) -> None:
        """Update the indexes behind the request's back."""
        if len(loop.hints) >= MOST_INDEX_UPDATES:
            log.debug("The index update of session %s is dropped: too many wait.", session.fingerprint[:12])
            return
        call = self._commands.index(session, limits)
        loop.hints.submit(call.script, call.arguments).add_done_callback(_log_failure)

    async def _run(self, operation: Operation[T]) -> T:
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
                outcome = await self._ask(calls)
            except StoreUnavailable as error:
                failure = error

    async def _one(self, call: Call[T]) -> T:
        [result] = await self._ask([call])
        value: T = result
        return value

    async def _ask(self, calls: Sequence[Call[Any]]) -> list[Any]:
        lane = self._loops.get().others
        replies = await asyncio.gather(*[lane.submit(call.script, call.arguments) for call in calls])
        return results(calls, replies)


def _log_failure(hint: "asyncio.Future[Any]") -> None:
    if not hint.cancelled() and (error := hint.exception() or _error_reply(hint.result())):
        log.debug("An index update failed: %s", error)


def _error_reply(reply: Any) -> Exception | None:
    return reply if isinstance(reply, Exception) else None
