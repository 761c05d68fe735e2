"""This process as a node: its heartbeat, its inbox, the doorbells it rings at others, and the notices it posts.

A doorbell is a hint, "look at this stream", "this session ended": one that is lost costs a heartbeat of latency and
nothing else, since the store holds the truth. So doorbells are not retried, and nothing waits for them. What the store
holds nowhere else, "the tools changed", "cancel this request", is a notice: the store keeps it, each node reads all of
them in order, and a doorbell only says that there is one.
"""

import asyncio
import json
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Any, Final

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers import Store

logger = logging.getLogger(__name__)

#: Seconds between heartbeats; what a lost doorbell costs at most.
HEARTBEAT_SECONDS: Final = 4.0
#: A node without a heartbeat for so many seconds is dead: its work is lost.
DEAD_AFTER_SECONDS: Final = 12.0
#: Milliseconds that the reader waits for doorbells before it asks again.
BLOCK_MS: Final = 5_000
#: Seconds before a store that could not be asked is asked again.
PAUSE_SECONDS: Final = 0.5
#: Doorbells that may wait to be sent; more are dropped.
MAX_WAITING: Final = 10_000
#: Names of notices by which repetitions are known: a posting is repeated at once, or with a heartbeat.
MOST_REPEATED: Final = 1_000
#: Notices that wait for a store that is away; the oldest make room.
MAX_UNPOSTED: Final = 1_000

Doorbell = Mapping[str, Any]
#: The doorbell that says that there is a notice.
LOOK_AT_NOTICES: Final[Doorbell] = {"t": "notices"}
Answer = Callable[[Doorbell], None]
Beat = Callable[[], Awaitable[None]]


