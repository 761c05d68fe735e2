"""How an operator ends a session: the one place that tells everybody else."""

from mcp_sessions.messages import ring_all
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.sessions import EndReason
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.store.session import Session


def end_session(alias: str, fingerprint: str, *, reason: EndReason = "expired_by_operator") -> Session | None:
    """End anybody's session, close its open streams on every process, and send `session_ended`.

    When this returns, every process answers 404; open streams close within a second. None if there was no such session
    any more; of several concurrent calls exactly one gets the session, and sends the signal. A receiver that raises is
    logged and stops nothing.

    Raises: StoreUnavailable; then nothing is known to have ended.
    """
    session = sync_store_for(alias).run(sessions.end(fingerprint, principal=None, reason=reason))
    if session is not None:
        ring_all({"t": "ended", "s": fingerprint}, endpoint=alias)
        session_ended.send_robust(sender=Session, fingerprint=fingerprint, alias=alias, reason=reason)
    return session
