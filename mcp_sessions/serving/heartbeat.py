"""What this process does with each heartbeat, besides saying that it is alive.

It keeps sessions and streams alive on which nothing happens, and makes up for lost notifications.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from mcp_sessions import lifecycle
from mcp_sessions.authentication.blocking import blocks_of
from mcp_sessions.cluster.client_requests import ClientRequests
from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import aend_session, finish_endings
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.listeners import Listeners
from mcp_sessions.serving.outage import Outage
from mcp_sessions.store.calls import looks, sessions, streams
from mcp_sessions.store.calls.looks import Found, Held
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.orphans import Orphans
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.streams.writer import StreamWriter
from mcp_sessions.sweeping import Deadlines, sweep
from mcp_sessions.transport.event_ids import STANDALONE

T = TypeVar("T")
#: Sessions or streams that are renewed at once: thousands would make a burst of memory and latency.
BATCH: Final = 100
#: Sessions, and logs of streams, are renewed when this part of their TTL is over. To renew one costs Redis as much as
#: ten looks at it.
RENEWED_AFTER: Final = 0.1
#: Sessions are renewed after so many milliseconds at the latest: operators look for those of the last five minutes.
LONGEST_IDLE_MS: Final = 240_000


@dataclass(slots=True)
class Heartbeat:
    """Looks after the sessions, streams and requests of one endpoint in this process."""

    context: Context
    admission: Admission
    open_streams: OpenStreams
    client_requests: ClientRequests
    orphans: Orphans
    deadlines: Deadlines
    listeners: Listeners
    outage: Outage
    #: Called with the fingerprint of a session that the store does not have.
    session_missing: Callable[[str], Awaitable[None]]
    #: The sessions that the last heartbeat kept from idling out.
    _kept: set[str] = field(default_factory=set, init=False)

    async def beat(self) -> None:
        """Run one heartbeat. Where a part of the store is away, the rest is looked after. Raises: StoreUnavailable."""
        node, alias = self.context.node, self.context.conf().alias
        blocks = blocks_of(alias)
        if blocks.due:
            self.context.spawn(blocks.load())  # not awaited: the database may take its time
        await _all_of(
            self.keep,
            self.listeners.keep,
            self.orphans.look,
            self.client_requests.look,
            partial(finish_endings, node, alias),
            partial(sweep, node, alias),
        )
        # Not if a part of the store is away: it would be asked in vain for each session that was opened meanwhile.
        await self.outage.settle()
        for hook in lifecycle.heartbeat_hooks:
            self.context.spawn(hook(alias))

    async def keep(self) -> None:
        """Keep the sessions of long requests and open streams from idling out, and see what has become of them.

        A notification may have been lost: of a message, of a newer connection, of the end of a session. Raises:
        StoreUnavailable.
        """
        seen = _Seen()
        busy = [each for each in self.admission if each.keeps_session]
        for some in _batches([*self.open_streams, *busy], looks.TOGETHER):
            await self._look(some, seen)
        missing = (partial(self.session_missing, each) for each in seen.missing)
        barred = (partial(self._end, each) for each in seen.barred)
        await _all_of(partial(self._renew_sessions, seen), self._renew_logs, *missing, *barred)

    async def _look(self, holders: Sequence[StreamReader | Exchange], seen: "_Seen") -> None:
        """See what has become of sessions and streams, and which sessions have to be renewed."""
        horizon = self.deadlines.horizon_ms
        idle_ms = min(self.context.conf().limits.idle_ms * RENEWED_AFTER, LONGEST_IDLE_MS)
        asked, conf = [_held(each) for each in holders], self.context.conf()
        first_ms = self.context.node.validity.first_ms(setting_ms=conf.min_created_ms)
        found = await self.context.store.run(looks.look(asked, first_ms=first_ms))
        for holder, held, what in zip(holders, asked, found, strict=True):
            seen.held.add(held.fingerprint)
            if what is None:
                seen.missing.add(held.fingerprint)
            elif isinstance(what, Found):
                if what.barred:
                    seen.barred.add(held.fingerprint)
                    continue
                if what.left_ms <= horizon:
                    self.deadlines.due_in(held.fingerprint, what.left_ms / 1000)
                if what.since_ms >= idle_ms:
                    seen.idle.add(held.fingerprint)
                if what.changed and isinstance(holder, StreamReader):
                    holder.nudge()

    async def _end(self, fingerprint: str) -> None:
        """Nobody can use the session any more; here something of it is still open."""
        alias, spawn = self.context.conf().alias, self.context.spawn
        await aend_session(
            self.context.node, alias, fingerprint, reason="expired_by_operator", by="MIN_CREATED", spawn=spawn
        )

    async def _renew_sessions(self, seen: "_Seen") -> None:
        """Renew what is due, and what is not held any more: its idle time begins now."""
        idle = seen.idle | (self._kept - seen.held)
        self._kept |= seen.held
        run, limits = self.context.store.run, self.context.conf().limits
        await _all_of(
            *(partial(run, sessions.keep(some, limits=limits)) for some in _batches(sorted(idle), BATCH))
        )
        self._kept = seen.held

    async def _renew_logs(self) -> None:
        """Renew the logs of the exchanges that run here, and of the standalone streams that are open here.

        An exchange that no node runs must not keep its client waiting: its log expires.
        """
        logs: dict[tuple[str, str], StreamReader | StreamWriter] = {
            (each.fingerprint, STANDALONE): each for each in self.open_streams if each.stream == STANDALONE
        }
        for each in self.admission:
            if each.stream is not None:
                logs[each.session.fingerprint, each.stream.name] = each.stream
        since = asyncio.get_running_loop().time() - self.context.conf().stream_ttl * RENEWED_AFTER
        due = [(log, holder) for log, holder in logs.items() if holder.kept <= since]
        await _all_of(*(partial(self._renew, some) for some in _batches(due, BATCH)))

    async def _renew(self, logs: Sequence[tuple[tuple[str, str], StreamReader | StreamWriter]]) -> None:
        now = asyncio.get_running_loop().time()
        await self.context.store.run(streams.keep([log for log, _ in logs]))
        for _, holder in logs:
            holder.kept = now


@dataclass(slots=True)
class _Seen:
    """What a heartbeat has seen of the sessions that are held here."""

    held: set[str] = field(default_factory=set)
    #: Those that the store does not have.
    missing: set[str] = field(default_factory=set)
    #: Those that were opened before the moment before which none counts any more.
    barred: set[str] = field(default_factory=set)
    #: Those to renew.
    idle: set[str] = field(default_factory=set)


def _held(holder: StreamReader | Exchange) -> Held:
    """What a reader delivers, or the session of an exchange."""
    if isinstance(holder, Exchange):
        return Held(holder.session.fingerprint)
    token = 0 if holder.holder is None else holder.holder.token
    return Held(holder.fingerprint, holder.stream, token, holder.after if holder.is_current else None)


async def _all_of(*cares: Callable[[], Awaitable[object]]) -> None:
    """Run one after the other, each whether or not the store was there for those before. Raises: StoreUnavailable."""
    failure = None
    for care in cares:
        try:
            await care()
        except StoreUnavailable as error:
            failure = error
    if failure is not None:
        raise failure


def keeps(admission: Admission, open_streams: OpenStreams, fingerprint: str) -> bool:
    """Whether heartbeats keep a session alive: a long request of it runs here, or a stream of it is open."""
    exchanges = admission.of(fingerprint)
    return bool(open_streams.of(fingerprint)) or any(each.keeps_session for each in exchanges)


def seconds_between(alias: str) -> float:
    """The time between two heartbeats of an endpoint: several fit into whatever they keep from its end."""
    conf = endpoint(alias)
    return min(HEARTBEAT_SECONDS, conf.idle_ttl / 3, conf.stream_ttl / 3)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[n : n + size] for n in range(0, len(items), size))
