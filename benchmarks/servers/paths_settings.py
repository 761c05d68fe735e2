"""As `ours_settings`, with the tools whose paths `benchmarks.paths` counts."""

from benchmarks.servers.ours_settings import *  # noqa: F403

MCP_SESSIONS = {"default": {"SERVER": "benchmarks.servers.paths.server"}}
