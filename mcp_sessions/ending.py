"""How a session ends before it expires: one way, for its client, an operator and a shell.

Each end is a line in the log, with who and why, and the signal `session_ended`, once; every node is told, and closes
what is open of the session. Of several ends of one session at the same moment exactly one gets it.
"""

import logging
from collections.abc import Sequence
from typing import Final

from mcp_sessions.cluster import outside
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.signals import session_ended
from mcp_sessions.store.base import EndReason
from mcp_sessions.store.registry import directory_for, store_for
from mcp_sessions.store.session import Session

logger = logging.getLogger(__name__)

#: Sessions that are ended together: four round trips for so many.
BATCH: Final = 500


def end_session(
    alias: str, fingerprint: str, *, reason: EndReason = "expired_by_operator", by: str = "code"
) -> Session | None:
    """End anybody's session, close its open streams on every process, and send `session_ended`.

    `by` is who ends it, for the log. When this returns, every process answers 404; open streams close within a second.
    None if there was no such session any more; of several concurrent calls exactly one gets the session, and sends the
    signal. A receiver that raises is logged and stops nothing.

    Raises: StoreUnavailable; then nothing is known to have ended.
    """
    sessions, failure = _end(alias, [fingerprint], reason, by)
    if failure is not None:
        raise failure
    return sessions[0] if sessions else None


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
        sessions, failure = _end(alias, fingerprints[start : start + BATCH], reason, by)
        ended.update(session.fingerprint for session in sessions)
        if failure is not None:
            raise NotAllEnded(ended) from failure
    return frozenset(ended)


def _end(
    alias: str, fingerprints: Sequence[str], reason: EndReason, by: str
) -> tuple[list[Session], StoreUnavailable | None]:
    """The sessions that ended, and why others may not have."""
    try:
        outcomes = directory_for(alias).end_many(fingerprints, reason=reason)
    except StoreUnavailable as error:
        return [], error
    sessions = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    if sessions:
        ended = tuple(session.fingerprint for session in sessions)
        _log(ended, reason, by)
        outside.notify_all(alias, SessionsEnded(fingerprints=ended))
        for fingerprint in ended:
            session_ended.send_robust(sender=Session, fingerprint=fingerprint, alias=alias, reason=reason)
    return sessions, failures[0] if failures else None


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
    store = store_for(alias)
    session = await store.end(fingerprint, principal=principal, reason=reason)
    if session is not None:
        _log((fingerprint,), reason, by)
        await node.notify_all(SessionsEnded(fingerprints=(fingerprint,)))
        await session_ended.asend_robust(sender=Session, fingerprint=fingerprint, alias=alias, reason=reason)
    return session


def _log(fingerprints: Sequence[str], reason: EndReason, by: str) -> None:
    for fingerprint in fingerprints:
        logger.info("Session %.12s ended: %s, by %r.", fingerprint, reason, by)
