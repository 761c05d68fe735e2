"""What one endpoint keeps in one event loop: its server, its stores, the work in flight and the open streams.

Nothing here decides whether a session exists; the store does, on every request.
"""

import asyncio
import json
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from mcp_types import CONNECTION_CLOSED

from mcp_sessions import lifecycle, subscriptions, wire
from mcp_sessions.binding import ServerBinding, load_server
from mcp_sessions.bus import Bus, Doorbell
from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.exchange import PRIMED_SINCE, Exchange, below_log_level
from mcp_sessions.questions import OnProgress, Questions
from mcp_sessions.session import Session
from mcp_sessions.store.base import SessionStore
from mcp_sessions.store.registry import store_for, streams_for
from mcp_sessions.store.streaming import STANDALONE, StreamStore
from mcp_sessions.streams import ExchangeStream, Follower, patiently

logger = logging.getLogger(__name__)


class Runtime:
    """One endpoint in one event loop. Daphne tells nobody that a process starts: the first request makes it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.store: SessionStore = store_for(alias)
        self.streams: StreamStore = streams_for(alias)
        conf = self.conf
        server = load_server(conf.server)
        self.binding = ServerBinding(server, json_only=conf.response == "json", max_body=conf.max_body)
        self.bus = Bus(self.streams, answer=self._hear, on_beat=self._beat)
        self.questions = Questions(self)
        self._exchanges: dict[tuple[str, wire.RequestId], Exchange] = {}
        self._streams: dict[tuple[str, str], ExchangeStream] = {}
        self._followers: dict[tuple[str, str], list[Follower]] = {}
        self._open = 0
        self._held: Counter[str] = Counter()
        self._suspects: frozenset[str] = frozenset()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting = asyncio.Lock()
        self.started = False

    @property
    def conf(self) -> Endpoint:
        return endpoint(self.alias)

    async def start(self) -> None:
        """Enter the server's lifespan and join the other nodes, once. Raises: StoreUnavailable; then again later."""
        async with self._starting:
            if not self.started:
                await self.binding.start()
                await self.bus.start()
                self.started = True

    async def stop(self) -> None:
        """Leave the server's lifespan and close connections; for the end of the process."""
        await self.bus.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await self.binding.stop()
        await self.streams.aclose()
        await self.store.aclose()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the request, and hold on to its task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Work in flight

    def run(self, exchange: Exchange) -> None:
        """Start an exchange, and let `cancel` find it while it runs."""
        self._exchanges[exchange.fingerprint, correlation(exchange.request.id)] = exchange
        exchange.start(self._ended)

    def hold_while_running(self, exchange: Exchange) -> None:
        """Keep the session alive as long as the exchange runs."""
        exchange.held = True
        self._held[exchange.fingerprint] += 1

    def _ended(self, exchange: Exchange) -> None:
        key = (exchange.fingerprint, correlation(exchange.request.id))
        if self._exchanges.get(key) is exchange:
            del self._exchanges[key]
        if exchange.stream is not None:
            self._streams.pop((exchange.fingerprint, exchange.stream.name), None)
        if exchange.held:
            self._release(exchange.fingerprint)

    def _release(self, fingerprint: str) -> None:
        self._held[fingerprint] -= 1
        if self._held[fingerprint] <= 0:
            del self._held[fingerprint]

    async def answer(self, exchange: Exchange) -> dict[str, Any]:
        """Let the server answer a request, and remember what the request changes in the session."""
        session, request = exchange.session, exchange.request
        response = await self.binding.answer(exchange, StandaloneChannel(self, session))
        if request.method in _REMEMBERED and "result" in response:
            await _REMEMBERED[request.method](self, session.fingerprint, request.params or {})
        return response

    async def cancel(self, session: Session, params: Mapping[str, Any]) -> None:
        """Cancel the request that a `notifications/cancelled` names, whichever process runs it."""
        request_id = params.get("requestId")
        if not isinstance(request_id, (str, int)) or isinstance(request_id, bool):
            return
        if not self._cancel_here(session.fingerprint, request_id):
            await self.bus.ring_all({"t": "cancel", "s": session.fingerprint, "id": request_id})

    def _cancel_here(self, fingerprint: str, request_id: wire.RequestId) -> bool:
        exchange = self._exchanges.get((fingerprint, correlation(request_id)))
        if exchange is not None:
            exchange.cancel()
        return exchange is not None

    # Streams

    def new_stream(self, exchange: Exchange) -> ExchangeStream:
        stream = ExchangeStream(
            self, exchange.fingerprint, request=exchange.request_as_json(), primed=exchange.primed
        )
        self._streams[exchange.fingerprint, stream.name] = stream
        return stream

    @property
    def full(self) -> bool:
        """Whether this process has as many open streams as it may."""
        return self._open >= self.conf.max_streams

    async def take_over(self, session: Session, stream: str, *, after: int | None) -> Follower | None:
        """Deliver a stream from here on, instead of whoever did so far. None if there is no such stream."""
        fingerprint = session.fingerprint
        taken = await self.streams.claim(fingerprint, stream, node=self.bus.node, after=after)
        if taken is None:
            return None
        if taken.replaced is not None and stream != STANDALONE:
            doorbell = {"t": "claimed", "s": fingerprint, "n": stream, "k": taken.claim.token}
            self.bus.ring(taken.replaced.node, doorbell)
        primed = session.handshake.protocol_version >= PRIMED_SINCE
        return Follower(self, fingerprint, stream, taken=taken, primed=primed)

    @contextmanager
    def following(self, follower: Follower) -> Iterator[None]:
        """Run a follower while its connection is open, and keep its session alive meanwhile."""
        key = (follower.fingerprint, follower.stream)
        followers = self._followers.setdefault(key, [])
        followers.append(follower)
        self._held[follower.fingerprint] += 1
        self._close_surplus(follower.fingerprint)
        task = asyncio.create_task(follower.run())
        try:
            with self.delivering():
                yield
        finally:
            task.cancel()
            self._release(follower.fingerprint)
            followers.remove(follower)
            if not followers:
                del self._followers[key]

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Count an open stream."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _close_surplus(self, fingerprint: str) -> None:
        """Keep a session to its number of open streams: the oldest make room."""
        mine = [f for f in self._all_followers() if f.fingerprint == fingerprint and f.delivery.open]
        for follower in mine[: max(0, len(mine) - self.conf.max_streams_per_session)]:
            follower.delivery.end()

    def _all_followers(self) -> list[Follower]:
        return [follower for followers in self._followers.values() for follower in followers]

    def ring_for(self, node: str, fingerprint: str, stream: str) -> None:
        """Tell the node that delivers a stream to look at it."""
        self.bus.ring(node, {"t": "stream", "s": fingerprint, "n": stream})

    async def publish(self, fingerprint: str, message: Mapping[str, Any]) -> bool:
        """Put a message on the session's standalone stream. False if it is gone. Raises nothing: best effort."""
        payloads, key = [wire.encode(message)], secrets.token_hex(8)
        limits = self.conf.stream_limits
        appended = await patiently(
            lambda: self.streams.publish(fingerprint, payloads=payloads, key=key, limits=limits)
        )
        if appended is not None and appended.claim is not None:
            self.ring_for(appended.claim.node, fingerprint, STANDALONE)
        return appended is not None

    async def ask(
        self,
        fingerprint: str,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float | None,  # noqa: ASYNC109 - the wait ends by itself, and says why
        on_progress: OnProgress | None,
    ) -> wire.Reply:
        """Send a request on the session's standalone stream and wait for the response, as Exchange.ask does."""
        return await self.questions.ask(
            fingerprint,
            method,
            params,
            say=lambda message: self.publish(fingerprint, message),
            timeout=self.conf.request_timeout if timeout is None else timeout,
            on_progress=on_progress,
        )

    async def announce(self, method: str, uri: str | None) -> None:
        """Tell every client that wants to know, on every process, that something changed."""
        await self.bus.ring_all({"t": "announce", "m": method, "u": uri})

    async def _pass_on(self, method: str, uri: str | None) -> None:
        """Announce something on the standalone streams that are delivered here."""
        listening = {f.fingerprint for f in self._all_followers() if f.stream == STANDALONE and f.valid}
        if uri is not None:
            listening &= await self.streams.subscribed(sorted(listening), uri)
        message = wire.notification(method, subscriptions.params_of(uri))
        await asyncio.gather(*(self.publish(fingerprint, message) for fingerprint in listening))

    # Ends

    async def end(self, fingerprint: str) -> None:
        """A session ended here: close what is open of it, on every process."""
        self.close(fingerprint)
        await self.bus.ring_all({"t": "ended", "s": fingerprint})

    def close(self, fingerprint: str) -> None:
        """Close the open streams of a session that ended, and cancel the handlers that wait for its client."""
        for follower in self._all_followers():
            if follower.fingerprint == fingerprint:
                follower.delivery.end()
        for (owner, _), exchange in tuple(self._exchanges.items()):
            if owner == fingerprint and exchange.asking:
                exchange.abort()
        for (owner, _), stream in tuple(self._streams.items()):
            if owner == fingerprint:
                stream.delivery.end()
        self.questions.end(fingerprint)

    def close_followers(self) -> None:
        """Close the streams that never end by themselves; their clients come back elsewhere."""
        for follower in self._all_followers():
            follower.delivery.end()

    # Doorbells and heartbeats

    def _hear(self, doorbell: Doorbell) -> None:
        fingerprint = doorbell.get("s", "")
        match doorbell["t"]:
            case "stream":
                for follower in self._followers.get((fingerprint, doorbell["n"]), ()):
                    follower.nudge()
            case "claimed":
                stream = self._streams.get((fingerprint, doorbell["n"]))
                if stream is not None and stream.claim is not None and stream.claim.token < doorbell["k"]:
                    stream.delivery.end()
                for follower in self._followers.get((fingerprint, doorbell["n"]), ()):
                    follower.nudge()
            case "answer":
                self.questions.hear_answer(fingerprint, doorbell["q"])
            case "progress":
                self.questions.hear_progress(fingerprint, doorbell["q"], doorbell["p"])
            case "cancel":
                self._cancel_here(fingerprint, doorbell["id"])
            case "ended":
                self.close(fingerprint)
            case "announce":
                subscriptions.hear(self.alias, doorbell["m"], doorbell["u"])
                self.spawn(self._pass_on(doorbell["m"], doorbell["u"]))

    async def _beat(self) -> None:
        """What a heartbeat makes up for: sessions that would idle out, doorbells that were lost, nodes that died."""
        held = list(self._held)
        if held:
            alive = await self.store.keep(held, limits=self.conf.limits)
            for gone in set(held) - alive:
                self.close(gone)
        streams = {(f.fingerprint, f.stream) for f in self._all_followers() if f.valid} | set(self._streams)
        if streams:
            await self.streams.keep_streams(sorted(streams))
        await self._close_orphans()
        for follower in self._all_followers():
            follower.nudge()
        await self.questions.look()

    async def _close_orphans(self) -> None:
        """End the streams that are delivered here and whose own node is dead: twice not there, since a node that could
        not reach the store for a while comes back with its next heartbeat."""
        followed = [f for f in self._all_followers() if f.origin]
        if not followed:
            self._suspects = frozenset()
            return
        alive = {node.id for node in await self.streams.nodes()}
        missing = frozenset(f.origin for f in followed) - alive
        for follower in followed:
            if follower.origin in missing & self._suspects:
                await self._close_orphan(follower)
        self._suspects = missing

    async def _close_orphan(self, follower: Follower) -> None:
        error = {
            "code": CONNECTION_CLOSED,
            "message": "The server process that ran this request died; it is lost",
        }
        response = wire.error_response(json.loads(follower.request)["id"], error)
        await self.streams.close_orphan(
            follower.fingerprint,
            follower.stream,
            payload=wire.encode(response),
            limits=self.conf.stream_limits,
        )
        logger.warning(
            "A request of session %.12s was lost with node %s.", follower.fingerprint, follower.origin
        )


