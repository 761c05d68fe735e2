"""Streams whose process died before it logged the response, and standalone ones whose process died.

The process that delivers a stream of a dead node closes it, so that the client does not wait forever: with an error, or
with the response of the call run again. Of several processes one runs it again, and becomes the node of that exchange;
if it dies as well, another one does, up to MAX_RERUNS times. The messages before the response are not sent again. A
standalone stream goes on through another connection of its client.

A node is dead when two heartbeats in a row do not find it: one that could not reach the store for a while, or that the
store has forgotten with other data, comes back with its next heartbeat, and then its work is not lost.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, GAP_SECONDS
from mcp_sessions.cluster.notifications import StreamChanged, StreamReleased
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.store.calls import nodes, sessions, streams
from mcp_sessions.store.calls.streams import Claim, Closed
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.streams.retry import retry_while_unavailable
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import STANDALONE

logger = logging.getLogger(__name__)

#: Answers a request, with the headers of the HTTP request that waits for it, and gives the response.
RunAgain = Callable[[jsonrpc.Request, Mapping[str, Any], Session], Awaitable[dict[str, Any]]]
LOST: Final = "The server process that ran this request died; the request is lost"
#: How often a call is run again: one that kills its process must not kill all.
MAX_RERUNS: Final = 3


class Orphans:
    """What this process knows about the other nodes, and what it does for the clients of dead ones."""

    def __init__(
        self,
        context: Context,
        open_streams: OpenStreams,
        *,
        run_again: RunAgain,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._context = context
        self._open_streams = open_streams
        self._run_again = run_again
        self._clock = clock
        #: The calls of dead nodes that run again here, by session and stream.
        self._reruns: dict[tuple[str, str], asyncio.Task[None]] = {}
        #: The nodes that the last heartbeat found.
        self._known: frozenset[str] = frozenset()
        #: When that was, and since when there was a heartbeat without a gap, in seconds of the clock.
        self._looked = self._since = -inf
        #: How often the store had forgotten this node by then.
        self._forgotten = 0

    async def look(self) -> None:
        """With each heartbeat: see to the streams of nodes that are dead. Raises: StoreUnavailable."""
        # First: a node whose stream is read here has registered, so the list below has it if it is alive.
        open_ = [reader for reader in self._open_streams if reader.event_stream.open]
        reading = [(reader, reader.origin) for reader in open_ if reader.origin and reader.is_current]
        silent = [(reader, reader.holder) for reader in open_ if not reader.is_current]
        alive = await self._alive()
        present, self._known = alive | self._known, alive
        self._since, self._looked = self._settling_since(), self._clock()
        self._forgotten = self._context.node.forgotten
        await self._cancel_superseded()
        for reader, holder in silent:
            if reader.stream == STANDALONE:
                self._pass_on(reader, holder, present)
        if not self._is_settled():
            return
        for reader, origin in reading:
            if origin not in present and reader.origin == origin:
                self._context.spawn(self._end(reader))

    async def is_dead(self, node: str) -> bool:
        """Whether nobody waits any more for what a node waited for. Raises: StoreUnavailable."""
        if node in self._known or not self._is_settled():
            return False
        alive = await self._alive()
        # A store that does not know this node has lost data, and forgotten others.
        return self._is_settled() and self._context.node.id in alive and node not in alive

    async def _alive(self) -> frozenset[str]:
        return frozenset(node.id for node in await self._context.store.run(nodes.list_nodes()))

    def _settling_since(self) -> float:
        """Since when this node's heartbeats have come without a gap, and the store has remembered them.

        In a gap the store was away, or it has lost data: a missing node may only need longer to come back.
        """
        now, forgotten = self._clock(), self._context.node.forgotten
        return now if now - self._looked > GAP_SECONDS or forgotten != self._forgotten else self._since

    def _is_settled(self) -> bool:
        """Whether this node has looked for long enough to judge others."""
        return self._clock() - self._settling_since() >= DEAD_AFTER_SECONDS

    def _pass_on(self, reader: StreamReader, holder: Claim | None, present: frozenset[str]) -> None:
        """See that somebody delivers a standalone stream for which a connection waits here."""
        if holder is None:
            # The store does not know that this connection waits, nor of any other: its client comes back.
            reader.event_stream.end()
        elif self._open_streams.has(reader.fingerprint, holder.token):
            pass  # each heartbeat looks whether it has news
        elif holder.node in present or not self._is_settled():
            # That node may not know: the notification was lost, or the reply to the claim of a client that has left.
            released = StreamReleased(fingerprint=reader.fingerprint, token=holder.token)
            self._context.node.notify(holder.node, released)
        else:
            self._context.spawn(self._open_streams.release(reader.fingerprint, holder.token))

    async def _end(self, reader: StreamReader) -> None:
        """Give the stream of a dead node a response, or see who does."""
        dead, reader.origin = reader.origin, ""
        try:
            reader.origin = await self._take_care(reader, dead)
        except StoreUnavailable as error:
            reader.origin = dead
            logger.debug("A stream of session %.12s is ended later: %s", reader.fingerprint, error)
            return
        reader.nudge()

    async def _take_care(self, reader: StreamReader, dead: str) -> str:
        """The node that runs the exchange from now on; "" if none does. Raises: StoreUnavailable."""
        context, fingerprint, stream = self._context, reader.fingerprint, reader.stream
        request = json.loads(reader.request)
        if "method" in request and context.conf().rerun_lost_calls:
            node = context.node.id
            call = streams.rerun(fingerprint, stream, dead=dead, node=node, most=MAX_RERUNS)
            rerun = await context.store.run(call)
            if rerun is None:
                return ""
            if rerun.origin == node:
                self._start_rerun(reader, jsonrpc.Request(**request), dead, rerun.count)
            if rerun.origin != dead:
                return rerun.origin
        error = {"code": CONNECTION_CLOSED, "message": LOST}
        response = jsonrpc.error_response(request["id"], error)
        closed = await self._close(fingerprint, stream, dead, response, after=reader.after, seconds=None)
        logger.warning("Node %s died with a request of session %.12s.", dead, fingerprint)
        return "" if closed is None else closed.origin

    async def _close(
        self,
        fingerprint: str,
        stream: str,
        origin: str,
        response: Mapping[str, Any],
        *,
        after: int,
        seconds: float | None,
    ) -> Closed | None:
        """Log the response, and tell who delivers. Raises: StoreUnavailable if the store is away for so long."""
        context = self._context
        close = streams.close_orphan(
            fingerprint,
            stream,
            origin=origin,
            after=after,
            payload=jsonrpc.encode(response),
            limits=context.conf().stream_limits,
        )
        closed = await retry_while_unavailable(lambda: context.store.run(close), seconds=seconds)
        if closed is not None and closed.claim is not None:
            context.node.notify(closed.claim.node, StreamChanged(fingerprint=fingerprint, stream=stream))
        return closed

    def _start_rerun(self, reader: StreamReader, request: jsonrpc.Request, dead: str, count: int) -> None:
        """Run a call again, once in this process, whatever becomes of the connection that waits for it."""
        key = reader.fingerprint, reader.stream
        if key not in self._reruns:
            logger.warning(
                "Node %s died with a request of session %.12s: it runs again (%d of %d).",
                *(dead, reader.fingerprint, count, MAX_RERUNS),
            )
            self._reruns[key] = self._context.spawn(self._rerun(*key, request, reader.scope, reader.after))
            self._reruns[key].add_done_callback(lambda _: self._reruns.pop(key))

    async def _rerun(
        self, fingerprint: str, stream: str, request: jsonrpc.Request, scope: Mapping[str, Any], after: int
    ) -> None:
        store, get = self._context.store, sessions.get(fingerprint)
        session = await retry_while_unavailable(lambda: store.run(get), seconds=inf)
        if session is not None:
            response = await self._run_again(request, scope, session)
            node = self._context.node.id
            closed = await self._close(fingerprint, stream, node, response, after=after, seconds=inf)
            if closed is not None:
                self._runs_elsewhere(fingerprint, stream, closed.origin)

    async def _cancel_superseded(self) -> None:
        """Cancel what another node runs again since this one was taken for dead. Keep the other streams."""
        node = self._context.node.id
        for (fingerprint, stream), task in tuple(self._reruns.items()):
            held = await self._context.store.run(
                streams.rerun(fingerprint, stream, dead=node, node=node, most=MAX_RERUNS)
            )
            if held is None or held.origin != node:
                task.cancel()
            if held is not None:
                self._runs_elsewhere(fingerprint, stream, held.origin)

    def _runs_elsewhere(self, fingerprint: str, stream: str, origin: str) -> None:
        """From here on a call is that of another node; of the dead one again, if the store has lost that it ran here.

        The connections that wait here end when that node is dead.
        """
        for reader in self._open_streams.of(fingerprint):
            if reader.stream == stream and reader.origin == self._context.node.id:
                reader.origin = origin
