"""The chaos server in processes that beat often, and soon take others for dead and the store for gone: `server`."""

from typing import Any

from mcp_sessions import repeats
from mcp_sessions.cluster import node
from mcp_sessions.serving import heartbeat
from mcp_sessions.streams import orphans, retry
from tests.served.chaos import server

__all__ = ["server"]

#: Seconds, each a fraction of what it is otherwise.
IMPATIENCE: dict[Any, dict[str, float]] = {
    heartbeat: {"HEARTBEAT_SECONDS": 0.5},
    node: {"DEAD_AFTER_SECONDS": 3.0, "GAP_SECONDS": 2.0},
    orphans: {"DEAD_AFTER_SECONDS": 3.0, "GAP_SECONDS": 2.0},
    repeats: {"QUIET_SECONDS": 3.0},
    retry: {"GIVE_UP_SECONDS": 1.0},
}
for module, constants in IMPATIENCE.items():
    for name, seconds in constants.items():
        setattr(module, name, seconds)
