"""Which session a request belongs to, and why it is refused if it belongs to none."""

import logging

from mcp_sessions import ids
from mcp_sessions.errors import SessionGone
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Session
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import rejections
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)


async def touch(
    context: Context, header: bytes | None, *, principal: str, call: str, initialized: bool = False
) -> Session | Rejection:
    """The session of a request, slid and counted, by its `Mcp-Session-Id`. Raises: StoreUnavailable."""
    session_id = identified(context, header, principal)
    if isinstance(session_id, Rejection):
        return session_id
    touching = sessions.touch(
        session_id.fingerprint,
        principal=principal,
        limits=context.conf().limits,
        call=call,
        initialized=initialized,
    )
    return await context.store.run(touching) or not_found(session_id.fingerprint)


async def refusal(context: Context, header: bytes | None, *, principal: str) -> Rejection | None:
    """Why a request is refused whose session nobody has touched yet. Raises: StoreUnavailable."""
    session_id = identified(context, header, principal)
    if isinstance(session_id, Rejection):
        return session_id
    session = await context.store.run(sessions.get(session_id.fingerprint))
    return not_found(session_id.fingerprint) if session is None else None


def identified(context: Context, header: bytes | None, principal: str) -> SignedId | Rejection:
    """The session id in a header. Where it was never given to this principal, no store is asked for it."""
    if header is None:
        return rejections.NO_SESSION_ID
    try:
        return ids.verify(header.decode("latin-1"), principal, context.conf().namespace)
    except SessionGone:
        return not_found("(not ours)")


def not_found(digest: str) -> Rejection:
    """A client that reads 404 must initialize again (Session Management, rule 4)."""
    logger.info("Session %.12s is unknown, over, or another principal's: answered 404.", digest)
    return rejections.SESSION_NOT_FOUND