class Bus:
    """One node. `answer` is called with each doorbell and notice, `on_beat` after each heartbeat, in the event loop.

    `pause` says how many seconds pass between heartbeats, at most HEARTBEAT_SECONDS.
    """

    def __init__(self, store: Store, *, answer: Answer, on_beat: Beat, pause: Callable[[], float]) -> None:
        self.node = secrets.token_hex(8)
        self._store = store
        self._answer = answer
        self._on_beat = on_beat
        self._pause = pause
        self._waiting: dict[str, list[bytes]] = {}
        self._count = 0
        self._sender: asyncio.Task[None] | None = None
        self._unposted: deque[bytes] = deque(maxlen=MAX_UNPOSTED)
        self._posting = asyncio.Lock()
        #: Since when this node hears notices, in seconds of the loop's clock.
        self._since = 0.0
        #: Where the notices end that it has read; "" before the first time.
        self._read_until = ""
        #: The names of the last ones: one whose posting was repeated, because the reply was lost, is heard once.
        self._heard: deque[str] = deque(maxlen=MOST_REPEATED)
        self._unread = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Register the node; from here on doorbells for it are kept. If the store is away, a heartbeat registers it."""
        self._since = asyncio.get_running_loop().time()
        try:
            await self._register()
        except StoreUnavailable as error:
            logger.warning("This process joins the others later: %s", error)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        """Leave: other processes forget this node at once."""
        tasks = self._tasks if self._reader is None else [*self._tasks, self._reader]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._post_waiting()
            await self._store.run(nodes.leave(self.node))
        except StoreUnavailable as error:
            logger.info("Node %s could not say goodbye: %s", self.node, error)

    def ring(self, node: str, doorbell: Doorbell) -> None:
        """Ring at one node. This node's own doorbells take no detour."""
        if node == self.node:
            self._answer(doorbell)
            return
        if self._count >= MAX_WAITING:
            return
        self._count += 1
        self._waiting.setdefault(node, []).append(encode(doorbell))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def ring_all(self, doorbell: Doorbell) -> None:
        """Ring at every node, this one included; at this one alone if the store cannot be asked, which is logged."""
        try:
            await self._store.run(nodes.notify_all(encode(doorbell)))
        except StoreUnavailable as error:
            logger.warning("The other processes could not be told at once: %s", error)
            self._hear(encode(doorbell))

    async def post(self, notice: Doorbell) -> None:
        """Tell every node, this one included, what none may miss; in the order of the calls.

        While the store cannot be asked, which is logged, notices wait here for a heartbeat.
        """
        self._unposted.append(as_notice(notice))
        try:
            await self._post_waiting()
        except StoreUnavailable as error:
            logger.warning("Every process is told later: %s", error)

    async def _post_waiting(self) -> None:
        """Raises: StoreUnavailable; then what is left waits. Who posts already takes along what comes meanwhile."""
        if not self._unposted or self._posting.locked():
            return
        async with self._posting:
            while self._unposted:
                posted = self._unposted[0]
                await self._store.run(nodes.broadcast(posted))
                if self._unposted and self._unposted[0] is posted:  # it may have made room meanwhile
                    self._unposted.popleft()
        await self.ring_all(LOOK_AT_NOTICES)

    async def _send(self) -> None:
        """Send what waits; what comes meanwhile goes with the next round trip."""
        try:
            while self._waiting:
                waiting, self._waiting, self._count = self._waiting, {}, 0
                try:
                    await self._store.run(nodes.notify(waiting))
                except StoreUnavailable as error:
                    logger.debug("Doorbells were lost: %s", error)
        finally:
            self._sender = None

    async def _register(self) -> None:
        about = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        await self._store.run(
            nodes.beat(self.node, about=about, forget_after_ms=round(DEAD_AFTER_SECONDS * 1000))
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self._register()
                await self._post_waiting()
                self._look()
                await self._on_beat()
            except StoreUnavailable as error:
                logger.warning("A heartbeat failed: %s", error)
            except Exception:
                # A fan-out: without heartbeats the other processes would take this one for dead.
                logger.exception("A heartbeat failed.")

    async def _listen(self) -> None:
        after = ""
        while True:
            try:
                after, doorbells = await self._store.listen(self.node, after=after, block_ms=BLOCK_MS)
            except StoreUnavailable as error:
                logger.warning("The inbox cannot be read: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            except Exception:
                # Without its inbox a process hears nothing but its heartbeats: go on, whatever it was.
                logger.exception("The inbox cannot be read.")
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for doorbell in doorbells:
                self._hear(doorbell)

    def _look(self) -> None:
        """Read the notices that this node has not read."""
        self._unread = True
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._unread:
                self._unread = False
                age = asyncio.get_running_loop().time() - self._since
                self._read_until, notices = await self._store.run(
                    nodes.broadcasts(
                        after=self._read_until,
                        age_ms=ceil(age * 1000) + 1,  # the store's clock counts whole milliseconds
                    )
                )
                self._unread = self._unread or bool(notices)
                for notice in notices:
                    self._hear(notice)
        except StoreUnavailable as error:
            logger.warning("The notices are read later: %s", error)
        finally:
            self._reader = None

    def _is_repeated(self, doorbell: Doorbell) -> bool:
        name = doorbell.get("k")
        if not isinstance(name, str):
            return False
        if name in self._heard:
            return True
        self._heard.append(name)
        return False

    def _hear(self, encoded: bytes) -> None:
        try:
            doorbell = json.loads(encoded)
            if doorbell == LOOK_AT_NOTICES:
                self._look()
            elif not self._is_repeated(doorbell):
                self._answer(doorbell)
        except Exception:
            # A fan-out: one that cannot be answered, of another release perhaps, must not silence the rest.
            logger.exception("A doorbell could not be answered.")


def as_notice(notice: Doorbell) -> bytes:
    """With a name of its own, `k`, by which who hears it twice can tell."""
    return encode({**notice, "k": secrets.token_hex(8)})


def encode(doorbell: Doorbell) -> bytes:
    return json.dumps(doorbell, separators=(",", ":")).encode("ascii")
