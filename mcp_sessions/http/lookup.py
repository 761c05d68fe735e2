"""Which session a request belongs to, and why it is refused if it belongs to none."""

import logging
from typing import Final

from mcp_sessions import counting, ids
from mcp_sessions.conf.rules import REVIVE
from mcp_sessions.errors import SessionGone, StoreUnavailable, TooManySessions
from mcp_sessions.http import events
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.signals import session_revived
from mcp_sessions.store.calls import revival, sessions
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import rejections
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)

_refused: Final = Repeats(logger, "Sessions that were not revived at a cap")


async def touch(
    runtime: Runtime, header: bytes | None, *, principal: str, call: str, initialized: bool = False
) -> Session | Rejection:
    """The session of a request, slid and counted, by its `Mcp-Session-Id`. Raises: StoreUnavailable."""
    context = runtime.context
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
    try:
        session = await context.store.run(touching)
    except StoreUnavailable as error:
        return _served(runtime, session_id, principal, error)
    return session or await _missed(runtime, session_id, principal, call)


async def refusal(runtime: Runtime, header: bytes | None, *, principal: str) -> Rejection | None:
    """Why a request is refused whose session nobody has touched yet. Raises: StoreUnavailable."""
    session_id = identified(runtime.context, header, principal)
    if isinstance(session_id, Rejection):
        return session_id
    found: Session | Rejection | None
    try:
        found = await runtime.context.store.run(sessions.get(session_id.fingerprint))
    except StoreUnavailable as error:
        found = _served(runtime, session_id, principal, error)
    found = found or await _missed(runtime, session_id, principal, "")
    return found if isinstance(found, Rejection) else None


def identified(context: Context, header: bytes | None, principal: str) -> SignedId | Rejection:
    """The session id in a header. Where it was never given to this principal, no store is asked for it."""
    if header is None:
        return rejections.NO_SESSION_ID
    conf, validity = context.conf(), context.node.validity
    try:
        session_id = ids.verify(header.decode("latin-1"), principal, conf.namespace)
    except SessionGone:
        return not_found("(not ours)")
    if (conf.min_created_ms or validity.min_created_ms) and not validity.counts(
        session_id.created_ms, setting_ms=conf.min_created_ms
    ):
        return not_found(session_id.fingerprint)
    return session_id


def not_found(digest: str) -> Rejection:
    """A client that reads 404 must initialize again (Session Management, rule 4)."""
    logger.info("Session %.12s is unknown, over, or another principal's: answered 404.", digest)
    return rejections.SESSION_NOT_FOUND


def _served(
    runtime: Runtime, session_id: SignedId, principal: str, error: StoreUnavailable
) -> Session | Rejection:
    """What a verified id gets while the store cannot be asked. Raises: the error, if that is 503."""
    return runtime.outage.serve(session_id, principal, error) or not_found(session_id.fingerprint)


async def _missed(runtime: Runtime, session_id: SignedId, principal: str, call: str) -> Session | Rejection:
    """What a verified id gets that has no record: its session, opened again, if ON_MISS says so and it did not end.

    That is also so for one that was opened while the store was away, by a process that may not have recorded it.
    """
    context, conf = runtime.context, runtime.context.conf()
    age_ms = context.node.validity.now_ms() - session_id.created_ms
    opens = conf.on_miss == REVIVE or (age_ms < conf.limits.idle_ms and session_id.unwritten)
    handshake = session_id.handshake if opens else None
    if handshake is None:
        return not_found(session_id.fingerprint)
    reviving = revival.revive(
        session_id, principal=principal, handshake=handshake, limits=conf.limits, call=call
    )
    try:
        found = await context.store.run(reviving)
    except TooManySessions as error:
        _refused.add("Did not revive a session of endpoint %r: %s", conf.alias, error)
        counting.count(conf.alias, "sessions_refused")
        return rejections.TOO_MANY_SESSIONS
    except StoreUnavailable as error:
        if not session_id.unwritten:
            raise  # the store has said that there is no such session, and it may have ended
        return _served(runtime, session_id, principal, error)
    if found is None:
        return not_found(session_id.fingerprint)
    if found.opened:
        session = found.session
        text = "Session %.12s was revived for %s."
        events.tell(logger, text, event="revived", alias=conf.alias, session=session)
        await session_revived.asend_robust(sender=Session, alias=conf.alias, session=session)
    return found.session
