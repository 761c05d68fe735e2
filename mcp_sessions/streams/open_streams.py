"""The streams that this process delivers from the log, one reader per connection."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any

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
    """The readers of each session, oldest first: takes streams over for clients, and gives standalone ones back."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._readers: dict[str, list[StreamReader]] = {}

    def __iter__(self) -> Iterator[StreamReader]:
        """All of them; the set may change while the caller goes through it."""
        return iter([reader for readers in self._readers.values() for reader in readers])

    def of(self, fingerprint: str) -> list[StreamReader]:
        """Those of one session."""
        return list(self._readers.get(fingerprint, ()))

    @property
    def listening(self) -> set[str]:
        """The sessions whose standalone stream is delivered here."""
        return {reader.fingerprint for reader in self if reader.stream == STANDALONE and reader.is_current}

    async def take_over(
        self, session: Session, stream: str, *, after: int | None, scope: Mapping[str, Any]
    ) -> StreamReader | None:
        """Deliver a stream from now on, in the place of whoever did so far. None if there is no such stream.

        Raises: StoreUnavailable.
        """
        context, fingerprint = self._context, session.fingerprint
        claim = streams.claim(fingerprint, stream, node=context.node.id, after=after)
        taken = await context.store.run(claim)
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
        return asyncio.create_task(reader.run())

    def stop(self, reader: StreamReader, task: "asyncio.Task[None]") -> None:
        """The connection is closed. A standalone stream goes back to another one that the client still has open."""
        task.cancel()
        self._readers[reader.fingerprint].remove(reader)
        if not self._readers[reader.fingerprint]:
            del self._readers[reader.fingerprint]
        if reader.stream == STANDALONE and reader.is_current:
            self.hand_back(reader.fingerprint, reader.replaced)

    def hand_back(self, fingerprint: str, replaced: Claim | None) -> None:
        """Give a standalone stream to the newest connection here, or else to the node that had it before."""
        mine = self._readers.get(fingerprint, ())
        listening = [reader for reader in mine if reader.stream == STANDALONE and reader.event_stream.open]
        if listening:
            self._context.spawn(self._claim_for(listening[-1]))
        elif replaced is not None and replaced.node != self._context.node.id:
            self._context.node.notify(replaced.node, StreamReleased(fingerprint=fingerprint))

    async def _claim_for(self, reader: StreamReader) -> None:
        node = self._context.node.id
        claim = streams.claim(reader.fingerprint, STANDALONE, node=node, after=None)
        try:
            taken = await self._context.store.run(claim)
        except StoreUnavailable as error:
            logger.warning("A stream of session %.12s stays silent: %s", reader.fingerprint, error)
            return
        if taken is None:
            return  # the session has ended
        if reader.event_stream.open:
            reader.resume(taken)
        else:
            self.hand_back(reader.fingerprint, taken.replaced)

    def disconnect(self, fingerprint: str, stream: str, token: int) -> None:
        """Close the connection that delivers a stream with that claim, if it is here."""
        for reader in self._readers.get(fingerprint, ()):
            if reader.stream == stream and reader.claim.token == token:
                reader.disconnect()

    def nudge(self, fingerprint: str, stream: str) -> None:
        """There are new messages on a stream, or a newer claim."""
        for reader in self._readers.get(fingerprint, ()):
            if reader.stream == stream:
                reader.nudge()


async def disconnect(context: Context, fingerprint: str, stream: str) -> Claim | None:
    """Close the connection that delivers a stream, in whichever process that is. Its client may resume.

    Returns the claim of that connection; None if there is none, or if the store cannot be asked, which is logged.
    """
    try:
        claim = await context.store.run(streams.delivered_by(fingerprint, stream))
    except StoreUnavailable as error:
        logger.info("A connection of session %.12s stays open: %s", fingerprint, error)
        return None
    if claim is not None:
        disconnected = StreamDisconnected(fingerprint=fingerprint, stream=stream, token=claim.token)
        context.node.notify(claim.node, disconnected)
    return claim
