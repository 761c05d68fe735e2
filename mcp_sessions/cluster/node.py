"""This process as a node of its endpoint: heartbeat, inbox, and what it tells the other nodes.

A notification is a hint, "look at this stream", "this session ended": a lost one costs at most one heartbeat, because
the store has the truth. So notifications are not retried, and nothing waits for them. What the store holds nowhere
else, "the tools changed", "cancel this request", is a broadcast: the store keeps it, each node reads all of them in
order, and a notification only says that there is one.
"""

import asyncio
import json
import logging
import os
import secrets
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import Final

from mcp_sessions import ids
from mcp_sessions.cluster.notifications import BroadcastsPosted, Notification, Unreadable, decode, encode
from mcp_sessions.cluster.validity import Validity
from mcp_sessions.documentation import page
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers import Store

logger = logging.getLogger(__name__)

#: Seconds between heartbeats; what a lost notification costs at most.
HEARTBEAT_SECONDS: Final = 4.0
#: A node without a heartbeat for so many seconds is dead: its work is lost.
DEAD_AFTER_SECONDS: Final = 12.0
#: A heartbeat has failed if the next one comes later than this.
GAP_SECONDS: Final = 2 * HEARTBEAT_SECONDS
#: Milliseconds that the reader waits for notifications before it asks again.
BLOCK_MS: Final = 5_000
#: Seconds before a store that could not be asked is asked again.
PAUSE_SECONDS: Final = 0.5
#: Notifications that may wait to be sent; more are dropped.
MAX_WAITING: Final = 10_000
#: Names of broadcasts by which repetitions are known: a posting is repeated at once, or with a heartbeat.
MOST_REPEATED: Final = 1_000
#: Seconds that the first look for broadcasts may take. If it takes longer, the next one may take twice as long as it.
FIRST_LOOK_SECONDS: Final = 1.0
#: Broadcasts that wait for a store that is away; the oldest make room.
MAX_UNPOSTED: Final = 1_000
#: Kinds of unreadable notifications that are counted apart; the others are counted as one.
MOST_SKIPPED_KINDS: Final = 100

#: Called with a notification, and with its name if it is a broadcast.
Hear = Callable[[Notification, str], None]
Beat = Callable[[], Awaitable[None]]


