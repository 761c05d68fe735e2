"""What happens to sessions: counted, and logged with fields for formatters that write JSON (docs/metrics.md)."""

import logging
from typing import Literal

from mcp_sessions import counting
from mcp_sessions.records import Session, shown


def tell(
    logger: logging.Logger, text: str, *, event: Literal["opened", "revived"], alias: str, session: Session
) -> None:
    """Count that, and log it at INFO. `text` takes the fingerprint and the name of the client."""
    counting.count(alias, f"sessions_{event}")
    client = shown(session.handshake.client_name)
    facts = {
        "event": f"session.{event}",
        "endpoint": alias,
        "fingerprint": session.fingerprint,
        "client": client,
    }
    logger.info(text, session.fingerprint, client, extra=facts)
