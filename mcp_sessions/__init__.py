"""MCP over Streamable HTTP for Django Channels, with every session in Redis and in the Django admin."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0rc1"

__all__ = ["OptInTools", "RestrictedTools", "StateHandle", "__version__", "current_session", "current_user"]

if TYPE_CHECKING:
    from mcp_sessions.handles.handle import StateHandle
    from mcp_sessions.session import current_session
    from mcp_sessions.tools import OptInTools, RestrictedTools
    from mcp_sessions.users import current_user

_MODULES = {
    "OptInTools": "mcp_sessions.tools",
    "RestrictedTools": "mcp_sessions.tools",
    "StateHandle": "mcp_sessions.handles.handle",
    "current_session": "mcp_sessions.session",
    "current_user": "mcp_sessions.users",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: Django imports this package before its apps are ready."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
