"""Counts requests, and writes what this process has counted to the store, once a second, behind the requests.

While the store is away, what was counted waits for it, added up. It then counts for the moment when the store is back.
A process that stops writes the rest; one that is killed loses what it counted since it last wrote.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from mcp_sessions import counting
from mcp_sessions.counting import MOST_TOOLS, UNKNOWN, Counts
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.observing import Ended
from mcp_sessions.store import servers
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import counts, indexes
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: What is counted with each sample.
_SAMPLE: Final = "nodes"


class CountsWriter:
    """Observes the requests of one endpoint in one event loop."""

    def __init__(
        self, context: Context, has_tool: Callable[[str], bool | None], streams: Callable[[], int]
    ) -> None:
        """`has_tool` says whether the server has a tool, None for unknown; `streams` how many streams are open."""
        self._context = context
        self._has_tool = has_tool
        self._streams = streams
        #: Tools that have succeeded, of a server whose tools are not known otherwise.
        self._seen: set[str] = set()
        #: What the store has not confirmed, with the name of each batch, oldest first.
        self._batches: list[tuple[str, Counts]] = []
        self._made = 0
        #: The last minute of the store for which this process has told how many streams it has.
        self._minute = 0
        self._writing = asyncio.Lock()

    def hear(self, ended: Sequence[Ended]) -> None:
        """Count requests, and write in the background what was counted by then."""
        alias = self._context.conf().alias
        for outcome, number in Counter(each.outcome for each in ended).items():
            counting.count(alias, "requests", number, outcome=outcome)
        for each in ended:
            if each.request.tool:
                tool = self._counted_as(each)
                counting.count_call(alias, tool, milliseconds=each.ms, outcome=each.outcome)
        self._sample(alias)
        if not self._writing.locked():
            self._context.spawn(self.write())

    def _sample(self, alias: str) -> None:
        """Once a minute of the store: that there is this process, and how many streams it has.

        Not while something waits for the store: all of it counts for the minute in which the store takes it, and would
        be so many times what there is. A clock that was set back has had none of the minutes that come.
        """
        minute = self._context.node.validity.now_ms() // counts.HOUR.step_ms
        if not self._minute - 1 <= minute <= self._minute and not self._batches:
            self._minute = minute
            counting.count(alias, _SAMPLE)
            counting.count(alias, "streams", self._streams())

    def writes(self) -> Sequence[Call[Any]]:
        """Nothing: what the store does not take is not lost, so it is written in another way."""
        return ()

    def _counted_as(self, call: Ended) -> str:
        """The name of its tool. Clients can call names that no tool has; those are counted as one."""
        tool, known = call.request.tool, self._has_tool(call.request.tool)
        if known is None:
            if call.outcome == "ok" and len(self._seen) < MOST_TOOLS:
                self._seen.add(tool)
            known = tool in self._seen
        return tool if known else UNKNOWN

    async def write(self) -> None:
        """Write what was counted. What the store does not take waits for the next time."""
        alias = self._context.conf().alias
        async with self._writing:
            if not self._batches:  # while there are some, what is new stays with those that count
                for part in counts.parts_of(counting.take(alias)):
                    self._made += 1
                    self._batches.append((str(self._made), part))
            try:
                while self._batches:
                    await self._write(*self._batches[0])
                    self._batches.pop(0)
            except StoreUnavailable as error:
                logger.debug("What was counted is written later: %s", error)

    async def _write(self, batch: str, some: Counts) -> None:
        """Raises: StoreUnavailable."""
        now_ms = self._context.node.validity.now_ms()
        add = counts.add(some, by=self._context.node.id, batch=batch, now_ms=now_ms)
        added = await self._context.store.run(add)
        if _SAMPLE in some.numbers:
            self._minute = max(self._minute, added.now_ms // counts.HOUR.step_ms)
        if added.begins:
            await self._measure(added.now_ms)

    async def _measure(self, now_ms: int) -> None:
        """Once a minute one of all processes measures what is not counted. Raises: StoreUnavailable."""
        conf, run = self._context.conf(), self._context.store.run
        numbers = {"sessions": await run(indexes.count(limits=conf.limits))}
        found = await asyncio.to_thread(servers.facts_of, conf.cache)
        if found:
            if not any(each.refusal for each in found):
                numbers["memory"] = sum(each.used_memory for each in found)
                numbers["evicted"] = sum(each.evicted for each in found)
            numbers["latency_us"] = round(1e6 * max(each.seconds for each in found))
        await run(counts.set_numbers(numbers, now_ms=now_ms))
