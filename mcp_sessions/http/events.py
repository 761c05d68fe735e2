"""Fields of log records, for formatters that write JSON. `docs/metrics.md` has the events."""

from mcp_sessions.records import Session


def event(name: str, alias: str, session: Session, client: str) -> dict[str, str]:
    """What a line about a session says, as fields. `client` is its name as it may be shown."""
    return {"event": name, "endpoint": alias, "fingerprint": session.fingerprint, "client": client}
