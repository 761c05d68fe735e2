"""What one endpoint keeps in one event loop: its server, its store, the work in flight and the open streams.

Nothing here decides whether a session exists; the store does, on every request.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from mcp_sessions import lifecycle, wire
from mcp_sessions.binding import ServerBinding, load_server
from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.exchange import Exchange, below_log_level
from mcp_sessions.session import Session
from mcp_sessions.store.base import SessionStore
from mcp_sessions.store.registry import store_for
from mcp_sessions.streams import Delivery

logger = logging.getLogger(__name__)

#: Sessions with work in flight or open streams are kept alive so often, in seconds, and checked for their end.
HEARTBEAT_SECONDS: Final = 5.0


class Runtime:
    """One endpoint in one event loop. Daphne tells nobody that a process starts: the first request makes it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.store: SessionStore = store_for(alias)
        conf = self.conf
        self.binding = ServerBinding(
            load_server(conf.server), json_only=conf.response == "json", max_body=conf.max_body
        )
        self._exchanges: dict[tuple[str, wire.RequestId], Exchange] = {}
        self._standalone: dict[str, list[Delivery]] = {}
        self._held: Counter[str] = Counter()
        self._heartbeat: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def conf(self) -> Endpoint:
        return endpoint(self.alias)

    # Work in flight

    def run(self, exchange: Exchange) -> None:
        """Start an exchange, and let `cancel` find it while it runs."""
        self._exchanges[exchange.fingerprint, correlation(exchange.request.id)] = exchange
        exchange.start(self._ended)

    def hold_while_running(self, exchange: Exchange) -> None:
        """Keep the session alive as long as the exchange runs."""
        exchange.held = True
        self.hold(exchange.fingerprint)

    def _ended(self, exchange: Exchange) -> None:
        key = (exchange.fingerprint, correlation(exchange.request.id))
        if self._exchanges.get(key) is exchange:
            del self._exchanges[key]
        if exchange.held:
            self.release(exchange.fingerprint)

    def cancel(self, session: Session, params: Mapping[str, Any] | None) -> None:
        """Cancel the request that a `notifications/cancelled` names, if it runs here."""
        request_id = (params or {}).get("requestId")
        if isinstance(request_id, (str, int)):
            exchange = self._exchanges.get((session.fingerprint, correlation(request_id)))
            if exchange is not None:
                exchange.cancel()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the request, and hold on to its task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Signs of life

    def hold(self, fingerprint: str) -> None:
        """Keep a session alive from now on: something of it is open here."""
        self._held[fingerprint] += 1
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = asyncio.create_task(self._beat())

    def release(self, fingerprint: str) -> None:
        self._held[fingerprint] -= 1
        if self._held[fingerprint] <= 0:
            del self._held[fingerprint]

    async def _beat(self) -> None:
        while self._held:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self.conf.idle_ttl / 3))
            held = list(self._held)
            try:
                alive = await self.store.keep(held, limits=self.conf.limits)
            except StoreUnavailable as error:
                logger.warning("The sessions with open streams could not be kept alive: %s", error)
                continue
            for gone in set(held) - alive:
                self.close(gone)

    # Standalone streams

    @contextmanager
    def listening(self, fingerprint: str) -> Iterator[Delivery]:
        """A delivery of the session's standalone stream. The newest delivers; older ones stay open and silent."""
        delivery = Delivery()
        deliveries = self._standalone.setdefault(fingerprint, [])
        deliveries.append(delivery)
        self.hold(fingerprint)
        try:
            yield delivery
        finally:
            self.release(fingerprint)
            deliveries.remove(delivery)
            if not deliveries:
                del self._standalone[fingerprint]

    def standalone(self, session: Session) -> "StandaloneChannel":
        return StandaloneChannel(self, session)

    def deliver(self, fingerprint: str, message: Mapping[str, Any]) -> bool:
        """Put a message on the session's standalone stream; whether a client listens here."""
        for delivery in reversed(self._standalone.get(fingerprint, ())):
            if delivery.open:
                return delivery.put(wire.event(message))
        return False

    def close(self, fingerprint: str) -> None:
        """Close the open streams of a session that ended."""
        for delivery in tuple(self._standalone.get(fingerprint, ())):
            delivery.end()
        for exchange in [e for (owner, _), e in self._exchanges.items() if owner == fingerprint]:
            if exchange.delivery is not None:
                exchange.delivery.end()

    def close_standalone(self) -> None:
        """Close the standalone streams, which never end by themselves; their clients come back elsewhere."""
        for deliveries in tuple(self._standalone.values()):
            for delivery in tuple(deliveries):
                delivery.end()

    async def stop(self) -> None:
        """Leave the server's lifespan and close connections; for the end of the process."""
        for task in (self._heartbeat, *self._tasks):
            if task is not None:
                task.cancel()
        await self.binding.stop()
        await self.store.aclose()


class StandaloneChannel:
    """The session's standalone stream, for the SDK."""

    __slots__ = ("_runtime", "_session")

    def __init__(self, runtime: Runtime, session: Session) -> None:
        self._runtime = runtime
        self._session = session

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        if not below_log_level(self._session.log_level, method, params):
            self._runtime.deliver(self._session.fingerprint, wire.notification(method, params))


class NoChannel:
    """The channel of `initialize`: no stream exists yet."""

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        logger.debug("Dropped %s: the session does not exist yet.", method)


def correlation(request_id: wire.RequestId) -> wire.RequestId:
    """Ids that clients may spell as a number or a string are one id, as in the SDK."""
    if isinstance(request_id, str):
        try:
            return int(request_id)
        except ValueError:
            return request_id
    return request_id


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Runtime]] = WeakKeyDictionary()


async def runtime_for(alias: str) -> Runtime:
    """The running loop's runtime of an endpoint, its server's lifespan entered."""
    loop = asyncio.get_running_loop()
    runtimes = _runtimes.setdefault(loop, {})
    runtime = runtimes.get(alias)
    if runtime is None:
        runtime = runtimes[alias] = Runtime(alias)
    if not runtime.binding.started:
        await runtime.binding.start()
    return runtime


@lifecycle.on_drain
async def close_standalone_streams() -> None:
    """Close what would keep a process that is told to stop from ever ending."""
    for runtime in _runtimes.get(asyncio.get_running_loop(), {}).values():
        runtime.close_standalone()


@lifecycle.on_shutdown
async def stop_runtimes() -> None:
    """Stop every endpoint of the running loop."""
    for runtime in _runtimes.pop(asyncio.get_running_loop(), {}).values():
        await runtime.stop()
