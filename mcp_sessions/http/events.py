"""Lines about sessions, with fields for formatters that write JSON. `docs/metrics.md` has the events."""

import logging

from mcp_sessions.records import Session, shown


def log(logger: logging.Logger, text: str, *, event: str, alias: str, session: Session) -> None:
    """Log what happened to a session, at INFO. `text` takes its fingerprint and the name of its client."""
    client = shown(session.handshake.client_name)
    facts = {"event": event, "endpoint": alias, "fingerprint": session.fingerprint, "client": client}
    logger.info(text, session.fingerprint, client, extra=facts)
