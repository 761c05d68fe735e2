"""This app, as its documentation sets it up: with the line that mends the `daphne` command."""

from benchmarks.servers.ours_unmended import application
from mcp_sessions.startup import mend_daphne

mend_daphne()

__all__ = ["application"]
