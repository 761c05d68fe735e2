"""The errors of mcp_sessions: one small tree. The docstring of each says when it is raised."""


class MCPSessionsError(Exception):
    """The base of every error that mcp_sessions raises."""


class StoreUnavailable(MCPSessionsError):
    """The store could not be asked: it is down, hung, loading, read-only or full. Says nothing about a session."""


class SessionGone(MCPSessionsError):
    """The session is unknown, expired, ended, or somebody else's: the caller cannot tell which."""


class TooManySessions(MCPSessionsError):
    """A cap on open sessions is reached: MAX_SESSIONS or MAX_SESSIONS_PER_PRINCIPAL."""


class UnsupportedLookup(MCPSessionsError):
    """The sessions cannot be listed that way: no index serves the filter or the order."""


class StateError(MCPSessionsError):
    """Session state refused a value: not JSON, of another type than the operation needs, or too large."""


class StateTooLarge(StateError):
    """The session's state would exceed STATE_MAX_BYTES."""


class NoCurrentSession(MCPSessionsError):
    """No session here: outside a request, or inside a request of the modern era, which has none."""
