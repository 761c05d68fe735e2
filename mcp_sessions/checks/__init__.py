"""System checks: one function and one id each. docs/checks.md says what to do about each.

Importing this package registers them under the tag "mcp_sessions".
"""

from mcp_sessions.checks import servers, settings, stores
from mcp_sessions.checks.common import DOCS, TAG

__all__ = ["DOCS", "TAG", "servers", "settings", "stores"]
