"""The streams that this process delivers from the log, one reader per connection."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_sessions import counting
from mcp_sessions.cluster.notifications import StreamClaimed, StreamDisconnected, StreamReleased
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Claim
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.transport import sse
from mcp_sessions.transport.event_ids import STANDALONE

logger = logging.getLogger(__name__)


class OpenStreams:
    """The readers of each session, oldest first: takes streams over for clients, and gives standalone ones back.

    A client may hold several standalone streams. The newest delivers; the store knows the others, and which of them
    delivers when that one closes. Its node is told with a StreamReleased; if that is lost, a heartbeat finds out.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._readers: dict[str, list[StreamReader]] = {}
        #: The sessions whose streams are being taken over at this moment: the store may know a claim before we do.
        self._claiming: Counter[str] = Counter()

    def __iter__(self) -> Iterator[StreamReader]:
        """All of them; the set may change while the caller goes through it."""
        return iter([reader for readers in self._readers.values() for reader in readers])

    def of(self, fingerprint: str) -> list[StreamReader]:
        """Those of one session."""
        return list(self._readers.get(fingerprint, ()))

    @property
    def listening(self) -> set[str]:
        """The sessions with a standalone stream open here, whichever of their connections delivers at this moment."""
        return {reader.fingerprint for reader in self if reader.stream == STANDALONE}

    def has(self, fingerprint: str, token: int) -> bool:
        """Whether the connection with this token is here."""
        return any(reader.claim.token == token for reader in self._readers.get(fingerprint, ()))

    async def take_over(
        self, session: Session, stream: str, *, after: int | None, scope: Mapping[str, Any]
    ) -> StreamReader | None:
        """Deliver a stream from now on, in the place of whoever did so far. None if there is no such stream.

        The caller starts the reader before it awaits anything. Raises: StoreUnavailable.
        """
        context, fingerprint = self._context, session.fingerprint
        ttl_ms = context.conf().stream_limits.ttl_ms
        claim = streams.claim(fingerprint, stream, node=context.node.id, after=after, ttl_ms=ttl_ms)
        self._claiming[fingerprint] += 1
        try:
            taken = await context.store.run(claim)
        finally:
            self._claiming[fingerprint] -= 1
            if not self._claiming[fingerprint]:
                del self._claiming[fingerprint]
        if taken is None:
            return None
        if taken.replaced is not None and stream != STANDALONE:
            claimed = StreamClaimed(fingerprint=fingerprint, stream=stream, token=taken.claim.token)
            context.node.notify(taken.replaced.node, claimed)
        primed = session.handshake.protocol_version >= sse.PRIMED_SINCE
        return StreamReader(context, fingerprint, stream, taken=taken, primed=primed, scope=scope)

    def start(self, reader: StreamReader) -> "asyncio.Task[None]":
        """Run a reader until `stop`, which takes the task. Its session is kept alive meanwhile."""
        readers = self._readers.setdefault(reader.fingerprint, [])
        readers.append(reader)
        # A session may have only so many open streams in a process: the oldest make room.
        open_ = [each for each in readers if each.event_stream.open]
        for surplus in open_[: max(0, len(open_) - self._context.conf().max_streams_per_session)]:
            surplus.event_stream.end()
            counting.count_limited(self._context.conf().alias, "MAX_STREAMS_PER_SESSION")
        return asyncio.create_task(reader.run())

    def stop(self, reader: StreamReader, task: "asyncio.Task[None]") -> None:
        """The connection is closed. A standalone stream goes back to another one that the client still has open."""
        task.cancel()
        self._readers[reader.fingerprint].remove(reader)
        if not self._readers[reader.fingerprint]:
            del self._readers[reader.fingerprint]
        if reader.stream == STANDALONE:
            self._context.spawn(self.release(reader.fingerprint, reader.claim.token))

    async def release(self, fingerprint: str, token: int) -> None:
        """The connection with this token has closed, or its process is dead: tell the one that delivers from now on.

        If the store cannot be asked, a heartbeat of a process with another connection of the client makes up for it.
        """
        try:
            holder = await self._context.store.run(streams.release(fingerprint, token=token))
        except StoreUnavailable as error:
            logger.debug("A stream of session %.12s is given back later: %s", fingerprint, error)
            return
        if holder is not None:
            self._context.node.notify(
                holder.node, StreamReleased(fingerprint=fingerprint, token=holder.token)
            )

    def hear_released(self, fingerprint: str, token: int) -> None:
        """The connection with this token delivers the standalone stream: make sure that it does, or pass it on."""
        for reader in self._readers.get(fingerprint, ()):
            if reader.claim.token == token:
                return reader.nudge()
        if fingerprint not in self._claiming:
            self._context.spawn(self.release(fingerprint, token))

    def disconnect(self, fingerprint: str, stream: str, token: int) -> None:
        """Close the connection that delivers a stream with that claim, if it is here."""
        for reader in self._readers.get(fingerprint, ()):
            if reader.stream == stream and reader.claim.token == token:
                reader.disconnect()

    def nudge(self, fingerprint: str, stream: str) -> None:
        """There are new messages on a stream, or a newer claim. Who knows that it does not deliver is not disturbed."""
        readers = [each for each in self._readers.get(fingerprint, ()) if each.stream == stream]
        for reader in [each for each in readers if each.is_current] or readers:
            reader.nudge()


async def disconnect(context: Context, fingerprint: str, stream: str) -> Claim | None:
    """Close the connection that delivers a stream, in whichever process that is. Its client may resume.

    Returns the claim of that connection; None if there is none, or no such stream. Raises: StoreUnavailable.
    """
    claim = await context.store.run(streams.delivered_by(fingerprint, stream))
    if claim is not None:
        disconnected = StreamDisconnected(fingerprint=fingerprint, stream=stream, token=claim.token)
        context.node.notify(claim.node, disconnected)
    return claim
