"""Which node of a Redis Cluster serves which slot, and a client for each node. For one event loop.

redis-py's cluster client is not used: it asks one node after the other, so that a hung one costs seconds; it takes the
first answer, also that of a node that was cut off; and it forgets the addresses of LOCATION for the ones that it found.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, Final, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

#: Host and port.
Address = tuple[str, int]
Remap = Callable[[Address], Address]

#: Seconds that a node may take to say what it knows.
ASK_TIMEOUT: Final = 1.0
#: Seconds that the other nodes get once one has answered. Of several answers that with the highest epoch counts.
GRACE: Final = 0.1
#: Seconds between two looks at least: while a node is down, every call on it asks for one.
PAUSE: Final = 0.2
#: Seconds for which a look that found nobody counts: calls do not wait for the next one.
VAIN: Final = 2 * (ASK_TIMEOUT + PAUSE)
_EPOCH: Final = re.compile(rb"cluster_current_epoch:(\d+)")


class _View(NamedTuple):
    """What one node knows of the cluster."""

    epoch: int
    #: The primary of each slot.
    slots: list[Address | None]
    #: Primaries and replicas.
    nodes: set[Address]


class ClusterNodes:
    """The nodes of one Cluster. `options` are those of a connection pool; nothing connects yet."""

    def __init__(
        self, startup: Sequence[Address], options: Mapping[str, Any], *, remap: Remap | None = None
    ) -> None:
        self.startup = tuple(startup)
        self.options = options
        #: The primary of each slot, None if nobody has it; empty until the first answer.
        self.slots: list[Address | None] = []
        #: Told of a node that has left: it closes what it has of it. Without it, what is in use stays open.
        self.left: Callable[[Address], None] | None = None
        self._remap = remap
        self._nodes: set[Address] = set()
        self._clients: dict[Address, Redis] = {}
        self._looking: asyncio.Task[None] | None = None
        #: When the last look ended, by the loop's clock.
        self._looked_at: float | None = None
        self._error: BaseException | None = None

    def client(self, address: Address) -> Redis:
        """A client of one node."""
        found = self._clients.get(address)
        if found is None:
            pool = BlockingConnectionPool(host=address[0], port=address[1], **self.options)
            found = self._clients[address] = Redis.from_pool(pool)
        return found

    async def address_of(self, key: str) -> Address:
        """The primary of a key; looks for it if nobody is known. Raises: ConnectionError of redis-py.

        After a look that did not find it nobody waits for the next one, which has begun.
        """
        slot = key_slot(key.encode())
        address = self.slots[slot] if self.slots else None
        if address is None:
            looking, now = self.refresh(), asyncio.get_running_loop().time()
            if self._looked_at is None or now - self._looked_at > VAIN:
                await asyncio.shield(looking)
                address = self.slots[slot] if self.slots else None
        if address is None:
            reason = (
                f"Nobody serves slot {slot}."
                if self.slots
                else f"No node of the cluster answered: {self._error}"
            )
            raise RedisConnectionError(reason) from self._error
        return address

    def redirected(self, error: AskError, asked: Address) -> Address:
        """Where a node that was asked says that a slot is. Without a host it means its own."""
        host, port = error.node_addr
        return self._mapped((host or asked[0], port))

    def moved(self, slot: int, address: Address) -> None:
        """A slot is elsewhere, for good. Probably others are, too."""
        if self.slots:
            self.slots[slot] = address
        self.refresh()

    def refresh(self) -> "asyncio.Task[None]":
        """Look who serves what, unless that has begun already. The task does not fail."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), context=Context())
        return self._looking

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._looked_at is not None:
            await asyncio.sleep(self._looked_at + PAUSE - loop.time())
        answers = await self._answers()
        self._looked_at = loop.time()
        if not answers:
            return
        newest = max(
            answers, key=lambda view: (view.epoch, REDIS_CLUSTER_HASH_SLOTS - view.slots.count(None))
        )
        self.slots, self._nodes = newest.slots, newest.nodes
        # A node that left may still reply that it has moved its slots: what is in use stays open.
        for address in self._clients.keys() - {*self.startup, *self._nodes}:
            if self.left is not None:
                self.left(address)
                client = self._clients.pop(address)
            else:
                client = self._clients[address]
            await client.connection_pool.disconnect(inuse_connections=False)

    async def _answers(self) -> "list[_View]":
        """What the nodes know that answer soon."""
        asking = {asyncio.ensure_future(self._ask(address)) for address in {*self.startup, *self._nodes}}
        views: list[_View] = []
        try:
            while asking:
                done, asking = await asyncio.wait(
                    asking, timeout=GRACE if views else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                views += [view for task in done if (view := task.result()) is not None]
        finally:
            for task in asking:
                task.cancel()
        return views

    async def _ask(self, address: Address) -> "_View | None":
        client: Any = self.client(address)
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                # In two words each, so that redis-py gives the replies as they are.
                about = await client.execute_command("CLUSTER", "INFO")
                ranges = await client.execute_command("CLUSTER", "SLOTS")
        except (RedisError, RedisClusterException, OSError, TimeoutError, EOFError) as error:
            self._error = error
            return None
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: set[Address] = set()
        for first, last, *serving in ranges:
            serving = [
                self._mapped((host.decode() if host else address[0], port)) for host, port, *_ in serving
            ]
            slots[first : last + 1] = serving[:1] * (last + 1 - first)
            nodes.update(serving)
        epoch = _EPOCH.search(about)
        return _View(int(epoch[1]) if epoch else 0, slots, nodes)

    def _mapped(self, address: Address) -> Address:
        return address if self._remap is None else self._remap(address)
