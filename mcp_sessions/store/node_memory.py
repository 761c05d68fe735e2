"""The nodes of one process's memory, their inboxes and notices. Rung from event loops and threads."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mcp_sessions.store.stream_commands import MOST_DOORBELLS, MOST_NOTICES, NOTICES_READ
from mcp_sessions.store.streaming import Node


@dataclass(slots=True)
class _Inbox:
    #: The number of each, growing over all inboxes and notices.
    doorbells: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=MOST_DOORBELLS))

    def since(self, number: int) -> list[tuple[int, bytes]]:
        return [each for each in self.doorbells if each[0] > number]


class _Waiter:
    """Somebody who waits for doorbells, in the event loop that makes it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def wake(self) -> None:
        """From any thread. Nobody waits in a loop that is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, milliseconds: int) -> None:
        """Until it is woken, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                await self._rung.wait()


class NodeMemory:
    """Safe to call from any thread."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._inboxes: dict[str, _Inbox] = {}
        self._waiters: dict[str, list[_Waiter]] = {}
        #: The number of each, when it was posted, and the notice.
        self._notices: deque[tuple[int, int, bytes]] = deque(maxlen=MOST_NOTICES)
        #: Of the last doorbell or notice.
        self._number = 0

    def beat(self, node: str, about: str, forget_after_ms: int) -> None:
        with self._lock:
            now = self._clock()
            for dead in [each.id for each in self._nodes.values() if each.seen_ms < now - forget_after_ms]:
                self._forget(dead)
            self._nodes[node] = Node(id=node, about=about, seen_ms=now)
            self._inboxes.setdefault(node, _Inbox())

    def leave(self, node: str) -> None:
        with self._lock:
            self._forget(node)

    def nodes(self) -> list[Node]:
        with self._lock:
            return [node for _, node in sorted(self._nodes.items())]

    def seen_ms(self, node: str) -> int:
        """0 for a node that is not known."""
        with self._lock:
            known = self._nodes.get(node)
            return known.seen_ms if known else 0

    def ring(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        with self._lock:
            for node, doorbells in messages.items():
                if doorbells and node in self._inboxes:
                    self._put(node, doorbells)

    def post(self, notice: bytes) -> None:
        with self._lock:
            self._number += 1
            self._notices.append((self._number, self._clock(), notice))

    def notices(self, after: str, age_ms: int) -> tuple[str, Sequence[bytes]]:
        with self._lock:
            since, number = self._clock() - age_ms, self._number
            if after:
                number = int(after)
                new = [each for each in self._notices if each[0] > number]
            else:
                new = [each for each in self._notices if each[1] > since]
        read = new[:NOTICES_READ]
        return str(read[-1][0] if read else number), [notice for _, _, notice in read]

    async def listen(self, node: str, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        waiter = _Waiter()
        with self._lock:
            number = int(after) if after else self._number
            rung = self._since(node, number)
            self._waiters.setdefault(node, []).append(waiter)
        try:
            if not rung:
                await waiter.wait(block_ms)
        finally:
            with self._lock:
                self._dismiss(node, waiter)
                rung = self._since(node, number)
        return str(rung[-1][0] if rung else number), [message for _, message in rung]

    def _put(self, node: str, doorbells: Sequence[bytes]) -> None:
        for doorbell in doorbells:
            self._number += 1
            self._inboxes[node].doorbells.append((self._number, doorbell))
        for waiter in self._waiters.get(node, ()):
            waiter.wake()

    def _since(self, node: str, number: int) -> list[tuple[int, bytes]]:
        inbox = self._inboxes.get(node)
        return inbox.since(number) if inbox else []

    def _dismiss(self, node: str, waiter: _Waiter) -> None:
        self._waiters[node].remove(waiter)
        if not self._waiters[node]:
            del self._waiters[node]

    def _forget(self, node: str) -> None:
        self._nodes.pop(node, None)
        self._inboxes.pop(node, None)
