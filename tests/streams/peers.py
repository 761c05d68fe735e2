"""Processes that deliver streams over one store, all in this one: their notifications can be lost, and they can die."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.cluster.notifications import Notification, StreamChanged, StreamReleased
from mcp_sessions.cluster.validity import Validity
from mcp_sessions.conf import Endpoint
from mcp_sessions.records import Session
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.heartbeat import Heartbeat
from mcp_sessions.store.calls import nodes, sessions, streams
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.orphans import Orphans
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import MINUTE, Harness

EVENT = re.compile(rb"id: (\S+)\ndata: (.+)\n")


class Connection:
    """A GET that a client has open: what came through it."""

    def __init__(self, peer: "Peer", reader: StreamReader) -> None:
        self.peer = peer
        self.reader = reader
        #: The messages, and their ids.
        self.heard: list[Any] = []
        self.ids: list[str] = []
        self._left = asyncio.Event()
        self._delivering = peer.open_streams.start(reader)
        self._running = asyncio.create_task(
            reader.event_stream.run(self._receive, self._send, max_seconds=1000)
        )

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        for event_id, data in EVENT.findall(message.get("body", b"")):
            self.ids.append(event_id.decode())
            self.heard.append(json.loads(data))

    @property
    def closed_by_server(self) -> bool:
        return self._running.done()

    async def close(self) -> None:
        """The client leaves, and its process notices."""
        self._left.set()
        await self._running
        self.peer.open_streams.stop(self.reader, self._delivering)

    async def die(self) -> None:
        """Its process is killed: nobody is notified."""
        self._delivering.cancel()
        self._running.cancel()
        await asyncio.wait([self._delivering, self._running])


class Peer:
    """One process."""

    def __init__(self, service: "Service", name: str) -> None:
        self.service = service
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        node: Any = SimpleNamespace(id=name, notify=service.notify, validity=Validity(), forgotten=0)
        self.context = Context(
            store=service.harness.store,
            node=node,
            conf=lambda: Endpoint(alias="default", server="no.server", max_streams_per_session=100),
            spawn=self.spawn,
        )
        self.open_streams = OpenStreams(self.context)
        self.orphans = Orphans(
            self.context, self.open_streams, run_again=service.run_again, clock=lambda: service.now
        )

    @property
    def heartbeat(self) -> Heartbeat:
        """Of the open streams, and of nothing else."""
        nothing: Any = SimpleNamespace(horizon_ms=0)
        return Heartbeat(
            self.context,
            Admission(self.context.conf),
            self.open_streams,
            client_requests=nothing,
            orphans=self.orphans,
            deadlines=nothing,
            listeners=nothing,
            outage=nothing,
            session_missing=self.service.session_missing,
        )

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def listen(self, session: Session) -> Connection:
        """A client opens its standalone stream here."""
        reader = await self.open_streams.take_over(session, STANDALONE, after=None, scope={})
        assert reader is not None
        return Connection(self, reader)

    def hear(self, notification: Notification) -> None:
        match notification:
            case StreamReleased(fingerprint=fingerprint, token=token):
                self.open_streams.hear_released(fingerprint, token)
            case StreamChanged(fingerprint=fingerprint, stream=stream):
                self.open_streams.nudge(fingerprint, stream)

    async def beat(self) -> None:
        """What a heartbeat does for streams."""
        beat = nodes.beat(self.context.node.id, about="{}", forget_after_ms=MINUTE)
        await self.service.harness.store.run(beat)
        await self.heartbeat.keep()
        await self.orphans.look()


class Service:
    """All processes of one endpoint. `loses` says which notifications are lost."""

    def __init__(self, harness: Harness, *names: str) -> None:
        self.harness = harness
        self.now = 0.0
        self.loses: Callable[[Notification], bool] = lambda _: False
        self.peers = {name: Peer(self, name) for name in names}
        self.said = 0

    def __getitem__(self, name: str) -> Peer:
        return self.peers[name]

    def notify(self, node: str, notification: Notification) -> None:
        peer = self.peers.get(node)
        if peer is not None and peer.alive and not self.loses(notification):
            asyncio.get_running_loop().call_soon(peer.hear, notification)

    async def run_again(self, *_: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def session_missing(self, _: str) -> None:
        raise NotImplementedError

    async def session(self) -> Session:
        session = await self.harness.store.run(sessions.get(await self.harness.open()))
        assert session is not None
        return session

    async def say(self, session: Session) -> int:
        """Publish the next number, and tell who delivers."""
        self.said += 1
        put = streams.publish(
            session.fingerprint,
            payloads=[b"%d" % self.said],
            key=f"say-{self.said}",
            limits=self.harness.stream_limits,
        )
        appended = await self.harness.store.run(put)
        assert appended is not None
        if appended.claim is not None:
            changed = StreamChanged(fingerprint=session.fingerprint, stream=STANDALONE)
            self.notify(appended.claim.node, changed)
        return self.said

    async def beat(self, times: int = 1) -> None:
        """Let every process have so many heartbeats, and let everything settle."""
        for _ in range(times):
            self.now += HEARTBEAT_SECONDS
            self.harness.clock.advance(round(HEARTBEAT_SECONDS * 1000))
            for peer in self.peers.values():
                if peer.alive:
                    await peer.beat()
            await self.settle()

    async def settle(self) -> None:
        """Wait until nothing happens any more. The store answers at once, so a few turns of the loop are enough."""
        for _ in range(20):
            await asyncio.sleep(0)
