"""Streams whose process died before it logged the response.

The process that delivers such a stream closes it, so that the client does not wait forever.

A node is dead when two heartbeats in a row do not find it: one that could not reach the store for a while comes back
with its next heartbeat, and then its work is not lost.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.store.calls import nodes, sessions, streams
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.reader import StreamReader
from mcp_sessions.streams.retry import retry_while_unavailable
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)

#: A heartbeat has failed if the next one comes later than this.
GAP_SECONDS: Final = 2 * HEARTBEAT_SECONDS
#: Answers a request, with the headers of the HTTP request that waits for it, and gives the response.
RunAgain = Callable[[jsonrpc.Request, Mapping[str, Any], Session], Awaitable[dict[str, Any] | None]]
LOST: Final = "The server process that ran this request died; the request is lost"


class Orphans:
    """What this process knows about the other nodes, and what it does for the clients of dead ones."""

    def __init__(
        self,
        context: Context,
        readers: Iterable[StreamReader],
        *,
        run_again: RunAgain,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._context = context
        self._readers = readers
        self._run_again = run_again
        self._clock = clock
        #: The nodes that the last heartbeat found.
        self._known: frozenset[str] = frozenset()
        #: When that was, and since when there was a heartbeat without a gap, in seconds of the clock.
        self._looked = self._since = -inf

    async def look(self) -> None:
        """With each heartbeat: close the streams of nodes that are dead. Raises: StoreUnavailable."""
        # First: a node whose stream is read here has registered, so the list below has it if it is alive.
        reading = [r for r in self._readers if r.origin and r.is_current and r.event_stream.open]
        alive = await self._alive()
        present, self._known = alive | self._known, alive
        self._since, self._looked = self._settling_since(), self._clock()
        if not self._is_settled():
            return
        for reader in reading:
            if reader.origin not in present:
                self._context.spawn(self._end(reader))

    async def is_dead(self, node: str) -> bool:
        """Whether nobody waits any more for what a node waited for. Raises: StoreUnavailable."""
        if node in self._known or not self._is_settled():
            return False
        return node not in await self._alive()

    async def _alive(self) -> frozenset[str]:
        return frozenset(node.id for node in await self._context.store.run(nodes.list_nodes()))

    def _settling_since(self) -> float:
        """Since when this node's heartbeats have come without a gap.

        In a gap the store was away: a missing node may only need longer to come back.
        """
        now = self._clock()
        return now if now - self._looked > GAP_SECONDS else self._since

    def _is_settled(self) -> bool:
        """Whether this node has looked for long enough to judge others."""
        return self._clock() - self._settling_since() >= DEAD_AFTER_SECONDS

    async def _end(self, reader: StreamReader) -> None:
        """Give the stream a response: that of the call run again, if it may be, else an error."""
        node, reader.origin = reader.origin, ""
        try:
            await self._close(reader, json.loads(reader.request))
        except StoreUnavailable as error:
            reader.origin = node
            logger.warning("A stream of session %.12s is ended later: %s", reader.fingerprint, error)
            return
        reader.nudge()
        logger.warning("Node %s died with a request of session %.12s.", node, reader.fingerprint)

    async def _close(self, reader: StreamReader, request: dict[str, Any]) -> None:
        """Raises: StoreUnavailable."""
        context, response = self._context, None
        if "method" in request and context.conf().rerun_lost_calls:
            session = await context.store.run(sessions.get(reader.fingerprint))
            if session is not None:
                # Its messages before the response are not sent again.
                response = await self._run_again(jsonrpc.Request(**request), reader.scope, session)
        if response is None:
            error = {"code": CONNECTION_CLOSED, "message": LOST}
            response = jsonrpc.error_response(request["id"], error)
        close = streams.close_orphan(
            reader.fingerprint,
            reader.stream,
            payload=jsonrpc.encode(response),
            limits=context.conf().stream_limits,
        )
        await retry_while_unavailable(lambda: context.store.run(close))