async def _remember_log_level(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> None:
    await runtime.store.set_log_level(fingerprint, params["level"])


async def _remember_subscription(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> None:
    if runtime.binding.keeps_subscriptions:
        await runtime.streams.subscribe(
            fingerprint, params["uri"], max_subscriptions=runtime.conf.max_subscriptions
        )


async def _forget_subscription(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> None:
    if runtime.binding.keeps_subscriptions:
        await runtime.streams.unsubscribe(fingerprint, params["uri"])


#: Requests whose success the session remembers.
_REMEMBERED = {
    "logging/setLevel": _remember_log_level,
    "resources/subscribe": _remember_subscription,
    "resources/unsubscribe": _forget_subscription,
}


class StandaloneChannel:
    """The session's standalone stream, for the SDK."""

    __slots__ = ("_runtime", "_session")

    def __init__(self, runtime: Runtime, session: Session) -> None:
        self._runtime = runtime
        self._session = session

    can_ask = True

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        if not below_log_level(self._session.log_level, method, params):
            await self._runtime.publish(self._session.fingerprint, wire.notification(method, params))

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float | None,  # noqa: ASYNC109 - the wait ends by itself, and says why
        on_progress: OnProgress | None,
    ) -> wire.Reply:
        return await self._runtime.ask(
            self._session.fingerprint, method, params, timeout=timeout, on_progress=on_progress
        )


class NoChannel:
    """The channel of `initialize`: no stream exists yet."""

    can_ask = False

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        logger.debug("Dropped %s: the session does not exist yet.", method)

    async def ask(self, method: str, params: Mapping[str, Any] | None, **_: Any) -> wire.Reply:
        raise RuntimeError(f"{method} cannot be sent before the session exists")


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
    """The running loop's runtime of an endpoint, started. Raises: StoreUnavailable."""
    loop = asyncio.get_running_loop()
    runtimes = _runtimes.setdefault(loop, {})
    runtime = runtimes.get(alias)
    if runtime is None:
        runtime = runtimes[alias] = Runtime(alias)
    if not runtime.started:
        await runtime.start()
    return runtime


@lifecycle.on_drain
async def close_open_streams() -> None:
    """Close what would keep a process that is told to stop from ever ending."""
    for runtime in _runtimes.get(asyncio.get_running_loop(), {}).values():
        runtime.close_followers()


@lifecycle.on_shutdown
async def stop_runtimes() -> None:
    """Stop every endpoint of the running loop."""
    for runtime in _runtimes.pop(asyncio.get_running_loop(), {}).values():
        await runtime.stop()
