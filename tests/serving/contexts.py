"""What the parts that serve an endpoint share, in a process of a test: a store in memory, and a silent node."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from mcp_sessions.cluster.notifications import Notification
from mcp_sessions.cluster.validity import Validity
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.drivers import Store
from mcp_sessions.streams.context import Context
from tests.store.harness import embedded_harness


class AtTimes:
    """A store that can be away, and remembers what it was asked. It says that other processes have it, too."""

    shared = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.asked: list[Any] = []

    async def run(self, work: Any) -> Any:
        self.asked.append(work)
        if self.away:
            raise StoreUnavailable("away")
        return await self._store.run(work)

    async def run_all(self, calls: Any) -> list[Any]:
        return [await self.run(each) for each in calls]


@dataclass
class Alone:
    """A node without others: what it would tell them."""

    id: str = "0123456789abcdef"
    forgotten: int = 0
    validity: Validity = field(default_factory=Validity)
    told: list[tuple[str, Notification]] = field(default_factory=list)
    broadcasts: list[Notification] = field(default_factory=list)
    #: Whether the store takes a broadcast.
    takes: bool = True

    def notify(self, node: str, notification: Notification) -> None:
        self.told.append((node, notification))

    async def broadcast(self, message: Notification) -> bool:
        self.broadcasts.append(message)
        return self.takes


class Process:
    """One process that serves an endpoint. `conf` are settings of the endpoint."""

    def __init__(self, **conf: Any) -> None:
        self.harness = embedded_harness()
        self.store = AtTimes(self.harness.store)
        self.node = Alone()
        self.conf = Endpoint(**{"alias": "default", "server": "no.server", **conf})
        self.tasks: set[asyncio.Task[Any]] = set()
        self.context = Context(
            store=self.store,  # type: ignore[arg-type] # it does not listen
            node=self.node,  # type: ignore[arg-type]
            conf=lambda: self.conf,
            spawn=self.spawn,
        )

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait until nothing runs in the background."""
        while self.tasks:
            await asyncio.wait(self.tasks)
