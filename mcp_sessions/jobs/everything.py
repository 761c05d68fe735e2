"""A job that ends every session of an endpoint that was opened before now."""

import logging

from mcp_sessions import audit
from mcp_sessions.audit.models import UNCONFIRMED, EndingJob
from mcp_sessions.ending import end_all_before_now
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot

logger = logging.getLogger(__name__)


def begin(alias: str, *, by: str, reason: str = "") -> EndingJob:
    """End every session of an endpoint that was opened before now, also those whose records the store has lost.

    When this returns, the store knows that their ids are over; every process knows within a second, or with its next
    heartbeat. The job then ends those that the store has, so that their streams close and their ends are recorded.

    Raises: StoreUnavailable; then the moment may be known to the store or not, and the audit says that.
    """
    query = SessionQuery(aliases=(alias,), kinds=("session",))
    try:
        moment = end_all_before_now(alias, by=by)
        taken = snapshot(query, cut_off_ms={alias: moment.min_created_ms})
    except StoreUnavailable:
        title = f"every session of {alias} that was opened before"
        audit.record(action="end-all", outcome=UNCONFIRMED, by=by, reason=reason, endpoint=alias, title=title)
        raise
    return driving.begin(taken, by=by, reason=reason, action="end-all")
