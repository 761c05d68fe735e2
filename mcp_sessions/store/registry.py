"""Which store an endpoint uses: one per process and endpoint, made on first use."""

from mcp_sessions.store.base import SessionDirectory, SessionStore


def store_for(alias: str) -> SessionStore:
    """The async store of an endpoint of MCP_SESSIONS: Redis if its CACHE is a django-redis alias, else memory."""
    raise NotImplementedError(alias)


def directory_for(alias: str) -> SessionDirectory:
    """The sync face of the same sessions."""
    raise NotImplementedError(alias)
