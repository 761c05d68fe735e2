"""What a tool, resource or prompt sees of the user it runs for, in both eras."""

from dataclasses import replace
from typing import Any, Final

from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions.conf.rules import LONGEST
from mcp_sessions.current import CurrentRequest, current_request
from mcp_sessions.errors import NoCurrentUser
from mcp_sessions.implicit import ImplicitRecord
from mcp_sessions.records import has_subject, record_fingerprint
from mcp_sessions.state import State, SyncState

__all__ = ["CurrentUser", "current_user"]

_MAX_AGE_MS: Final = round(LONGEST.total_seconds() * 1000)


class _NoUserHere(NoCurrentUser, ToolError, ResourceError):
    """The SDK sends the text of these errors to the client, so that its user can read what is missing."""


def current_user() -> "CurrentUser":
    """The user whose request is being handled, in async handlers and in sync ones, with or without a session.

    Raises: NoCurrentUser outside a handler, and for clients without a subject: anonymous ones, and OAuth clients that
    act for themselves.
    """
    request = current_request.get(None)
    if request is None:
        raise _NoUserHere("There is no user here. current_user() works inside tools, resources and prompts.")
    if not has_subject(request.principal):
        raise _NoUserHere("There is no user here. This tool needs a client that is signed in as a user.")
    return CurrentUser(request)


class CurrentUser:
    """One user, as a handler sees it. The state is the same in all sessions, clients and processes."""

    def __init__(self, request: CurrentRequest) -> None:
        self._request = request

    def __repr__(self) -> str:
        return f"<CurrentUser {self.principal}>"

    @property
    def principal(self) -> str:
        """`user:<pk>`, or `oauth:["<issuer>","<subject>"]`."""
        return self._request.principal

    @property
    def user(self) -> Any:
        """Django's user: whom authentication has found, or whom SUBJECT_TO_USER gives for the subject of a token.

        None if a subject has no active user. A user who must be looked for is loaded here, once for a request.

        Raises: SynchronousOnlyOperation in async code, if the user is not loaded yet: use `auser()` there.
        """
        return self._request.identity.find_user(self._request.conf)

    async def auser(self) -> Any:
        """The same as `user`, for async code."""
        return await self._request.identity.afind_user(self._request.conf)

    @property
    def state(self) -> State:
        """The user's state, for async handlers. It is made on the first write, and ends USER_STATE_TTL after its last
        use, 365 days after it was made, or when an operator ends it.
        """
        conf, principal = self._request.conf, self.principal
        fingerprint = record_fingerprint("user", principal)
        idle_ms = round(conf.user_state_ttl * 1000)
        limits = replace(
            conf.limits,
            idle_ms=idle_ms,
            max_age_ms=_MAX_AGE_MS,
            first_ms=idle_ms,
            max_sessions=None,
            max_sessions_per_principal=None,
        )
        record = ImplicitRecord(
            self._request.store,
            fingerprint,
            principal=principal,
            alias=conf.alias,
            limits=limits,
            handshake=lambda: self._request.handshake.for_record("user"),
        )
        return State(record, fingerprint, max_bytes=conf.state_max_bytes)

    @property
    def state_sync(self) -> SyncState:
        """The user's state, for sync handlers, which run in worker threads."""
        return SyncState(self.state)
