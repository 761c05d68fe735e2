"""What dead processes leave: streams without an end, and questions that nobody waits for any more.

Whoever delivers such a stream ends it, so that its client does not wait for ever.

A node counts as dead when two heartbeats in a row do not find it: one that could not reach the store for a while comes
back with its next heartbeat, and then its work is not lost.
"""

import json
import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.store.calls import nodes, sessions, streams
from mcp_sessions.streams.writer import Follower, patiently
from mcp_sessions.transport import jsonrpc

if TYPE_CHECKING:
    from mcp_sessions.serving.runtime import Runtime

logger = logging.getLogger(__name__)

#: A heartbeat has failed if the next one comes later than this.
GAP_SECONDS: Final = 2 * HEARTBEAT_SECONDS
LOST: Final = "The server process that ran this request died; the request is lost"


class Orphans:
    """What one runtime knows about the other nodes."""

    def __init__(self, runtime: "Runtime", *, clock: Callable[[], float] = monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        #: The nodes that the last heartbeat found.
        self._known: frozenset[str] = frozenset()
        #: When that was, and since when heartbeats have come without a gap, in seconds of the clock.
        self._looked = self._since = -inf

    async def look(self) -> None:
        """A heartbeat: end the streams of nodes that are dead. Raises: StoreUnavailable."""
        # First: a node that is followed already has registered, so the list below has it if it is alive.
        followed = [f for f in self._runtime.followers if f.origin and f.valid and f.delivery.open]
        alive = await self._alive()
        present, self._known = alive | self._known, alive
        self._since, self._looked = self._settling_since(), self._clock()
        if not self._is_settled():
            return
        for follower in followed:
            if follower.origin not in present:
                self._runtime.spawn(self._end(follower))

    async def is_dead(self, node: str) -> bool:
        """Whether what a node waited for has nobody to wait for it. Raises: StoreUnavailable."""
        if node in self._known or not self._is_settled():
            return False
        return node not in await self._alive()

    async def _alive(self) -> frozenset[str]:
        return frozenset(node.id for node in await self._runtime.store.run(nodes.list_nodes()))

    def _settling_since(self) -> float:
        """Since when this node's heartbeats have come without a gap.

        Where they had one, the store was away: who is missing may only be later to come back.
        """
        now = self._clock()
        return now if now - self._looked > GAP_SECONDS else self._since

    def _is_settled(self) -> bool:
        """Whether this node has been looking for long enough to judge others."""
        return self._clock() - self._settling_since() >= DEAD_AFTER_SECONDS

    async def _end(self, follower: Follower) -> None:
        """Give the stream a response: that of the call run again, if it may be, else an error."""
        node, follower.origin = follower.origin, ""
        try:
            await self._close(follower, json.loads(follower.request))
        except StoreUnavailable as error:
            follower.origin = node
            logger.warning("A stream of session %.12s is ended later: %s", follower.fingerprint, error)
            return
        follower.nudge()
        logger.warning("Node %s died with a request of session %.12s.", node, follower.fingerprint)

    async def _close(self, follower: Follower, request: dict[str, Any]) -> None:
        """Raises: StoreUnavailable."""
        response = await self._run_again(follower, request) if "method" in request else None
        if response is None:
            error = {"code": CONNECTION_CLOSED, "message": LOST}
            response = jsonrpc.error_response(request["id"], error)
        payload, limits = jsonrpc.encode(response), self._runtime.conf.stream_limits
        await patiently(
            lambda: self._runtime.store.run(
                streams.close_orphan(follower.fingerprint, follower.stream, payload=payload, limits=limits)
            )
        )

    async def _run_again(self, follower: Follower, request: dict[str, Any]) -> dict[str, Any] | None:
        """The response of a call that does no harm twice; what it says before is not said again."""
        session = await self._runtime.store.run(sessions.get(follower.fingerprint))
        if session is None or not self._runtime.conf.rerun_lost_calls:
            return None
        again = jsonrpc.Request(id=request["id"], method=request["method"], params=request["params"])
        exchange = Exchange(again, follower.scope, runtime=self._runtime, session=session, json_only=True)
        self._runtime.run(exchange)
        self._runtime.hold_while_running(exchange)
        await exchange.settled(None)
        return exchange.response
