"""The clients of the modern era that listen on this process: `subscriptions/listen` (2026-07-28).

Each is a record in the store, which an operator sees and can end. A listener does not depend on it: while the store is
away, clients listen all the same, and are recorded when it is back.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any, Final

from mcp.server.subscriptions import ServerEvent, SubscriptionBus

from mcp_sessions import counting
from mcp_sessions.authentication.blocking import Asker, blocks_of
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.authentication.recheck import ended_with
from mcp_sessions.conf import Endpoint, Limits
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import Handshake, parse_handshake, record_fingerprint
from mcp_sessions.sdk.listening import Subscription
from mcp_sessions.store.calls import looks, sessions
from mcp_sessions.store.calls.indexes import LONGEST_MS
from mcp_sessions.store.calls.looks import Found, Held
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.asgi import Receive, Send
from mcp_sessions.transport.event_stream import EventStream

logger = logging.getLogger(__name__)

#: For how long the record of a listener stays when its process does not renew it, and after which time it does.
TTL_MS: Final = 180_000
RENEWED_AFTER_MS: Final = 60_000


class Listener:
    """One client that listens."""

    __slots__ = ("_last", "_subscription", "fingerprint", "handshake", "is_new", "principal", "stream")

    def __init__(
        self, subscription: Subscription, result: dict[str, Any], *, principal: str, handshake: Handshake
    ) -> None:
        """`result` is the response with which the stream ends gracefully."""
        self.fingerprint = record_fingerprint("listener", secrets.token_hex(16))
        self.principal = principal
        self.handshake = handshake
        self.stream = EventStream()
        #: Whether the record is being made for the first time.
        self.is_new = True
        self._subscription = subscription
        self._last = _frame(result)
        self.stream.put(_frame(subscription.acknowledgement()))

    def hear(self, event: ServerEvent) -> None:
        """Something was announced."""
        message = self._subscription.notification(event)
        if message is not None:
            self.stream.put(_frame(message))

    def end(self) -> None:
        """End the stream with its result."""
        if self.stream.open:
            self.stream.put(self._last)
            self.stream.end()


def _frame(message: dict[str, Any]) -> bytes:
    return sse.event(jsonrpc.encode(message))


class Listeners:
    """The listeners of one endpoint in this process."""

    def __init__(self, context: Context, bus: SubscriptionBus | None) -> None:
        """`bus` announces events; None if the server does not accept listeners in this way."""
        self._context = context
        self._bus = bus
        self._blocks = blocks_of(context.conf().alias)
        self._open: dict[str, Listener] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def accepts(self) -> bool:
        """Whether listeners are served here. Else the server's own handler does that."""
        return self._bus is not None

    async def serve(
        self,
        request: jsonrpc.Request,
        result: dict[str, Any],
        receive: Receive,
        send: Send,
        *,
        identity: Identity,
        asker: Asker,
        handshake: Handshake,
        max_bytes: float,
    ) -> None:
        """Send what is announced until the client leaves, or the stream ends gracefully: with its credentials at last,
        or when its client is blocked.

        After `max_bytes` it is closed with `retry:`.

        `result` is the server's response to the request. Raises: TooManySessions before anything was sent.
        """
        listener = _listener(request, result, identity.principal, handshake)
        del request, result, handshake  # a listener lives for hours, and the locals of this frame with it
        # Known from here on, because it may be ended while the record is made: by an operator, or with the process.
        self._open[listener.fingerprint] = listener
        recorded, timer, unsubscribe = True, None, None
        try:
            await self._record_first(listener)
            if identity.expires_at is not None:
                timer = asyncio.get_running_loop().call_later(identity.seconds_left(), listener.end)
            unsubscribe = self._bus.subscribe(listener.hear) if self._bus is not None else None
            with ended_with(identity, listener.end), self._blocks.ending(asker, listener.end):
                await listener.stream.run(receive, send, max_seconds=inf, max_bytes=max_bytes)
        except TooManySessions:
            recorded = False
            raise
        finally:
            if unsubscribe is not None:
                unsubscribe()
            if timer is not None:
                timer.cancel()
            del self._open[listener.fingerprint]
            if recorded:
                self._context.spawn(self._forget(listener.fingerprint))

    def end(self, fingerprint: str) -> None:
        """End a listener gracefully, if it is one of these."""
        listener = self._open.get(fingerprint)
        if listener is not None:
            listener.end()

    def close(self) -> None:
        """End all of them gracefully."""
        for listener in self._open.values():
            listener.end()

    async def keep(self) -> None:
        """With each heartbeat: see that every listener has a record, and renew those that are due.

        Raises: StoreUnavailable.
        """
        waiting = [each for each in self._open.values() if not each.is_new]
        for start in range(0, len(waiting), looks.TOGETHER):
            await self._keep(waiting[start : start + looks.TOGETHER])

    async def _keep(self, listeners: list[Listener]) -> None:
        store = self._context.store
        found = await store.run(looks.look([Held(each.fingerprint) for each in listeners]))
        due = [
            each.fingerprint
            for each, what in zip(listeners, found, strict=True)
            if isinstance(what, Found) and what.since_ms >= RENEWED_AFTER_MS
        ]
        if due:
            await store.run(sessions.keep(due, limits=limits_of(self._context.conf())))
        missing = [each for each, what in zip(listeners, found, strict=True) if what is None]
        ends = await store.run_all(sessions.end_reason(each.fingerprint) for each in missing)
        for listener, ended in zip(missing, ends, strict=True):
            if ended is not None:
                listener.end()  # the notification of that was lost
        # At the same moment, so that they share round trips.
        await asyncio.gather(
            *(
                self._record_anew(each)
                for each in missing
                if each.stream.open and each.fingerprint in self._open
            )
        )

    async def _record_first(self, listener: Listener) -> None:
        """Raises: TooManySessions."""
        try:
            await self._record(listener)
        except StoreUnavailable as error:
            logger.info("A listener is recorded later: %s", error)
        listener.is_new = False

    async def _record_anew(self, listener: Listener) -> None:
        """The store was away, or has lost the record."""
        try:
            await self._record(listener)
        except ValueError as error:
            # It cannot be read, or was ended a moment ago, which the next look finds.
            logger.debug("A listener is not recorded: %s", error)
        except TooManySessions:
            counting.count_limited(self._context.conf().alias, "MAX_LISTENERS_PER_PRINCIPAL")
            logger.warning("A listener of %s has no record: it has too many.", ascii(listener.principal))
            listener.end()

    async def _record(self, listener: Listener) -> None:
        """Raises: TooManySessions; StoreUnavailable."""
        create = sessions.create(
            listener.fingerprint,
            principal=listener.principal,
            handshake=listener.handshake,
            limits=limits_of(self._context.conf()),
        )
        await self._context.store.run(create)

    async def _forget(self, fingerprint: str) -> None:
        try:
            await self._context.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
        except StoreUnavailable as error:
            logger.debug("The record of a listener is left to its TTL: %s", error)

    def __iter__(self) -> Iterator[Listener]:
        return iter(tuple(self._open.values()))


def _listener(
    request: jsonrpc.Request, result: dict[str, Any], principal: str, handshake: Handshake
) -> Listener:
    subscription = Subscription(request)
    said = handshake.for_record("listener", name=str(subscription), capable=True)
    # The same object for all that say the same: there are thousands.
    return Listener(subscription, result, principal=principal, handshake=parse_handshake(said.text))


def limits_of(conf: Endpoint) -> Limits:
    """Of the records of listeners. How many there are in a process is bounded by MAX_STREAMS."""
    return replace(
        conf.limits,
        idle_ms=TTL_MS,
        first_ms=TTL_MS,
        max_age_ms=LONGEST_MS,
        max_sessions=None,
        max_sessions_per_principal=conf.max_listeners_per_principal,
    )
