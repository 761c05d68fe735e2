"""The request that ends a session."""

import asyncio
import logging
from typing import Final

from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.ending import aend_session
from mcp_sessions.ids import SignedId
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.store.calls import revival
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: Seconds that the answer waits for slow readers of the session's streams.
CLOSE_SECONDS: Final = 1.0


async def end(runtime: Runtime, session_id: SignedId, principal: str) -> bool:
    """Session Management, rule 5: a client ends its session. False if it has no such session.

    When this returns, the session's GET streams in this process are closed: a client that has its answer need not ask
    itself what still comes on them. Raises: StoreUnavailable.
    """
    fingerprint = session_id.fingerprint
    streams = [reader.event_stream for reader in runtime.open_streams.of(fingerprint)]
    node, alias = runtime.context.node, runtime.context.conf().alias
    ended = await aend_session(
        node, alias, fingerprint, reason="deleted", by=principal, principal=principal, spawn=runtime.spawn
    )
    if ended is None:
        outcome = await _bury(runtime.context, session_id)
        if outcome == "revived":
            return await end(runtime, session_id, principal)
        return outcome == "buried"
    if streams:
        await asyncio.wait([stream.gone() for stream in streams], timeout=CLOSE_SECONDS)
    return True


async def _bury(context: Context, session_id: SignedId) -> str:
    """End a session whose record is gone, but whose id could open it again. Nothing of it is left to be signalled.

    Returns "buried" if that was done, and "revived" if a request has opened it meanwhile.
    """
    if context.conf().on_miss != "revive" or session_id.handshake is None:
        return "gone"
    outcome = await context.store.run(revival.bury(session_id, reason="deleted"))
    if outcome == "buried":
        logger.info("Session %.12s ended: deleted, after its record was gone.", session_id.fingerprint)
        await context.node.notify_others(SessionsEnded(fingerprints=(session_id.fingerprint,)))
    return outcome
