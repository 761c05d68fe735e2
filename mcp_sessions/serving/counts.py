"""Writes what this process has counted to the store, once a second, behind the requests.

While the store is away, what was counted waits for it, added up. It then counts for the moment when the store is back.
A process that stops writes the rest; one that is killed loses what it counted in the last second, and what waited.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mcp_sessions import counting
from mcp_sessions.counting import Counts
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store import servers
from mcp_sessions.store.calls import counts, indexes
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: Seconds between two writes.
WRITE_SECONDS: Final = 1.0


class CountsWriter:
    """What one endpoint's runtime in one event loop writes."""

    def __init__(self, context: Context, *, streams: Callable[[], int]) -> None:
        """`streams` says how many are open."""
        self._context = context
        self._streams = streams
        #: Those that the store has not confirmed, with their names, oldest first.
        self._batches: list[tuple[str, Counts]] = []
        self._written = 0
        #: The last minute of the store in which this process said how many streams it has.
        self._minute = 0
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self.write()
            except Exception:
                # A fan-out: nothing that is counted may end the counting of the rest.
                logger.exception("What was counted is written later.")

    async def write(self) -> None:
        """Write what was counted. What the store does not take waits for the next time."""
        async with self._writing:
            self._take()
            try:
                while self._batches:
                    batch, some = self._batches[0]
                    await self._write(batch, some)
                    self._batches.pop(0)
            except StoreUnavailable as error:
                logger.debug("What was counted is written later: %s", error)

    def _take(self) -> None:
        """Make batches of what is new. While the store is away, it stays with those that count."""
        alias = self._context.conf().alias
        minute = self._context.node.validity.now_ms() // counts.HOUR.step_ms
        if minute > self._minute:
            self._minute = minute
            counting.count(alias, "nodes")
            counting.count(alias, "streams", self._streams())
        if self._batches:
            return
        for part in counts.parts_of(counting.take(alias)):
            self._written += 1
            self._batches.append((f"{self._written}", part))

    async def _write(self, batch: str, some: Counts) -> None:
        """Raises: StoreUnavailable."""
        now_ms = self._context.node.validity.now_ms()
        add = counts.add(some, by=self._context.node.id, batch=batch, now_ms=now_ms)
        added = await self._context.store.run(add)
        if added.begins:
            await self._measure(added.now_ms)

    async def _measure(self, now_ms: int) -> None:
        """Once a minute one of all processes measures what is not counted. Raises: StoreUnavailable."""
        conf, run = self._context.conf(), self._context.store.run
        numbers = {"sessions": await run(indexes.count(limits=conf.limits))}
        found = await asyncio.to_thread(servers.facts_of, conf.cache)
        if found:
            numbers["memory"] = sum(each.used_memory for each in found)
            numbers["evicted"] = sum(each.evicted for each in found)
            numbers["latency_us"] = round(1e6 * max(each.seconds for each in found))
        await run(counts.set_numbers(numbers, now_ms=now_ms))
