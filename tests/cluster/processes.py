"""Processes that ask clients over one store, all in this one: what they are told can be lost, and they can die."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from mcp_sessions.cluster.client_requests import ClientRequest, ClientRequests
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import Notification, ReplyArrived
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import requests
from mcp_sessions.store.drivers.embedded import EmbeddedStore
from mcp_sessions.transport import jsonrpc
from tests.store.harness import Harness

BOUND = 10


class Store(EmbeddedStore):
    """Counts what is read back, loses notifications, and can lose the reply of an answer or hold it up."""

    def __init__(self, harness: Harness) -> None:
        assert isinstance(harness.store, EmbeddedStore)
        super().__init__(harness.store.sync)
        self.read_back = 0
        self.loses_replies = False
        self.holding: asyncio.Event | None = None
        self.before_registering: Callable[[], Awaitable[None]] | None = None
        #: What the next readers of replies wait for, who have read them.
        self.slow_readers: list[asyncio.Event] = []
        self.calls: list[Call[Any]] = []

    async def run(self, work: Any, /) -> Any:
        if not isinstance(work, Call):  # a notification, which is an operation; answers arrive without it
            return None
        self.calls.append(work)
        if work.script is requests.REGISTER and self.before_registering is not None:
            await self.before_registering()
        result = await super().run(work)
        if work.script is requests.ANSWER:
            if self.holding is not None:
                await self.holding.wait()
            if self.loses_replies:
                raise StoreUnavailable
        if work.script is requests.REPLIES and self.slow_readers:
            await self.slow_readers.pop(0).wait()
        self.read_back += work.script is requests.REPLIES
        return result


class Process:
    """One process that serves an endpoint. `conf` are settings of the endpoint."""

    def __init__(self, store: Store, *, dead: Sequence[str] = (), **conf: Any) -> None:
        self.said: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.dead = set(dead)
        #: What happens while this process finds out whether another one is dead.
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.node = Node(store, hear=self._hear, on_beat=self._beat, pause=lambda: 1)
        self.requests = ClientRequests(
            store,
            self.node,
            conf=lambda: Endpoint(alias="default", server="no.server", **conf),
            spawn=self._spawn,
            is_dead=self._is_dead,
        )

    async def _is_dead(self, node: str) -> bool:
        if self.meanwhile is not None:
            await self.meanwhile()
        return node in self.dead

    def _hear(self, notification: Notification, name: str) -> None:
        assert isinstance(notification, ReplyArrived)
        self.requests.hear(notification.fingerprint, notification.request_id)

    async def _beat(self) -> None:
        """Only the tests send heartbeats."""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def settle(self) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def ask(self, fingerprint: str, **options: Any) -> tuple[str, "asyncio.Task[jsonrpc.Reply]"]:
        """Send a request: its id, and what waits for its response."""
        request = ClientRequest(method="ping", params=None, **options)
        waiting = asyncio.create_task(self.requests.send(fingerprint, request, self.said.put))
        message = await asyncio.wait_for(self.said.get(), BOUND)
        return message["id"], waiting

    async def receive(self, fingerprint: str, request_id: str, **result: Any) -> bool:
        """A response of the client arrives here; whether it was accepted."""
        reply = jsonrpc.Reply(id=request_id, result=result, error=None)
        return await self.requests.answer(fingerprint, reply)
