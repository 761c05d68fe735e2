"""What a process does for sessions while the store cannot be asked, with ON_STORE_DOWN = "serve".

A session id says by itself whose it is, and what was negotiated, so its session is served from that: without state,
and without anything that other processes would have to know. What this process heard of ends still holds. Sessions that
are opened, and ended, meanwhile are written when the store is back.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from mcp_sessions import counting, ids
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf.rules import REVIVE, SERVE
from mcp_sessions.ending import aend_session
from mcp_sessions.errors import RecordSealed, StoreUnavailable, TooManySessions
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Handshake, Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import nodes, revival
from mcp_sessions.store.drivers.absent import AbsentStore
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_stream import EventStream

logger = logging.getLogger(__name__)

#: Ends that a process remembers; of more, the oldest are forgotten.
MOST_ENDED: Final = 100_000
#: Sessions that were opened, or ended, in an outage and are to be written. Further ones are not.
MOST_UNWRITTEN: Final = 10_000
#: Sessions that are written at the same time.
BATCH: Final = 100


class Outage:
    """The sessions of one endpoint that this process serves without the store, and what is left to be written."""

    def __init__(self, context: Context) -> None:
        alias = context.conf().alias
        #: What requests that are served without the store have in the place of the usual one.
        self.context: Context = replace(context, store=AbsentStore())
        #: How many requests were served without the store since the process started.
        self.served = 0
        self._with_store = context
        #: What ended, by half its fingerprint: in the order of the ends, with when the id would be over by itself, in
        #: seconds of the monotonic clock.
        self._ended: set[bytes] = set()
        self._ends: deque[tuple[float, bytes]] = deque()
        #: Opened in the outage: the id, its principal, the name of the credential that opened it, and whether the
        #: session has been used.
        self._opened: dict[str, tuple[SignedId, str, str, bool]] = {}
        #: Ended in the outage: the id, and who ended it.
        self._leaving: dict[str, tuple[SignedId, str]] = {}
        #: Listening clients, whose streams are silent until the store is back.
        self._listening: set[EventStream] = set()
        self._row = Repeats(logger, f"Requests to endpoint {alias!r} that were served without the store")

    @property
    def lasts(self) -> bool:
        """Whether requests were served without the store a moment ago."""
        return self._row.lasts

    # Ends

    def hear_ended(self, fingerprints: Sequence[str]) -> None:
        """Sessions were ended, here or elsewhere: remember that for as long as their ids could be valid."""
        conf, now = self._with_store.conf(), time.monotonic()
        if conf.on_store_down != SERVE:
            return
        for half in map(_half, fingerprints):
            if half not in self._ended:
                self._ended.add(half)
                self._ends.append((now + conf.max_age, half))
        while self._ends and (len(self._ends) > MOST_ENDED or self._ends[0][0] < now):
            self._ended.remove(self._ends.popleft()[1])

    def end(self, session_id: SignedId, principal: str) -> None:
        """A client ends its session, and the store does not know: here it is over now, and there when it is back."""
        self.hear_ended([session_id.fingerprint])
        if self._with_store.conf().on_store_down == SERVE and len(self._leaving) < MOST_UNWRITTEN:
            self._leaving[session_id.fingerprint] = session_id, principal

    # Requests

    def serve(self, session_id: SignedId, principal: str, error: StoreUnavailable) -> Session | None:
        """The session of an id as far as the id tells, because the store cannot be asked. None if it is over.

        Raises: the error, if sessions are not served without the store, or if not this one.
        """
        handshake = self._handshake(session_id, error)
        now = self._with_store.node.validity.now_ms()
        if now >= session_id.deadline_ms or _half(session_id.fingerprint) in self._ended:
            return None
        opened = self._opened.get(session_id.fingerprint)
        if opened is not None:
            self._opened[session_id.fingerprint] = *opened[:3], True
        self._count(error)
        return _session(session_id, principal, handshake, now)

    def open(
        self, handshake: Handshake, identity: Identity, error: StoreUnavailable
    ) -> tuple[SignedId, Session]:
        """A new session that the store does not know yet. Raises: the error, as `serve`."""
        conf, validity = self._with_store.conf(), self._with_store.node.validity
        principal = identity.principal
        now = max(validity.now_ms(), validity.min_created_ms)
        session_id = ids.mint(
            handshake,
            principal=principal,
            namespace=conf.namespace,
            created_ms=now,
            max_age_ms=conf.limits.max_age_ms,
            unwritten=True,
        )
        self._handshake(session_id, error)
        if len(self._opened) < MOST_UNWRITTEN:
            self._opened[session_id.fingerprint] = session_id, principal, identity.credential, False
        self._count(error)
        return session_id, _session(session_id, principal, handshake, now)

    def _handshake(self, session_id: SignedId, error: StoreUnavailable) -> Handshake:
        handshake = session_id.handshake if self._with_store.conf().on_store_down == SERVE else None
        if handshake is None or isinstance(error, RecordSealed):  # the store is not away
            raise error
        return handshake

    def _count(self, error: StoreUnavailable) -> None:
        self.served += 1
        self._row.add(
            "Endpoint %r serves sessions without the store: %s", self._with_store.conf().alias, error
        )

    # Listening

    def listen(self) -> EventStream:
        """A stream that is silent, until the store is back and its client is told to reconnect."""
        stream = EventStream()
        self._listening.add(stream)
        stream.on_close = lambda: self._listening.discard(stream)
        return stream

    def close_streams(self) -> None:
        """Tell the clients that listen without the store to reconnect."""
        listening, self._listening = self._listening, set()
        retry = sse.retry(self._with_store.conf().retry)
        for stream in listening:
            stream.put(retry)
            stream.end()

    # When the store is back

    async def settle(self) -> None:
        """With each heartbeat: write what is left to be written. Raises: StoreUnavailable.

        On a Cluster a part of the store may be away: that is left for the next heartbeat.
        """
        await _in_batches(self._record, list(self._opened.values()))
        await _in_batches(self._end, list(self._leaving.values()))
        if self._listening:
            await self._with_store.store.run(nodes.list_nodes())
            self.close_streams()

    async def _record(self, session_id: SignedId, principal: str, credential: str, used: bool) -> None:
        """Record a session that was opened without the store, unless it has ended. Raises: StoreUnavailable."""
        handshake, limits = session_id.handshake, self._with_store.conf().limits
        if handshake is not None:
            recording = revival.revive(
                session_id,
                principal=principal,
                handshake=handshake.opened_with(credential),
                limits=limits if used else replace(limits, idle_ms=limits.first_ms),
                call="",
                flags=revival.USED if used else revival.UNUSED,
            )
            try:
                await self._with_store.store.run(recording)
            except TooManySessions as error:
                counting.count_limited(self._with_store.conf().alias, error.setting)
                logger.warning("Session %.12s ends with the outage: %s", session_id.fingerprint, error)
        self._opened.pop(session_id.fingerprint, None)

    async def _end(self, session_id: SignedId, principal: str) -> None:
        """End a session whose client ended it without the store. Raises: StoreUnavailable."""
        node, conf, fingerprint = self._with_store.node, self._with_store.conf(), session_id.fingerprint
        may_open = session_id.unwritten or conf.on_miss == REVIVE
        if may_open:  # only what is recorded ends with a signal
            await self._record(session_id, principal, credential="", used=True)
        ended = await aend_session(
            node, conf.alias, fingerprint, reason="deleted", by=principal, principal=principal
        )
        if ended is None and may_open:  # a cap refused the record
            outcome = await self._with_store.store.run(revival.bury(session_id, reason="deleted"))
            if outcome == "revived":
                return  # by another process, a moment ago: the next heartbeat ends it
        self._leaving.pop(fingerprint, None)


async def _in_batches(write: Callable[..., Awaitable[None]], waiting: Sequence[tuple[Any, ...]]) -> None:
    """Write all that can be. Raises: StoreUnavailable if nothing of a batch can."""

    async def is_written(what: tuple[Any, ...]) -> bool:
        try:
            await write(*what)
        except StoreUnavailable as error:
            logger.debug("What the store missed is written later: %s", error)
            return False
        return True

    for start in range(0, len(waiting), BATCH):
        if not any(await asyncio.gather(*map(is_written, waiting[start : start + BATCH]))):
            raise StoreUnavailable("the store is still away")


def _session(session_id: SignedId, principal: str, handshake: Handshake, now: int) -> Session:
    return Session(
        fingerprint=session_id.fingerprint,
        handshake=handshake,
        principal=principal,
        created_ms=session_id.created_ms,
        deadline_ms=session_id.deadline_ms,
        last_activity_ms=now,
        expires_ms=session_id.deadline_ms,
        active=True,
        initialized=True,
        requests=0,
        last_call="",
        log_level=None,
        tools=frozenset(),
        is_stored=False,
    )


def _half(fingerprint: str) -> bytes:
    return bytes.fromhex(fingerprint[:32])
