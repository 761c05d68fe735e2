"""Finds what is over, and has it ended.

Each node ends the sessions that it holds at the moment of their maximum age. Everything else is found with a heartbeat,
by one node for each shard of the indexes.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Final

from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import SIGNALLED, Spawn, aend_session, end_over, forget
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.store import keys
from mcp_sessions.store.calls import endings, sweeps
from mcp_sessions.store.calls.endings import Ending

#: Records of each kind that one heartbeat sweeps from a shard at most, and seconds between two batches of them, in
#: which requests are answered.
MOST_SWEPT: Final = 20_000
PAUSE_SECONDS: Final = 0.005
#: Seconds after a deadline at which a session is ended: the store counts whole milliseconds.
MARGIN_SECONDS: Final = 0.002


async def sweep(node: Node, alias: str) -> None:
    """With each heartbeat: end what is over, drop it from the indexes, and signal the ends. Raises: StoreUnavailable.

    Of several nodes one does that for a shard of the indexes. If it dies in the middle, others finish it.
    """
    for home in keys.homes(endpoint(alias).limits.shards):
        for _ in range(MOST_SWEPT // sweeps.BATCH):
            found = await node.store.run(sweeps.over(home, node=node.id))
            if found is None or not await _sweep_some(node, alias, home, found):
                break
            await asyncio.sleep(PAUSE_SECONDS)


async def _sweep_some(node: Node, alias: str, home: str, found: sweeps.Over) -> bool:
    """Sweep what was found of a shard; whether there may be more that can be swept now. Raises: StoreUnavailable."""
    complete = True
    for kind, fingerprints in found.fingerprints.items():
        token = secrets.token_hex(8)
        if kind in SIGNALLED:
            begun = Ending(token=token, fingerprints=fingerprints, reason="over", by="")
            await node.store.run(endings.begin(begun))
        swept = await end_over(node, alias, fingerprints, token=token)
        if swept.lost:
            if kind == "session":
                await forget(node, swept.lost)
            await node.store.run(sweeps.drop(swept.lost, home=home, kind=kind, now_ms=found.now_ms))
        if swept.foreign:
            leave = sweeps.leave(swept.foreign, home=home, kind=kind, node=node.id, now_ms=found.now_ms)
            await node.store.run(leave)
        complete = complete and swept.complete and not swept.foreign
    return complete and any(len(some) == sweeps.BATCH for some in found.fingerprints.values())


class Deadlines:
    """Ends the sessions that one node holds when they reach their maximum age.

    A session that no node holds at that moment is swept. Of several nodes that hold one, one ends it.
    """

    def __init__(
        self,
        alias: str,
        node: Node,
        *,
        is_held: Callable[[str], bool],
        horizon: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        """`horizon` is the number of seconds after which a session is certainly watched again."""
        self._alias = alias
        self._node = node
        self._is_held = is_held
        self._horizon = horizon
        self._spawn = spawn
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def horizon_ms(self) -> float:
        """For how many milliseconds before its deadline a session has to be watched."""
        return self._horizon() * 1000

    def watch(self, session: Session, *, touched: float | None = None) -> None:
        """Schedule the end of a session whose deadline is near.

        `touched` is when the store touched or kept it, in seconds of the loop's clock; None for just now.
        """
        left_ms = session.deadline_ms - session.last_activity_ms
        if left_ms <= self.horizon_ms:
            self.due_in(session.fingerprint, left_ms / 1000, since=touched)

    def due_in(self, fingerprint: str, seconds: float, *, since: float | None = None) -> None:
        """A session reaches its deadline so many seconds after a moment of the loop's clock; None for just now."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(fingerprint)
        due = (loop.time() if since is None else since) + seconds + MARGIN_SECONDS
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._timers[fingerprint] = loop.call_at(due, self._reached, fingerprint)

    def _reached(self, fingerprint: str) -> None:
        del self._timers[fingerprint]
        if self._is_held(fingerprint):
            self._spawn(self._end(fingerprint))

    async def _end(self, fingerprint: str) -> None:
        ended = None
        with contextlib.suppress(StoreUnavailable):  # it goes on in the background
            ended = await aend_session(
                self._node, self._alias, fingerprint, reason="max_age", by="maximum age", spawn=self._spawn
            )
        if ended is None:
            # Another node ended it, or nobody can yet: what is open of it here closes all the same.
            self._node.notify(self._node.id, SessionsEnded(fingerprints=(fingerprint,)))
