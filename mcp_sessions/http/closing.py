"""The request that ends a session."""

import asyncio
import logging
from typing import Final

from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.conf.rules import REVIVE
from mcp_sessions.ending import aend_session
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import lookup
from mcp_sessions.http.responses import reject, respond
from mcp_sessions.ids import SignedId
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.store.calls import revival
from mcp_sessions.streams.context import Context
from mcp_sessions.transport.asgi import Send
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)

#: Seconds that the answer waits for slow readers of the session's streams.
CLOSE_SECONDS: Final = 1.0


async def delete(runtime: Runtime, header: bytes | None, principal: str, send: Send) -> None:
    """Answer a DELETE by its `Mcp-Session-Id`. Raises: StoreUnavailable."""
    session_id = lookup.identified(runtime.context, header, principal)
    if isinstance(session_id, Rejection):
        await reject(send, session_id)
    elif await _end(runtime, session_id, principal):
        await respond(send, 204)
    else:
        await reject(send, lookup.not_found(session_id.fingerprint))


async def _end(runtime: Runtime, session_id: SignedId, principal: str) -> bool:
    """Session Management, rule 5: a client ends its session. False if it has no such session.

    When this returns, the session's GET streams in this process are closed: a client that has its answer need not ask
    itself what still comes on them. Raises: StoreUnavailable.
    """
    fingerprint = session_id.fingerprint
    streams = [reader.event_stream for reader in runtime.open_streams.of(fingerprint)]
    node, alias = runtime.context.node, runtime.context.conf().alias
    try:
        ended = await aend_session(
            node, alias, fingerprint, reason="deleted", by=principal, principal=principal, spawn=runtime.spawn
        )
        outcome = "" if ended else await _bury(runtime.context, session_id)
    except StoreUnavailable:
        runtime.outage.end(session_id, principal)
        raise
    if ended is None:
        if outcome == "revived":
            return await _end(runtime, session_id, principal)
        return outcome == "buried"
    if streams:
        await asyncio.wait([stream.gone() for stream in streams], timeout=CLOSE_SECONDS)
    return True


async def _bury(context: Context, session_id: SignedId) -> str:
    """End a session whose record is gone, but whose id could open it again. Nothing of it is left to be signalled.

    Returns "buried" if that was done, and "revived" if a request has opened it meanwhile.
    """
    may_open = context.conf().on_miss == REVIVE or session_id.unwritten
    if not may_open or session_id.handshake is None:
        return "gone"
    outcome = await context.store.run(revival.bury(session_id, reason="deleted"))
    if outcome == "buried":
        logger.info("Session %.12s ended: deleted, after its record was gone.", session_id.fingerprint)
        ended = SessionsEnded(fingerprints=(session_id.fingerprint,))
        context.node.notify(context.node.id, ended)
        await context.node.notify_others(ended)
    return outcome
