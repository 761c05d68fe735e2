"""MCP over Streamable HTTP for Django Channels, with every session in Redis and in the Django admin."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["OptInTools", "__version__", "current_session"]

if TYPE_CHECKING:
    from mcp_sessions.session import current_session
    from mcp_sessions.tools import OptInTools


def __getattr__(name: str) -> Any:
    """Import the public names on first use: Django imports this package before its apps are ready."""
    if name == "current_session":
        from mcp_sessions.session import current_session

        return current_session
    if name == "OptInTools":
        from mcp_sessions.tools import OptInTools

        return OptInTools
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
