"""A session as Redis holds it, and back. Pure.

The record is four lines of ASCII: the format version with numbers and flags, the last call, the principal, the
handshake as JSON. `lua/_record.lua` writes and reads the same.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from mcp_sessions.store.session import Session, parse_handshake

log = logging.getLogger("mcp_sessions.store")

CALL_LENGTH: Final = 128
LOG_LEVEL_FIELD: Final = "level"
TOOL_FIELD_PREFIX: Final = "tool:"
_NO_TOOLS: Final[frozenset[str]] = frozenset()


def clean_call(call: str) -> str:
    """The last call as it is kept: one line of at most 128 printable ASCII characters."""
    if len(call) <= CALL_LENGTH and call.isascii() and call.isprintable():
        return call
    return ascii(call[:CALL_LENGTH])[1:-1][:CALL_LENGTH]


@lru_cache(maxsize=4096)
def escape(principal: str) -> str:
    """A principal as one line of ASCII; different principals stay different."""
    return principal.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=4096)
def unescape(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


def parse_session(fingerprint: str, reply: Any) -> Session | None:
    """The session of a script's reply; None for no session, and for one that cannot be read, which is logged."""
    if not is_readable(fingerprint, reply):
        return None
    try:
        return _parse(fingerprint, reply)
    except ValueError:
        warn_unreadable(fingerprint, reply[0])
        return None


def is_readable(fingerprint: str, reply: Any) -> bool:
    """Whether a script found a session, and could read it; that it could not is logged."""
    if reply is not None and type(reply) is not list:
        warn_unreadable(fingerprint, reply)
        return False
    return reply is not None


def _parse(fingerprint: str, reply: Sequence[Any]) -> Session:
    numbers, call, principal, handshake = reply[0].decode("ascii").split("\n")
    _, created, deadline, last, expires, _, requests, flags = numbers.split(" ")
    created_ms = int(created)
    level, tools = parse_features(reply[2]) if len(reply) > 2 else (None, _NO_TOOLS)
    return Session(
        fingerprint=fingerprint,
        handshake=parse_handshake(handshake),
        principal=unescape(principal),
        created_ms=created_ms,
        deadline_ms=created_ms + int(deadline),
        last_activity_ms=created_ms + int(last),
        expires_ms=created_ms + int(expires),
        active="a" in flags,
        initialized="i" in flags,
        requests=int(requests),
        last_call=call,
        log_level=level,
        tools=tools,
    )


def parse_features(fields: Sequence[bytes]) -> tuple[str | None, frozenset[str]]:
    """The log level and the enabled tools of a flat list of fields and values."""
    level = None
    tools = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        field = name.decode()
        if field == LOG_LEVEL_FIELD:
            level = value.decode()
        elif field.startswith(TOOL_FIELD_PREFIX):
            tools.append(field.removeprefix(TOOL_FIELD_PREFIX))
    return level, frozenset(tools)


def warn_unreadable(fingerprint: str, text: bytes | Exception) -> None:
    """Log a record that is corrupt, or of a format version that this release does not know. It is left alone."""
    version = text.split(b" ", 1)[0][:8] if isinstance(text, bytes) else type(text).__name__
    log.warning("Session %s is unreadable (format %r); it is treated as gone.", fingerprint[:12], version)