class Node:
    """One node. It calls `hear` with each notification, broadcasts included, and `on_beat` with each heartbeat.

    Both are called in the event loop. `pause` says how many seconds pass between heartbeats, at most HEARTBEAT_SECONDS.
    However long `on_beat` takes, the node's signs of life go on; it is not called again meanwhile.
    """

    def __init__(self, store: Store, *, hear: Hear, on_beat: Beat, pause: Callable[[], float]) -> None:
        self.id = secrets.token_hex(8)
        #: How many notifications this node could not read, by kind: those of a newer release, and garbage.
        self.skipped: Counter[str] = Counter()
        #: Whether it has ever registered, and whether it could the last time: whether it reaches the store.
        self.has_joined = self.is_in_touch = False
        #: How often a heartbeat found that the store had forgotten this node, or its last heartbeats. If it has lost
        #: data, it has forgotten others, too, which are alive.
        self.forgotten = 0
        self.store = store
        self.validity = Validity()
        self._hear = hear
        self._on_beat = on_beat
        self._pause = pause
        self._waiting: dict[str, list[bytes]] = {}
        self._count = 0
        self._sender: asyncio.Task[None] | None = None
        self._unposted: deque[bytes] = deque(maxlen=MAX_UNPOSTED)
        self._posting = asyncio.Lock()
        #: Since when this node hears broadcasts, in seconds of the loop's clock.
        self._since = 0.0
        #: Where the broadcasts end that it has read; "" before the first time.
        self._read_until = ""
        #: The names of the last ones: one whose posting was repeated, because the reply was lost, is heard once.
        self._heard: deque[str] = deque(maxlen=MOST_REPEATED)
        self._unread = False
        self._has_compared = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._missed = Repeats(logger, f"Heartbeats of node {self.id} that failed")
        self._late = Repeats(logger, "Messages that the nodes were not told at once")

    async def start(self) -> None:
        """Register the node; from here on its inbox exists. If the store is away, a heartbeat registers it."""
        self._since = asyncio.get_running_loop().time()
        try:
            await self._register()
            # From here on its place is known, whatever the clocks do.
            self._look()
        except StoreUnavailable as error:
            logger.warning("This node joins the others later: %s", error)
        self._tasks = [asyncio.create_task(work()) for work in (self._listen, self._beat, self._look_after)]

    async def stop(self) -> None:
        """Leave: other nodes forget this one at once."""
        await _cancelled(self._tasks)
        try:
            await self._post_waiting()
            await self.store.run(nodes.leave(self.id))
        except StoreUnavailable as error:
            logger.info("Node %s could not sign off; the others will forget it: %s", self.id, error)
        if self._reader is not None:  # posting may have started it
            await _cancelled([self._reader])
        self._missed.end()
        self._late.end()

    def notify(self, node: str, notification: Notification) -> None:
        """Notify one node. This node hears its own notifications at once, without the store."""
        if node == self.id:
            self._hear(notification, "")
            return
        if self._count >= MAX_WAITING:
            return
        self._count += 1
        self._waiting.setdefault(node, []).append(encode(notification))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def notify_others(self, notification: Notification) -> None:
        """Notify all other nodes; that the store cannot be asked is logged."""
        encoded = encode(notification)
        try:
            others = [node.id for node in await self.store.run(nodes.list_nodes()) if node.id != self.id]
            await self.store.run(nodes.notify({other: [encoded] for other in others}))
        except StoreUnavailable as error:
            self._late.add("The other nodes could not be told at once: %s", error)

    async def broadcast(self, message: Notification) -> bool:
        """Tell every node, this one included, what none may miss; in the order of the calls.

        While the store cannot be asked, which is logged, broadcasts wait here for a heartbeat. False: this one may be
        among them, and is lost if the process ends first.
        """
        self._unposted.append(encode(message, name=new_name()))
        try:
            await self._post_waiting()
        except StoreUnavailable as error:
            self._late.add("The nodes are told later: %s", error)
            return False
        return True

    async def _post_waiting(self) -> None:
        """Raises: StoreUnavailable; then what is left waits. Whoever posts takes what comes meanwhile."""
        async with self._posting:
            if not self._unposted:
                return
            while self._unposted:
                posted = self._unposted[0]
                await self.store.run(nodes.broadcast(posted))
                if self._unposted and self._unposted[0] is posted:  # it may have made room meanwhile
                    self._unposted.popleft()
        self._look()
        await self.notify_others(BroadcastsPosted())

    async def _send(self) -> None:
        """Send what waits; what comes meanwhile goes with the next round trip."""
        try:
            while self._waiting:
                waiting, self._waiting, self._count = self._waiting, {}, 0
                try:
                    await self.store.run(nodes.notify(waiting))
                except StoreUnavailable as error:
                    logger.debug("Notifications were lost: %s", error)
        finally:
            self._sender = None

    async def _register(self) -> None:
        about = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "keys": ids.key_digests()})
        beat = nodes.beat(self.id, about=about, forget_after_ms=round(DEAD_AFTER_SECONDS * 1000))
        try:
            since_ms = await self.store.run(beat)
            self.forgotten += since_ms is None or since_ms > GAP_SECONDS * 1000
            await self.validity.ask(self.store)
        except StoreUnavailable:
            self.is_in_touch = False
            raise
        self.has_joined = self.is_in_touch = True
        if not self._has_compared:
            await self._compare_keys()

    async def _compare_keys(self) -> None:
        """Once: warn if this node answers 404 to sessions of others, or they to its own."""
        found = await self.store.run(nodes.list_nodes())
        self._has_compared = True
        strangers = [node.id for node in found if not node.shares_keys(ids.key_digests())]
        if strangers:
            logger.warning(
                "This node has another SECRET_KEY than %d of %d others (%s): sessions that one of them opened are "
                "unknown to the other. Give all processes the same SECRET_KEY, or the others' in SECRET_KEY_FALLBACKS. "
                "%s",
                len(strangers),
                len(found) - 1,
                ", ".join(strangers[:3]),
                page("operations", "changing-secret_key"),
            )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self._register()
                if not self._posting.locked():  # signs of life do not wait for whoever posts
                    await self._post_waiting()
                self._look()
            except StoreUnavailable as error:
                self._missed.add("A heartbeat failed: %s", error)
            except Exception:
                # A fan-out: without heartbeats the other nodes would take this one for dead.
                logger.exception("A heartbeat failed.")
            else:
                self._missed.end()

    async def _look_after(self) -> None:
        """Apart from the signs of life: with thousands of streams and a slow store it takes longer than a beat."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self._on_beat()
            except StoreUnavailable as error:
                logger.debug("Sessions and streams are looked after later: %s", error)
            except Exception:
                # A fan-out: one that fails must not end the care for all others.
                logger.exception("Sessions and streams are looked after later.")

    async def _listen(self) -> None:
        after = "0-0"  # nobody notifies a node before it has registered
        while True:
            try:
                after, notifications = await self.store.listen(self.id, after=after, block_ms=BLOCK_MS)
            except StoreUnavailable as error:
                logger.debug("The inbox cannot be read: %s", error)  # the store logs its outage
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            except Exception:
                # Without its inbox a node hears nothing but its heartbeats: go on, whatever it was.
                logger.exception("The inbox cannot be read.")
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for encoded in notifications:
                self._receive(encoded)

    def _look(self) -> None:
        """Read the broadcasts that this node has not read."""
        self._unread = True
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        clock, may_take = asyncio.get_running_loop().time, FIRST_LOOK_SECONDS
        try:
            while self._unread:
                self._unread = False
                asked = clock()
                age_ms = ceil((asked - self._since + may_take) * 1000)
                look = nodes.broadcasts(after=self._read_until, age_ms=age_ms)
                read_until, broadcasts = await self.store.run(look)
                if not self._read_until and (took := clock() - asked) > may_take:
                    # The store counts from when it hears this, and that may have been too late for the first ones.
                    self._unread, may_take = True, 2 * took
                    continue
                self._read_until = read_until
                self._unread = self._unread or bool(broadcasts)
                for encoded in broadcasts:
                    self._receive(encoded)
        except StoreUnavailable as error:
            logger.debug("The broadcasts are read later: %s", error)
        finally:
            self._reader = None

    def _receive(self, encoded: bytes) -> None:
        """Hear what came from the store."""
        try:
            envelope = decode(encoded)
        except Unreadable as error:
            self._skip(error.kind)
            return
        if isinstance(envelope.notification, BroadcastsPosted):
            self._look()
        elif not envelope.name or self._is_new(envelope.name):
            try:
                self._hear(envelope.notification, envelope.name)
            except Exception:
                # A fan-out: one that cannot be answered must not silence the rest.
                logger.exception("A notification could not be answered.")

    def _is_new(self, name: str) -> bool:
        """Whether a broadcast of that name is heard for the first time; from here on it was."""
        if name in self._heard:
            return False
        self._heard.append(name)
        return True

    def _skip(self, kind: str) -> None:
        """Count what cannot be read, and log the first of each kind."""
        if kind not in self.skipped and len(self.skipped) >= MOST_SKIPPED_KINDS:
            kind = "other"
        self.skipped[kind] += 1
        if self.skipped[kind] == 1:
            logger.warning("Skipped a notification that this release cannot read: %s. Logged once.", kind)


async def _cancelled(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks, and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def new_name() -> str:
    """A name for a broadcast, by which a node that reads it twice can tell."""
    return secrets.token_hex(8)
