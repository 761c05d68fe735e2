"""System checks: one function for each id. docs/checks.md says what to do about each of them.

Importing this package registers them with the tag "mcp_sessions".
"""

from mcp_sessions.checks import applications, servers, settings, stores
from mcp_sessions.checks.common import DOCS, TAG

__all__ = ["DOCS", "TAG", "applications", "servers", "settings", "stores"]
