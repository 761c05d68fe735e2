"""Which session a request belongs to, and why it is refused if it belongs to none."""

import logging

from mcp_sessions.records import Session, fingerprint
from mcp_sessions.store.calls import sessions
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import rejections
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)


async def touch(
    context: Context, header: bytes | None, *, principal: str, call: str, initialized: bool = False
) -> Session | Rejection:
    """The session of a request, slid and counted, by its `Mcp-Session-Id`. Raises: StoreUnavailable."""
    digest = identified(header)
    if isinstance(digest, Rejection):
        return digest
    touching = sessions.touch(
        digest, principal=principal, limits=context.conf().limits, call=call, initialized=initialized
    )
    return await context.store.run(touching) or not_found(digest)


async def refusal(context: Context, header: bytes | None, *, principal: str) -> Rejection | None:
    """Why a request is refused whose session nobody has touched yet. Raises: StoreUnavailable."""
    digest = identified(header)
    if isinstance(digest, Rejection):
        return digest
    session = await context.store.run(sessions.get(digest))
    return None if session is not None and session.principal == principal else not_found(digest)


def identified(header: bytes | None) -> str | Rejection:
    """The fingerprint of the session id in a header."""
    if header is None:
        return rejections.NO_SESSION_ID
    return fingerprint(header.decode("latin-1")) or not_found("malformed")


def not_found(digest: str) -> Rejection:
    """A client that reads 404 must initialize again (Session Management, rule 4)."""
    logger.info("Session %.12s is unknown, over, or another principal's: answered 404.", digest)
    return rejections.SESSION_NOT_FOUND
