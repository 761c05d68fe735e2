"""A job that ends every session of an endpoint that was opened before now."""

import logging

from mcp_sessions.audit.models import EndingJob
from mcp_sessions.ending import end_all_before_now
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot

logger = logging.getLogger(__name__)


def begin(alias: str, *, by: str, reason: str = "") -> EndingJob:
    """End every session of an endpoint that was opened before now, also those whose records the store has lost.

    When this returns, the store knows that their ids are over; every process knows within a second, or with its next
    heartbeat. The job then ends those that the store has, so that their streams close and their ends are recorded.

    Raises: StoreUnavailable; then the moment may be known to the store or not.
    """
    moment = end_all_before_now(alias, by=by)
    query = SessionQuery(aliases=(alias,), kinds=("session",))
    taken = snapshot(query, cut_off_ms={alias: moment.min_created_ms})
    return driving.begin(taken, by=by, reason=reason, action="end-all")
