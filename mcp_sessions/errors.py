"""The errors of mcp_sessions. The docstring of each says when it is raised."""

from collections.abc import Iterable


class MCPSessionsError(Exception):
    """The base of every error that mcp_sessions raises."""


class StoreUnavailable(MCPSessionsError):
    """The store did not answer: it is down, hung, loading, read-only or full. Nothing is known of the session."""


class RecordSealed(StoreUnavailable):
    """A record is encrypted with a key that is not in ENCRYPTION_KEYS."""


class NotAllEnded(StoreUnavailable):
    """The store could not be reached while several sessions were being ended. `ended` has those that did end."""

    def __init__(self, ended: Iterable[str]) -> None:
        super().__init__("The store could not be reached for all of the sessions.")
        #: Fingerprints.
        self.ended = frozenset(ended)


class JobCannotGoOn(MCPSessionsError):
    """A job is of an endpoint that MCP_SESSIONS does not have, or of a newer release: this process cannot drive it."""


class SessionGone(MCPSessionsError):
    """The session is unknown, expired or ended, or belongs to somebody else; the caller cannot tell which."""


class TooManySessions(MCPSessionsError):
    """A cap on open sessions is reached: MAX_SESSIONS or MAX_SESSIONS_PER_PRINCIPAL.

    Records that are no sessions have caps of their own.
    """

    def __init__(self, *, per_principal: bool) -> None:
        #: The setting, for sessions.
        self.setting = "MAX_SESSIONS_PER_PRINCIPAL" if per_principal else "MAX_SESSIONS"
        super().__init__(f"{self.setting} is reached")
        self.per_principal = per_principal


class UnsupportedLookup(MCPSessionsError):
    """Sessions cannot be listed this way: no index serves the filter or the order."""


class StateError(MCPSessionsError):
    """Session state refused a value: it is not JSON, too large, or not of the type that the operation needs."""


class StateTooLarge(StateError):
    """The session's state would exceed STATE_MAX_BYTES."""


class NoCurrentRequest(MCPSessionsError):
    """There is no request: handles can be used inside tools, resources and prompts."""


class NoCurrentUser(MCPSessionsError):
    """There is no user: outside a request, or in one of a client without a subject (anonymous, client credentials)."""


class HandleError(MCPSessionsError):
    """A state handle cannot be used: it is mistyped, unknown, expired, ended or full, there are too many, or the store
    is away. The text is for the model, and reaches it as a tool error.
    """


class NoCurrentSession(MCPSessionsError):
    """There is no session: outside a request, or in a request of the modern era, which has none."""


class CredentialsRefused(MCPSessionsError):
    """A client showed credentials that are not good: unknown, expired, revoked, or meant for somebody else.

    Its text is sent to the client; it is plain ASCII, without quotes, and says nothing of other users.
    """


class AuthenticationUnavailable(MCPSessionsError):
    """Nobody can tell now whether credentials are good: the database or the identity provider does not answer."""
