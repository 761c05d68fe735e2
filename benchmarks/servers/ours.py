"""This app, as its documentation sets it up: with the line that patches the `daphne` command."""

from benchmarks.servers.ours_unpatched import application
from mcp_sessions.startup import patch_daphne

patch_daphne()

__all__ = ["application"]
