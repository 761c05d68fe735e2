"""Personal access tokens from code: make one, and revoke one for every process at once."""

from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.authentication.models import DEFAULT_LIFETIME, PREFIX_CHARS, PersonalToken, create_token
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import end_sessions
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.store.calls.queries import Query

__all__ = ["DEFAULT_LIFETIME", "PREFIX_CHARS", "PersonalToken", "create_token", "revoke_token"]


def revoke_token(token: PersonalToken, *, by: str = "code") -> int:
    """Refuse a token from now on, on every process; the open streams of its clients end within two seconds.

    Where REVOKE_ENDS_SESSIONS is set, the sessions end that were opened with it; returns how many. `by` is who revokes
    it, for the log.

    Raises: StoreUnavailable; then the token is revoked, and some of its sessions may go on.
    """
    if token.revoked is None:
        token.revoked = timezone.now()
        token.save(update_fields=["revoked"])
    return sum(
        len(end_sessions(alias, _opened_with(token, alias), by=by))
        for alias in conf.aliases()
        if endpoint(alias).revoke_ends_sessions
    )


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
