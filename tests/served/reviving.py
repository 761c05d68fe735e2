"""`everything`, with tools that ask whether their session was revived. Each revival is printed."""

from typing import Any

from mcp_sessions import current_session
from mcp_sessions.signals import session_revived
from tests.served.everything import server

__all__ = ["server"]


@server.tool()
async def settle() -> list[bool]:
    """Whether the session was revived: before and after the tool has settled it."""
    session = current_session()
    before = session.revived
    await session.settle()
    return [before, session.revived]


@server.tool()
def settle_in_a_thread() -> list[bool]:
    session = current_session()
    before = session.revived
    session.settle_sync()
    return [before, session.revived]


def _print(session: Any, **_: Any) -> None:
    print(f"revived {session.fingerprint}", flush=True)  # noqa: T201 - the tests read it in the process's log


session_revived.connect(_print, weak=False)
