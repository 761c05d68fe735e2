"""What one endpoint keeps in one event loop: its server, its stores, the work in flight and the open streams.

Nothing here decides whether a session exists; the store does, on every request.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from mcp_types import INVALID_PARAMS

from mcp_sessions import lifecycle, subscriptions
from mcp_sessions.cluster.client_requests import Questions
from mcp_sessions.cluster.node import HEARTBEAT_SECONDS, Bus, Doorbell
from mcp_sessions.conf import Endpoint, endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.sdk import ServerBinding, load_server
from mcp_sessions.serving.exchange import PRIMED_SINCE, Exchange
from mcp_sessions.serving.held import Held
from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.store.drivers import Store
from mcp_sessions.store.factory import store_for
from mcp_sessions.store.session import STANDALONE, Session
from mcp_sessions.streams.open_streams import Followers
from mcp_sessions.streams.orphans import Orphans
from mcp_sessions.streams.standalone import StandaloneChannel, pass_on
from mcp_sessions.streams.writer import ExchangeStream, Follower
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: How many sessions or streams a heartbeat looks after at once, and the seconds between two such batches of streams.
BATCH: Final = 100
BREATH_SECONDS: Final = 0.02


class Runtime:
    """One endpoint in one event loop. Daphne tells nobody that a process starts: the first request makes it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.store: Store = store_for(alias)
        conf = self.conf
        server = load_server(conf.server)
        self.binding = ServerBinding(server, json_only=conf.response == "json", max_body=conf.max_body)
        self.bus = Bus(self.store, answer=self._hear, on_beat=self._beat, pause=self._pause)
        self.questions = Questions(self)
        #: Not by id: a client may use one twice, against the protocol, and each is to be found.
        self._exchanges: set[Exchange] = set()
        self._streams: dict[tuple[str, str], ExchangeStream] = {}
        #: The sessions that are kept alive, and those whose requests are being answered.
        self._held = Held()
        self._running = Held()
        self.followers = Followers(lambda: self.conf, self._held)
        self.orphans = Orphans(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting = asyncio.Lock()
        self.started = False

    @property
    def conf(self) -> Endpoint:
        return endpoint(self.alias)

    async def start(self) -> None:
        """Enter the server's lifespan and join the other nodes, once. Raises: what the lifespan raises; then again."""
        async with self._starting:
            if not self.started:
                await self.binding.start()
                await self.bus.start()
                self.started = True

    async def drain(self) -> None:
        """Close the streams that never end by themselves, and wait for the handlers, whoever still listens to them."""
        self.followers.end(self.followers)
        while running := [e.task for e in self._exchanges if e.task is not None]:
            await asyncio.wait(running)

    async def stop(self) -> None:
        """End what still runs, leave the server's lifespan and close connections; for the end of the process."""
        running = [e for e in self._exchanges if e.task is not None]
        for exchange in running:
            exchange.abort()
        if running:
            await asyncio.wait([e.task for e in running if e.task is not None])
        await self.bus.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await self.binding.stop()
        await self.store.aclose()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the request, and hold on to its task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Work in flight

    def may_run(self, fingerprint: str) -> bool:
        """Whether one more request of a session may be answered now."""
        conf = self.conf
        return (
            self._running.total < conf.max_requests
            and self._running.of(fingerprint) < conf.max_requests_per_session
        )

    def run(self, exchange: Exchange) -> None:
        """Start an exchange, and let `cancel` find it while it runs."""
        self._running.hold(exchange.fingerprint)
        self._exchanges.add(exchange)
        exchange.start(self._ended)

    def hold_while_running(self, exchange: Exchange) -> None:
        """Keep the session alive as long as the exchange runs."""
        exchange.held = True
        self._held.hold(exchange.fingerprint)

    def _ended(self, exchange: Exchange) -> None:
        self._running.release(exchange.fingerprint)
        self._exchanges.discard(exchange)
        if exchange.stream is not None:
            self._streams.pop((exchange.fingerprint, exchange.stream.name), None)
        if exchange.held:
            self._held.release(exchange.fingerprint)

    async def answer(self, exchange: Exchange) -> dict[str, Any]:
        """Let the server answer a request, and remember what the request changes in the session."""
        session, request = exchange.session, exchange.request
        response = await self.binding.answer(exchange, self.standalone(session))
        if request.method not in _REMEMBERED or "result" not in response:
            return response
        problem = await _REMEMBERED[request.method](self, session.fingerprint, request.params or {})
        if problem is None:
            return response
        return jsonrpc.error_response(request.id, {"code": INVALID_PARAMS, "message": problem})

    def standalone(self, session: Session) -> StandaloneChannel:
        """The channel for what belongs to no request."""
        return StandaloneChannel(self, session)

    async def cancel(self, session: Session, params: Mapping[str, Any]) -> None:
        """Cancel the request that a `notifications/cancelled` names, whichever process runs it."""
        request_id = params.get("requestId")
        if not jsonrpc.is_request_id(request_id):
            return
        if not self._cancel_here(session.fingerprint, request_id):
            await self.bus.post({"t": "cancel", "s": session.fingerprint, "id": request_id})

    def _cancel_here(self, fingerprint: str, request_id: jsonrpc.RequestId) -> bool:
        wanted = correlation(request_id)
        mine = [e for e in self._exchanges if e.fingerprint == fingerprint]
        found = [e for e in mine if correlation(e.request.id) == wanted]
        for exchange in found:
            exchange.cancel()
        return bool(found)

    # Streams

    def new_stream(self, exchange: Exchange) -> ExchangeStream:
        stream = ExchangeStream(
            self, exchange.fingerprint, request=exchange.request_as_json(), primed=exchange.primed
        )
        self._streams[exchange.fingerprint, stream.name] = stream
        return stream

    async def take_over(
        self, session: Session, stream: str, *, after: int | None, scope: Mapping[str, Any]
    ) -> Follower | None:
        """Deliver a stream from here on, instead of whoever did so far. None if there is no such stream."""
        fingerprint = session.fingerprint
        taken = await self.store.run(streams.claim(fingerprint, stream, node=self.bus.node, after=after))
        if taken is None:
            return None
        if taken.replaced is not None and stream != STANDALONE:
            doorbell = {"t": "claimed", "s": fingerprint, "n": stream, "k": taken.claim.token}
            self.bus.ring(taken.replaced.node, doorbell)
        primed = session.handshake.protocol_version >= PRIMED_SINCE
        return Follower(self, fingerprint, stream, taken=taken, primed=primed, scope=scope)

    def hand_back(self, left: Follower) -> None:
        """A connection is closed: its standalone stream goes back to another that the client still has open."""
        if left.stream == STANDALONE and left.valid:
            self._hand_to_another(left.fingerprint, left.replaced)

    def _hand_to_another(self, fingerprint: str, replaced: Claim | None) -> None:
        """To the newest connection of this process, or else of the process whose turn it was before."""
        listening = [f for f in self.followers.of(fingerprint) if f.stream == STANDALONE and f.delivery.open]
        if listening:
            self.spawn(self._claim_for(listening[-1]))
        elif replaced is not None and replaced.node != self.bus.node:
            self.bus.ring(replaced.node, {"t": "left", "s": fingerprint})

    async def _claim_for(self, follower: Follower) -> None:
        try:
            taken = await self.store.run(
                streams.claim(follower.fingerprint, STANDALONE, node=self.bus.node, after=None)
            )
        except StoreUnavailable as error:
            logger.warning("A stream of session %.12s stays silent: %s", follower.fingerprint, error)
            return
        if taken is None:
            return  # the session is over
        if follower.delivery.open:
            follower.take_back(taken)
        else:
            self._hand_to_another(follower.fingerprint, taken.replaced)

    def ring_for(self, node: str, fingerprint: str, stream: str) -> None:
        """Tell the node that delivers a stream to look at it."""
        self.bus.ring(node, {"t": "stream", "s": fingerprint, "n": stream})

    async def announce(self, method: str, uri: str | None) -> None:
        """Tell every client that wants to know, on every process, that something changed."""
        await self.bus.post(subscriptions.announcement(method, uri))

    # Ends

    async def end(self, fingerprint: str) -> None:
        """A session ended here: close what is open of it, on every process."""
        self.close(fingerprint)
        await self.bus.ring_all({"t": "ended", "s": fingerprint})

    def close(self, fingerprint: str) -> None:
        """Close the open streams of a session that ended, and cancel the handlers that wait for its client."""
        self.followers.end(self.followers.of(fingerprint))
        for exchange in tuple(self._exchanges):
            if exchange.fingerprint == fingerprint and exchange.asking:
                exchange.abort()
        for (owner, _), stream in tuple(self._streams.items()):
            if owner == fingerprint:
                stream.delivery.end()
        self.questions.end(fingerprint)
        self.spawn(self._forget_streams(fingerprint))

    async def _forget_streams(self, fingerprint: str) -> None:
        try:
            await self.store.run(streams.forget(fingerprint))
        except StoreUnavailable as error:
            logger.info("The streams of session %.12s are left to their TTL: %s", fingerprint, error)

    # Doorbells and heartbeats

    def _hear(self, doorbell: Doorbell) -> None:
        fingerprint = doorbell.get("s", "")
        match doorbell["t"]:
            case "stream":
                self.followers.nudge(fingerprint, doorbell["n"])
            case "claimed":
                stream = self._streams.get((fingerprint, doorbell["n"]))
                if stream is not None and stream.claim is not None and stream.claim.token < doorbell["k"]:
                    stream.delivery.end()
                self.followers.nudge(fingerprint, doorbell["n"])
            case "left":
                self._hand_to_another(fingerprint, None)
            case "reply":
                self.questions.hear(fingerprint, doorbell["q"])
            case "cancel":
                self._cancel_here(fingerprint, doorbell["id"])
            case "ended":
                self.close(fingerprint)
            case "announce":
                subscriptions.hear(self.alias, doorbell["m"], doorbell["u"])
                self.spawn(pass_on(self, doorbell["m"], doorbell["u"], key=doorbell["k"]))

    def _pause(self) -> float:
        """Seconds between heartbeats: several in each idle TTL."""
        return min(HEARTBEAT_SECONDS, self.conf.idle_ttl / 3)

    async def _beat(self) -> None:
        """What a heartbeat makes up for: sessions that would idle out, doorbells that were lost, nodes that died."""
        for held in _batches(list(self._held)):
            alive = await self.store.run(sessions.keep(held, limits=self.conf.limits))
            for gone in set(held) - alive:
                self.close(gone)
        alive_here = {(f.fingerprint, f.stream) for f in self.followers if f.valid} | set(self._streams)
        for some in _batches(sorted(alive_here)):
            await self.store.run(streams.keep(some))
        await self.orphans.look()
        await self.questions.look()
        for followers in _batches(list(self.followers)):
            for follower in followers:
                follower.nudge()
            await asyncio.sleep(BREATH_SECONDS)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """What a heartbeat asks the store for at once: thousands of streams would make a burst of memory and latency."""
    return (items[n : n + BATCH] for n in range(0, len(items), BATCH))


async def _remember_log_level(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> str | None:
    await runtime.store.run(sessions.set_log_level(fingerprint, params["level"]))
    return None


async def _remember_subscription(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> str | None:
    if not runtime.binding.keeps_subscriptions:
        return None
    most = runtime.conf.max_subscriptions
    kept = await runtime.store.run(streams.subscribe(fingerprint, params["uri"], max_subscriptions=most))
    return f"A session subscribes to {most} resources at most" if kept is False else None


async def _forget_subscription(runtime: Runtime, fingerprint: str, params: Mapping[str, Any]) -> str | None:
    if runtime.binding.keeps_subscriptions:
        await runtime.store.run(streams.unsubscribe(fingerprint, params["uri"]))
    return None


#: Requests whose success the session remembers; each act says what is wrong, if anything.
_REMEMBERED = {
    "logging/setLevel": _remember_log_level,
    "resources/subscribe": _remember_subscription,
    "resources/unsubscribe": _forget_subscription,
}


def correlation(request_id: jsonrpc.RequestId) -> jsonrpc.RequestId:
    """Ids that clients may spell as a number or a string are one id, as in the SDK."""
    if isinstance(request_id, str):
        try:
            return int(request_id)
        except ValueError:
            return request_id
    return request_id


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Runtime]] = WeakKeyDictionary()


async def runtime_for(alias: str) -> Runtime:
    """The running loop's runtime of an endpoint, started. Raises: what the server's lifespan raises."""
    loop = asyncio.get_running_loop()
    runtimes = _runtimes.setdefault(loop, {})
    runtime = runtimes.get(alias)
    if runtime is None:
        runtime = runtimes[alias] = Runtime(alias)
    if not runtime.started:
        await runtime.start()
    return runtime


@lifecycle.on_drain
async def drain_runtimes() -> None:
    """Drain every endpoint of the running loop."""
    await asyncio.gather(*(r.drain() for r in _runtimes.get(asyncio.get_running_loop(), {}).values()))


@lifecycle.on_shutdown
async def stop_runtimes() -> None:
    """Stop every endpoint of the running loop."""
    for runtime in _runtimes.pop(asyncio.get_running_loop(), {}).values():
        await runtime.stop()
