"""System checks: one function for each id. docs/checks.md, to which each message links, says what to do.

Importing this package registers them with the tag "mcp_sessions".
"""

from mcp_sessions.checks import applications, servers, settings, stores
from mcp_sessions.checks.common import TAG

__all__ = ["TAG", "applications", "servers", "settings", "stores"]
