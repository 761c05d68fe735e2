"""What this process does with each heartbeat, besides saying that it is alive.

It keeps sessions and streams alive on which nothing happens, and makes up for lost notifications.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from mcp_sessions.cluster.client_requests import ClientRequests
from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import Deadlines, aend_session, finish_endings
from mcp_sessions.records import Session
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.listeners import Listeners
from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.orphans import Orphans
from mcp_sessions.transport.event_ids import STANDALONE

T = TypeVar("T")
#: Sessions or streams that are looked after at once: thousands would make a burst of memory and latency.
BATCH: Final = 100
#: Seconds between two batches of streams.
PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Looks after the sessions, streams and requests of one endpoint in this process."""

    context: Context
    admission: Admission
    open_streams: OpenStreams
    client_requests: ClientRequests
    orphans: Orphans
    deadlines: Deadlines
    listeners: Listeners
    #: Called with the fingerprint of a session that the store does not have.
    session_missing: Callable[[str], Awaitable[None]]

    async def beat(self) -> None:
        """Run one heartbeat. Raises: StoreUnavailable."""
        await self._keep_sessions()
        await self._keep_streams()
        await self.listeners.keep()
        await self.orphans.look()
        await self.client_requests.look()
        await finish_endings(self.context.node, self.context.conf().alias)
        await self._read_again()

    async def _keep_sessions(self) -> None:
        """Keep the sessions of long requests and open streams from idling out."""
        busy = {exchange.session.fingerprint for exchange in self.admission if exchange.keeps_session}
        busy |= {reader.fingerprint for reader in self.open_streams}
        for fingerprints in _batches(sorted(busy)):
            keep = sessions.keep(fingerprints, limits=self.context.conf().limits)
            alive = await self.context.store.run(keep)
            for fingerprint in fingerprints:
                session = alive.get(fingerprint)
                if session is None:
                    await self.session_missing(fingerprint)
                elif self._counts(session):
                    self.deadlines.watch(session)
                else:
                    await self._end(fingerprint)

    def _counts(self, session: Session) -> bool:
        """False for a session that was opened before the moment before which none counts any more."""
        setting_ms = self.context.conf().min_created_ms
        return self.context.node.validity.counts(session.created_ms, setting_ms=setting_ms)

    async def _end(self, fingerprint: str) -> None:
        """Nobody can use the session any more; here something of it is still open."""
        alias, spawn = self.context.conf().alias, self.context.spawn
        await aend_session(
            self.context.node, alias, fingerprint, reason="expired_by_operator", by="MIN_CREATED", spawn=spawn
        )

    async def _keep_streams(self) -> None:
        """Keep the logs of the exchanges that run here, and of the standalone streams that are delivered here.

        An exchange that no node runs must not keep its client waiting: its log expires.
        """
        names = {(e.session.fingerprint, e.stream.name) for e in self.admission if e.stream is not None}
        names |= {(fingerprint, STANDALONE) for fingerprint in self.open_streams.listening}
        for batch in _batches(sorted(names)):
            await self.context.store.run(streams.keep(batch))

    async def _read_again(self) -> None:
        """Let every open stream look at its log: a notification may have been lost."""
        for batch in _batches(list(self.open_streams)):
            for reader in batch:
                reader.nudge()
            await asyncio.sleep(PAUSE_SECONDS)


def keeps(admission: Admission, open_streams: OpenStreams, fingerprint: str) -> bool:
    """Whether heartbeats keep a session alive: a long request of it runs here, or a stream of it is open."""
    exchanges = admission.of(fingerprint)
    return bool(open_streams.of(fingerprint)) or any(each.keeps_session for each in exchanges)


def seconds_between(alias: str) -> float:
    """The time between two heartbeats of an endpoint: several fit into whatever they keep from its end."""
    conf = endpoint(alias)
    return min(HEARTBEAT_SECONDS, conf.idle_ttl / 3, conf.stream_ttl / 3)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[n : n + BATCH] for n in range(0, len(items), BATCH))
