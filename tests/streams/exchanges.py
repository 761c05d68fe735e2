"""A call that is being answered on a connection of its own, over a store that can be away or slow."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import streams
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.writer import StreamWriter
from tests.store.harness import Harness
from tests.streams.peers import EVENT

BOUND = 10.0


class Exchange:
    """A call that is being answered on a connection of its own."""

    def __init__(
        self,
        harness: Harness,
        fingerprint: str,
        *,
        primed: bool = True,
        logged: bool = True,
        away: bool = False,
        **conf: Any,
    ) -> None:
        self.harness = harness
        self.fingerprint = fingerprint
        self.away = away
        #: Until it is set, the store takes no message.
        self.may_log = asyncio.Event()
        self.may_log.set()
        #: Until it is set, the store does not say who delivers the stream.
        self.may_disconnect = asyncio.Event()
        self.may_disconnect.set()
        #: What the store says of that, or raises, before it says the truth.
        self.delivered_by: list[Any] = []
        self.notified: list[tuple[str, Any]] = []
        self.sent = b""
        self.tasks: set[asyncio.Task[Any]] = set()
        node: Any = SimpleNamespace(id="a", notify=lambda *told: self.notified.append(told))
        store: Any = SimpleNamespace(run=self._run)
        self.settings = Endpoint(alias="default", server="no.server", **conf)
        context = Context(store=store, node=node, conf=lambda: self.settings, spawn=self._spawn)
        self.stream = StreamWriter(context, fingerprint, request='{"id": 7}', primed=primed, logged=logged)
        self.stream.open()
        self.running = asyncio.create_task(
            self.stream.event_stream.run(self._receive, self._send, max_seconds=1000)
        )

    async def _run(self, work: Any) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        if getattr(work, "script", None) is streams.DELIVERED_BY:
            await self.may_disconnect.wait()
            if self.delivered_by:
                said = self.delivered_by.pop(0)
                if isinstance(said, Exception):
                    raise said
                return said
        if getattr(work, "script", None) is streams.APPEND:
            await self.may_log.wait()
        return await self.harness.store.run(work)

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def _send(self, message: Any) -> None:
        self.sent += message.get("body", b"")

    def put(self, *numbers: int, last: bool = False) -> None:
        for number in numbers:
            if last:
                self.stream.put({"n": number}, last=True)
            else:
                self.stream.put({"n": number})

    def events(self) -> list[tuple[int, int]]:
        """The positions and numbers of what was sent with an id."""
        return [
            (int(event_id.rpartition(b"-")[2]), json.loads(data)["n"])
            for event_id, data in EVENT.findall(self.sent)
        ]

    def without_ids(self) -> int:
        return self.sent.count(b"event: message\ndata:")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND):
            while not condition():
                await asyncio.sleep(0)

    async def logged(self) -> None:
        """Wait until the store has everything."""
        await self.stream.written()
        async with asyncio.timeout(BOUND):
            while self.tasks:
                await asyncio.wait(self.tasks)

    async def log(self) -> list[tuple[int, int]]:
        """What a client that resumes the stream gets."""
        return [
            (position, json.loads(data)["n"])
            for position, data in await self.harness.kept(self.fingerprint, stream=self.stream.name)
        ]
