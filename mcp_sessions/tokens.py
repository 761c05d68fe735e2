"""Personal access tokens from code: make one, and revoke one for every process at once."""

from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.authentication.models import DEFAULT_LIFETIME, PREFIX_CHARS, PersonalToken, create_token
from mcp_sessions.conf import endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.store.calls.queries import Query

__all__ = ["DEFAULT_LIFETIME", "PREFIX_CHARS", "PersonalToken", "create_token", "revoke_token"]


def revoke_token(token: PersonalToken, *, by: str = "code") -> int:
    """Refuse a token from now on, on every process; the open streams of its clients end within two seconds.

    Where REVOKE_ENDS_SESSIONS is set, the sessions end that were opened with it; returns how many. `by` is who revokes
    it, for the log and the audit.

    Raises: StoreUnavailable; then the token is revoked, and some of its sessions may go on until this is called again.
    """
    if token.revoked is None:
        token.revoked = timezone.now()
        token.save(update_fields=["revoked"])
    ended, failure = 0, None
    for alias in [alias for alias in conf.aliases() if endpoint(alias).revoke_ends_sessions]:
        try:
            opened = _opened_with(token, alias)
            if opened:
                query = SessionQuery(aliases=(alias,), matches=(Picked(fingerprints=tuple(opened)),))
                job = driving.begin(snapshot(query), by=by, action="revoke-token", reason=token.credential)
                ended += driving.drive(job).ended
        except StoreUnavailable as error:  # which is no reason to leave those at other endpoints
            failure = error
    if failure is not None:
        raise failure
    return ended


def _opened_with(token: PersonalToken, alias: str) -> list[str]:
    """The fingerprints of the sessions at an endpoint that were opened with a token."""
    mine = SessionQuery(
        aliases=(alias,), kinds=("session",), filters=Query(principal=f"user:{token.user_id}")
    )
    return [
        row.session.fingerprint
        for page in mine.pages()
        for row in page.rows
        if row.session.name == token.credential
    ]
