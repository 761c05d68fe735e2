"""Ends sessions, in one way: for their clients, for operators, from a shell, and at their maximum age.

Each end is a line in the log, with who and why, and the signal `session_ended`, once; every node is told, and closes
what is open of the session. Of several ends of one session at the same moment exactly one gets it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from mcp_sessions.cluster import outside
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.sessions import EndReason
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.streams.retry import retry_while_unavailable

logger = logging.getLogger(__name__)

#: Sessions that are ended together: four round trips for so many.
BATCH: Final = 500
#: Seconds after a deadline at which a session is ended: the store counts whole milliseconds.
MARGIN_SECONDS: Final = 0.002


def end_session(
    alias: str, fingerprint: str, *, reason: EndReason = "expired_by_operator", by: str = "code"
) -> Session | None:
    """End anybody's session, close its open streams on every process, and send `session_ended`.

    `by` is who ends it, for the log. When this returns, every process answers 404; open streams close within a second.
    None if there was no such session any more; of several concurrent calls exactly one gets the session, and sends the
    signal. A receiver that raises is logged and stops nothing.

    Raises: StoreUnavailable; then nothing is known to have ended.
    """
    ended, failure = _end(alias, [fingerprint], reason, by)
    if failure is not None:
        raise failure
    return ended[0] if ended else None


def end_sessions(
    alias: str,
    fingerprints: Sequence[str],
    *,
    reason: EndReason = "expired_by_operator",
    by: str = "code",
) -> frozenset[str]:
    """End many sessions of an endpoint, as `end_session` ends one, in four round trips for each 500.

    Returns the fingerprints of those that this call ended; the others were gone already.

    Raises: NotAllEnded, a StoreUnavailable whose `ended` has the fingerprints of those that ended all the same.
    """
    ended: set[str] = set()
    for start in range(0, len(fingerprints), BATCH):
        some, failure = _end(alias, fingerprints[start : start + BATCH], reason, by)
        ended.update(session.fingerprint for session in some)
        if failure is not None:
            raise NotAllEnded(ended) from failure
    return frozenset(ended)


def _end(
    alias: str, fingerprints: Sequence[str], reason: EndReason, by: str
) -> tuple[list[Session], StoreUnavailable | None]:
    """The sessions that ended, and why others may not have."""
    try:
        outcomes = sync_store_for(alias).run(sessions.end_many(fingerprints, reason=reason))
    except StoreUnavailable as error:
        return [], error
    ended = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    if ended:
        gone = tuple(session.fingerprint for session in ended)
        _log(gone, reason, by)
        outside.notify_all(alias, SessionsEnded(fingerprints=gone))
        for fingerprint in gone:
            session_ended.send_robust(sender=Session, fingerprint=fingerprint, alias=alias, reason=reason)
    return ended, failures[0] if failures else None


async def aend_session(
    node: Node,
    alias: str,
    fingerprint: str,
    *,
    reason: EndReason,
    by: str,
    principal: str | None = None,
) -> Session | None:
    """As `end_session`, in an event loop that serves the endpoint as `node`. `principal=None` ends anybody's."""
    session = await node.store.run(sessions.end(fingerprint, principal=principal, reason=reason))
    if session is not None:
        _log((fingerprint,), reason, by)
        ended = SessionsEnded(fingerprints=(fingerprint,))
        node.notify(node.id, ended)
        # Before the others are told, which takes round trips: a request that is cancelled there has sent the signal.
        await session_ended.asend_robust(sender=Session, fingerprint=fingerprint, alias=alias, reason=reason)
        await node.notify_others(ended)
    return session


class Deadlines:
    """Ends the sessions that one node holds when they reach their maximum age.

    A session that no node holds at that moment just expires. Of several nodes that hold one, one ends it.
    """

    def __init__(
        self,
        alias: str,
        node: Node,
        *,
        is_held: Callable[[str], bool],
        horizon: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`horizon` is the number of seconds after which a session is certainly watched again."""
        self._alias = alias
        self._node = node
        self._is_held = is_held
        self._horizon = horizon
        self._spawn = spawn
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def watch(self, session: Session, *, touched: float | None = None) -> None:
        """Schedule the end of a session whose deadline is near.

        `touched` is when the store touched or kept it, in seconds of the loop's clock; None for just now.
        """
        left = (session.deadline_ms - session.last_activity_ms) / 1000
        if left > self._horizon():
            return
        loop, fingerprint = asyncio.get_running_loop(), session.fingerprint
        known = self._timers.get(fingerprint)
        due = (loop.time() if touched is None else touched) + left + MARGIN_SECONDS
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
        failure: StoreUnavailable | None = None

        async def end() -> Session | None:
            nonlocal failure
            try:
                return await aend_session(
                    self._node, self._alias, fingerprint, reason="max_age", by="maximum age"
                )
            except StoreUnavailable as error:
                failure = error
                raise

        ended = None
        with contextlib.suppress(StoreUnavailable):
            ended = await retry_while_unavailable(end)
        if ended is None:
            if failure is not None:
                # The first attempt may have ended it although its reply was lost.
                logger.warning("Session %.12s expired, perhaps without a signal: %s", fingerprint, failure)
            # Another node ended it, or nobody can: what is open of it here closes all the same.
            self._node.notify(self._node.id, SessionsEnded(fingerprints=(fingerprint,)))


def _log(fingerprints: Sequence[str], reason: EndReason, by: str) -> None:
    for fingerprint in fingerprints:
        logger.info("Session %.12s ended: %s, by %r.", fingerprint, reason, by)
