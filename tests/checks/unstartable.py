"""An `asgi.py` of a project whose SERVER is wrong."""

from mcp_sessions.routing import with_mcp
from tests.checks.configurations import pages

application = with_mcp(pages)
