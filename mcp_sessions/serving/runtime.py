"""What serves one endpoint in one event loop: its parts, and how they start and stop.

Nothing here decides whether a session exists; the store does, on every request.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import lifecycle, subscriptions
from mcp_sessions.authentication.blocking import blocks_of
from mcp_sessions.cluster.client_requests import ClientRequests
from mcp_sessions.cluster.node import Node
from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.documentation import page
from mcp_sessions.records import Session
from mcp_sessions.sdk.listening import LISTEN
from mcp_sessions.sdk.server import HostedServer, load_server
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.callers import Callers
from mcp_sessions.serving.counts import CountsWriter
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.heartbeat import Heartbeat, keeps, seconds_between
from mcp_sessions.serving.inbox import Inbox
from mcp_sessions.serving.limits import RateLimits
from mcp_sessions.serving.listeners import Listeners
from mcp_sessions.serving.modern import ModernExchange
from mcp_sessions.serving.observing import Begun, Observing
from mcp_sessions.serving.operating import Operating
from mcp_sessions.serving.outage import Outage
from mcp_sessions.serving.past import PastRequests
from mcp_sessions.serving.reports import Reports
from mcp_sessions.store.factory import store_for
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.orphans import Orphans
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.sweeping import Deadlines
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.event_stream import EventStream
from mcp_sessions.transport.rejections import Rejection

#: Seconds that cancelled handlers may take to end before their requests are answered without them.
CANCEL_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Runtime:
    """Builds the parts. The server makes it when it starts to listen, or else the first request does."""

    started = False
    #: Whether the process has been told to stop: what would never end by itself is no longer begun.
    draining = False

    def __init__(self, alias: str) -> None:
        conf = endpoint(alias)
        self._starting, self._tasks = asyncio.Lock(), set[asyncio.Task[Any]]()
        self.server = HostedServer(
            _server_of(conf), json_only=conf.response == "json", max_body=conf.max_body
        )
        store = store_for(alias)
        node = Node(
            store,
            hear=lambda notification, name: self.inbox.hear(notification, name),
            on_beat=lambda: self._heartbeat.beat(),
            pause=partial(seconds_between, alias),
        )
        self.context = Context(store=store, node=node, conf=partial(endpoint, alias), spawn=self.spawn)
        self.observing = Observing(self.context)
        self._watching: asyncio.Task[Any] | None = None
        self.admission, self.outage = Admission(self.context.conf), Outage(self.context)
        self.blocks, self.limits = blocks_of(alias), RateLimits(self.context)
        #: The requests of the modern era in flight. What the SDK's own application answers is answered at once.
        self.modern: set[ModernExchange] = set()
        self.open_streams = OpenStreams(self.context)
        orphans = Orphans(self.context, self.open_streams, run_again=self._run_again)
        self.client_requests = ClientRequests(
            store, node, conf=self.context.conf, spawn=self.spawn, is_dead=orphans.is_dead
        )
        self.new_exchange = partial(
            Exchange,
            context=self.context,
            kernel=self.server.kernel,
            client_requests=self.client_requests,
            note=self.observing.note,
        )
        self.listeners, self.callers = Listeners(self.context, self.server.bus), Callers(self.context)
        self.counts = CountsWriter(self.context, self.server.kernel.has_tool, lambda: self.admission.streams)
        self.operating = Operating(self.context, self.admission, self.modern, listen_no_more)
        self.inbox = Inbox(
            self.context,
            self.admission,
            self.open_streams,
            self.client_requests,
            self.listeners,
            self.outage,
            self.operating,
        )
        self._observe()
        self.deadlines, self._heartbeat = self._keepers(alias, orphans)

    def _observe(self) -> None:
        """Have what requests do counted and written down, and what runs here reported."""
        self._past = PastRequests(self.context)
        self.observing.observers += (
            self.counts,
            self._past,
            Reports(
                self.context,
                self.admission,
                self.open_streams,
                self.listeners,
                running=self.running,
                take_lag=self.observing.take_lag,
                failing=self._past.failing,
            ),
        )

    def _keepers(self, alias: str, orphans: Orphans) -> tuple[Deadlines, Heartbeat]:
        """What ends sessions that are held here, and what keeps them."""
        deadlines = Deadlines(
            alias,
            self.context.node,
            is_held=partial(keeps, self.admission, self.open_streams),
            horizon=lambda: 2 * seconds_between(alias),
            spawn=self.spawn,
        )
        heartbeat = Heartbeat(
            self.context,
            self.admission,
            self.open_streams,
            self.client_requests,
            orphans,
            deadlines,
            self.listeners,
            self.outage,
            self.inbox.session_missing,
        )
        return deadlines, heartbeat

    async def start(self) -> None:
        """Enter the server's lifespan and join the other nodes, once. Raises: what the lifespan raises; then again."""
        async with self._starting:
            if not self.started:
                await self.server.start()
                await self.context.node.start()
                subscriptions.attach(self.context.conf().alias, self.context.node.broadcast)
                if self.blocks.asked_for:  # before this node could hear of what has changed since
                    self.spawn(self.blocks.load())
                self._watching = self.spawn(self.observing.run())
                self.started = True

    def running(self) -> Iterator[Begun]:
        """The requests of both eras that have no answer yet."""
        for exchange in (*self.admission, *self.modern):
            if exchange.response is None:
                yield exchange.begun

    @property
    def ends_listening(self) -> bool:
        """Whether streams that never end by themselves are closed: the process stops, or an operator drains it."""
        return self.draining or lifecycle.is_draining()

    def deliver(self, reader: StreamReader) -> "asyncio.Task[None]":
        """Run a reader until `open_streams.stop`. Its stream ends at once if the others were closed since `listen`."""
        task = self.open_streams.start(reader)
        if self.ends_listening:
            reader.disconnect()
        return task

    def listen_without_store(self) -> EventStream:
        """A stream that is silent until the store is back; it ends at once in the same case."""
        stream = self.outage.listen()
        if self.ends_listening:
            self.outage.close_streams()
        return stream

    def listen(self) -> Rejection | None:
        """Count one more stream that never ends by itself, until `admission.close_stream`; or why there may be none."""
        if self.ends_listening:
            return rejections.STOPPED
        return None if self.admission.open_stream() else rejections.TOO_MANY_STREAMS

    async def drain(self) -> None:
        """Close the streams that never end by themselves, and wait for all handlers, also of clients that have left."""
        self.draining = True
        self.listen_no_more()
        while running := self.admission.tasks:
            await asyncio.wait(running)

    def listen_no_more(self) -> None:
        """Close the streams that never end by themselves. Their clients come back, to a process that lets them."""
        self.listeners.close()
        for exchange in self.modern:
            if exchange.request.method == LISTEN:  # a handler of the server's own answers it
                self.spawn(exchange.abort())
        self.outage.close_streams()
        for reader in self.open_streams:
            reader.disconnect()

    async def abort(self) -> None:
        """Cancel every handler, and answer every request. The answers are logged, and sent where somebody waits."""
        left = list(self.admission)
        if left:
            logger.warning("Calls that outlasted the drain and were ended: %d.", len(left))
        modern = [asyncio.create_task(exchange.abort()) for exchange in self.modern]
        await self._cancel_handlers()
        for exchange in left:
            # The handler shields itself from the cancellation, as one in a thread does: its client need not wait.
            exchange.respond(exchange.interrupted())
        await asyncio.gather(*(exchange.stream.written() for exchange in left if exchange.stream is not None))
        # Last: these answers are sent here, and a client that does not read makes that take long.
        await asyncio.gather(*modern)

    async def _cancel_handlers(self) -> None:
        """Cancel every handler, and wait a moment for their end."""
        running = self.admission.tasks
        for exchange in self.admission:
            exchange.abort()
        for task in self.admission.notifications:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)

    async def stop(self) -> None:
        """Cancel what still runs, leave the server's lifespan and close connections, at the end of the process."""
        await self._cancel_handlers()
        subscriptions.detach(self.context.conf().alias, self.context.node.broadcast)
        if self._watching is not None:
            self._watching.cancel()  # a report after the last one would be that of a node which hangs
        self._past.hurry()
        await self.observing.tell()
        await self.counts.write()
        await self.context.node.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await self.server.stop()
        await self.context.store.aclose()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine in the background until `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_again(
        self, request: jsonrpc.Request, scope: Mapping[str, Any], session: Session
    ) -> dict[str, Any]:
        """The response to a request whose process died. Only what is repeatable may be run again.

        If it is cancelled, so is the handler.
        """
        exchange = self.new_exchange(request=request, scope=scope, session=session, may_stream=False)
        exchange.keeps_session = True
        self.admission.run(exchange)
        try:
            await exchange.settled(None)
        finally:
            exchange.abort()
        # It may not stream, so it has settled with a response.
        return exchange.response or exchange.interrupted()


def _server_of(conf: Endpoint) -> Any:
    """What SERVER names, or what the callable there returns. Raises: ImproperlyConfigured."""
    try:
        return load_server(conf.server)
    except Exception as error:
        setting, problem = f"MCP_SESSIONS[{conf.alias!r}]['SERVER']", f"{type(error).__name__}: {error}"
        raise ImproperlyConfigured(
            f"{setting}: {conf.server!r} cannot be loaded: {problem} ({page('checks', 'e005')})"
        ) from error


#: The endpoints that this process serves.
served: Final[set[str]] = set()
_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Runtime]] = WeakKeyDictionary()


async def runtime_for(alias: str) -> Runtime:
    """The running loop's runtime of an endpoint, started.

    Raises: ImproperlyConfigured for a SERVER that cannot be loaded; what the server's lifespan raises.
    """
    runtimes = _runtimes.setdefault(asyncio.get_running_loop(), {})
    runtime = runtimes.get(alias)
    if runtime is None:
        runtime = runtimes[alias] = Runtime(alias)
    if not runtime.started:
        await runtime.start()
    return runtime


def runtimes_of(alias: str) -> list[Runtime]:
    """The runtimes of an endpoint, of all event loops of this process; from any thread."""
    return [runtimes[alias] for runtimes in list(_runtimes.values()) if alias in runtimes]


def listen_no_more() -> None:
    """Close the streams that never end by themselves at every endpoint of the running loop."""
    for runtime in _runtimes.get(asyncio.get_running_loop(), {}).values():
        runtime.listen_no_more()


@lifecycle.on_start
async def start_runtimes() -> None:
    """Start every endpoint that this process serves, so that the others know it before its first request."""
    await asyncio.gather(*map(runtime_for, sorted(served)))


@lifecycle.on_drain
async def drain_runtimes() -> None:
    """Drain every endpoint of the running loop."""
    await asyncio.gather(*(r.drain() for r in _runtimes.get(asyncio.get_running_loop(), {}).values()))


@lifecycle.on_abort
async def abort_runtimes() -> None:
    """Answer what is left in every endpoint of the running loop."""
    await asyncio.gather(*(r.abort() for r in _runtimes.get(asyncio.get_running_loop(), {}).values()))


@lifecycle.on_shutdown
async def stop_runtimes() -> None:
    """Stop every endpoint of the running loop."""
    for runtime in _runtimes.pop(asyncio.get_running_loop(), {}).values():
        await runtime.stop()
