"""Which session a request belongs to, and why it is refused if it belongs to none."""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from mcp_sessions import counting, ids
from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf.rates import REQUESTS
from mcp_sessions.conf.rules import REVIVE, SERVE
from mcp_sessions.errors import SessionGone, StoreUnavailable, TooManySessions
from mcp_sessions.http import events
from mcp_sessions.ids import SignedId
from mcp_sessions.records import Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.signals import session_revived
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import revival, sessions
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import rejections
from mcp_sessions.transport.asgi import Scope
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)

_refused: Final = Repeats(logger, "Sessions that were not revived at a cap")


class Counts(NamedTuple):
    """What a request counts as in RATE_LIMITS."""

    whats: Sequence[str]
    address: str | None


async def touch(
    runtime: Runtime,
    header: bytes | None,
    identity: Identity,
    *,
    call: str,
    initialized: bool = False,
    counts: Counts | None = None,
) -> Session | Rejection:
    """The session of a request, slid and counted, by its `Mcp-Session-Id`. Raises: StoreUnavailable.

    `counts` is given where there are RATE_LIMITS.
    """
    context, principal = runtime.context, identity.principal
    session_id = identified(context, header, principal)
    if isinstance(session_id, Rejection):
        if counts is None:
            return session_id
        return await runtime.limits.refusal(counts.whats, Who(principal, None, counts.address)) or session_id
    touching = sessions.touch(
        session_id.fingerprint,
        principal=principal,
        limits=context.conf().limits,
        call=call,
        initialized=initialized,
    )
    found: Session | Rejection | None
    try:
        if counts is None:
            found = await context.store.run(touching)
        else:
            found = await _within_limits(
                runtime, touching, counts, Who(principal, session_id.fingerprint, counts.address)
            )
    except StoreUnavailable as error:
        found = _served(runtime, session_id, principal, error)
    found = found or await _missed(runtime, session_id, identity, call)
    if runtime.blocks.any and isinstance(found, Session) and _is_blocked(runtime, found):
        return rejections.BLOCKED
    return found


async def refusal(
    runtime: Runtime, header: bytes | None, identity: Identity, scope: Scope
) -> Rejection | None:
    """Why a request is refused whose session nobody has touched yet, and whose body nobody has parsed. Raises:
    StoreUnavailable.

    Of RATE_LIMITS, those count that this process has found reached; no token is taken.
    """
    session_id, conf = identified(runtime.context, header, identity.principal), runtime.context.conf()
    if isinstance(session_id, Rejection):
        return session_id
    if conf.rates:
        who = Who(identity.principal, session_id.fingerprint, client_address(scope, conf.trusted_proxies))
        if isinstance(known := runtime.limits.calls((REQUESTS,), who), Rejection):
            return known
    found: Session | Rejection | None
    try:
        found = await runtime.context.store.run(sessions.get(session_id.fingerprint))
    except StoreUnavailable as error:
        found = _served(runtime, session_id, identity.principal, error)
    found = found or await _missed(runtime, session_id, identity, "")
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


async def _within_limits(
    runtime: Runtime, touching: Call[Session | None], counts: Counts, who: Who
) -> Session | Rejection | None:
    """Touch a session, and take tokens for the request in the same round trip. Raises: StoreUnavailable.

    Where the buckets cannot be asked and the session can, the request goes on.
    """
    calls = runtime.limits.calls(counts.whats, who)
    if isinstance(calls, Rejection):
        return calls
    session, *verdicts = await runtime.context.store.run_all([touching, *calls])
    found: Session | None = session
    return runtime.limits.judge(verdicts) or found


def _is_blocked(runtime: Runtime, session: Session) -> bool:
    """Whether the name is blocked that the client of a session calls itself."""
    return runtime.blocks.refuse(Asker(client=session.handshake.client_name))


def _served(
    runtime: Runtime, session_id: SignedId, principal: str, error: StoreUnavailable
) -> Session | Rejection:
    """What a verified id gets while the store cannot be asked. Raises: the error, if that is 503."""
    return runtime.outage.serve(session_id, principal, error) or not_found(session_id.fingerprint)


async def _missed(
    runtime: Runtime, session_id: SignedId, identity: Identity, call: str
) -> Session | Rejection:
    """What a verified id gets that has no record: its session, opened again, if ON_MISS says so and it did not end.
    The credential that opens it again counts as the one it was opened with.

    That is also so for one that was opened while the store was away, by a process that may not have recorded it; but
    only with ON_STORE_DOWN = "serve": otherwise its end is not remembered for so long.
    """
    context, conf = runtime.context, runtime.context.conf()
    age_ms = context.node.validity.now_ms() - session_id.created_ms
    may_lack_record = conf.on_store_down == SERVE and age_ms < conf.limits.idle_ms and session_id.unwritten
    opens = conf.on_miss == REVIVE or may_lack_record
    handshake = session_id.handshake if opens else None
    if handshake is None:
        return not_found(session_id.fingerprint)
    reviving = revival.revive(
        session_id,
        principal=identity.principal,
        handshake=handshake.opened_with(identity.credential),
        limits=conf.limits,
        call=call,
    )
    try:
        found = await context.store.run(reviving)
    except TooManySessions as error:
        _refused.add("Did not revive a session of endpoint %r: %s", conf.alias, error)
        counting.count_refused_session(conf.alias, error.setting)
        return rejections.TOO_MANY_SESSIONS
    except StoreUnavailable as error:
        if not session_id.unwritten:
            raise  # the store has said that there is no such session, and it may have ended
        return _served(runtime, session_id, identity.principal, error)
    if found is None:
        return not_found(session_id.fingerprint)
    if found.opened:
        session = found.session
        text = "Session %.12s was revived for %s."
        events.tell(logger, text, event="revived", alias=conf.alias, session=session)
        await session_revived.asend_robust(sender=Session, alias=conf.alias, session=session)
    return found.session
