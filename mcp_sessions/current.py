"""Which exchange the running code belongs to. Apart from `exchange` so that both sides can import it."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_sessions.serving.exchange import Exchange

#: Set in the task that runs a handler, and so in the worker threads of sync handlers.
current_exchange: ContextVar["Exchange"] = ContextVar("mcp_sessions_current_exchange")
