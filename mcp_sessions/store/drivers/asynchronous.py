"""Calls on Redis from event loops: one client per running loop, with a few pipelines on it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import ResponseError

from mcp_sessions.connections.cluster import ClusterPipelines
from mcp_sessions.connections.defaults import log
from mcp_sessions.connections.listener import Listener
from mcp_sessions.connections.pipelines import PooledServer
from mcp_sessions.connections.server import AsyncClient
from mcp_sessions.connections.standalone import Pipelines
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, check_unused, failure
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.keys import Keys

if TYPE_CHECKING:
    # It needs a package that few have.
    from mcp_sessions.store.sealing import Sealer

T = TypeVar("T")
#: Makes a client; the socket timeout in seconds is None for that of the settings.
MakeClient = Callable[[float | None], AsyncClient]


class _Loop:
    """What belongs to one event loop."""

    def __init__(self, make_client: MakeClient) -> None:
        self.client = make_client(None)
        self.pipelines = (
            ClusterPipelines(self.client)
            if isinstance(self.client, ClusterNodes)
            else Pipelines(PooledServer(self.client.connection_pool))
        )
        self.listener = Listener(make_client)

    async def aclose(self) -> None:
        await self.pipelines.aclose()
        await self.listener.aclose()
        await self.client.aclose()


class RedisStore:
    """See `drivers.Store`. What belongs to closed event loops is dropped; loops may run in several threads."""

    shared = True

    def __init__(
        self,
        keys: Keys,
        make_client: MakeClient,
        *,
        clock: Callable[[], int] | None = None,
        sealer: "Sealer | None" = None,
    ) -> None:
        self._keys = keys
        self._make_client = make_client
        self._clock = clock
        self._sealer = sealer
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    async def run(self, work: Call[T] | Operation[T], /) -> T:
        if not isinstance(work, Call):
            return await self._operate(work)
        if self._sealer is not None:
            [result] = await self.run_all([work])
            return cast("T", result)
        loop = self._loops.get(asyncio.get_running_loop()) or self._enter()
        # In one frame, unlike `run_all`: this is on the path of every request.
        now = "" if self._clock is None else self._clock()
        job = (work.script, self._keys.resolve(work.home, work.parts), (now, *work.arguments))
        reply = await loop.pipelines.by_name[work.script.pipe].submit(job)
        if work.follow_up is not None or isinstance(reply, Exception):
            return self._result(loop, work, reply)
        return work.decode(work.home, reply)

    async def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        loop = self._loops.get(asyncio.get_running_loop()) or self._enter()
        calls = list(calls)
        futures = [self._submit(loop, call, call.script.pipe) for call in calls]
        replies = [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)
        return [self._result(loop, call, reply) for call, reply in zip(calls, replies, strict=True)]

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        loop = self._loops.get(asyncio.get_running_loop()) or self._enter()
        [inbox] = self._keys.resolve("", [nodes.inbox(node)])
        return await loop.listener.listen(inbox, after=after, block_ms=block_ms)

    async def settle(self) -> None:
        """Wait until the follow-up calls that this event loop has begun are done, or have failed."""
        if loop := self._loops.get(asyncio.get_running_loop()):
            await loop.pipelines.by_name["follow_ups"].drain()

    async def aclose(self) -> None:
        if loop := self._loops.pop(asyncio.get_running_loop(), None):
            await loop.aclose()

    def _enter(self) -> _Loop:
        for closed in [loop for loop in list(self._loops) if loop.is_closed()]:
            self._loops.pop(closed, None)
        entered = self._loops[asyncio.get_running_loop()] = _Loop(self._make_client)
        return entered

    def _submit(self, loop: _Loop, call: Call[Any], pipe: str) -> "asyncio.Future[Any]":
        now = "" if self._clock is None else self._clock()
        keys = self._keys.resolve(call.home, call.parts)
        arguments = call.arguments if self._sealer is None else self._sealer.arguments(call)
        return loop.pipelines.by_name[pipe].submit((call.script, keys, (now, *arguments)))

    def _result(self, loop: _Loop, call: Call[T], reply: Any) -> T:
        """Raises: StoreUnavailable, which is the result of a call that fails alone; what the call's decoder raises."""
        error = failure(call, reply) if isinstance(reply, Exception) else None
        if error is not None:
            does = "refuses calls" if isinstance(reply, ResponseError) else "cannot be reached"
            loop.pipelines.outage.add("Redis at %s %s: %s", loop.pipelines.name, does, error)
            if call.fails_alone:
                return cast("T", error)
            raise error
        if self._sealer is not None:
            reply = self._sealer.opened(call, reply)
        result = call.decode(call.home, reply)
        if call.follow_up is not None:
            for following in call.follow_up(result, reply):
                self._follow(loop, following)
        return result

    def _follow(self, loop: _Loop, call: Call[Any]) -> None:
        """Send a call that nobody waits for; where too many wait, it is dropped."""
        self._submit(loop, call, "follow_ups").add_done_callback(_log_failure)

    async def _operate(self, operation: Operation[T]) -> T:
        """Drive an operation of several round trips."""
        check_unused(operation)
        try:
            calls = next(operation)
            while True:
                try:
                    results = await self.run_all(calls)
                except StoreUnavailable as error:
                    calls = operation.throw(error)
                else:
                    calls = operation.send(results)
        except StopIteration as stop:
            value: T = stop.value
            return value


def _log_failure(reply: "asyncio.Future[Any]") -> None:
    if reply.cancelled():
        return
    error = reply.exception() or (reply.result() if isinstance(reply.result(), Exception) else None)
    if error is not None:
        log.debug("An index update failed: %s", error)
