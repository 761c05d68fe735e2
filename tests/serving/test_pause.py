"""How often a process looks after what it keeps."""

import pytest
from django.conf import LazySettings

from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.serving.heartbeat import seconds_between


@pytest.mark.parametrize(
    ("values", "seconds"),
    [({}, HEARTBEAT_SECONDS), ({"IDLE_TTL": 3}, 1), ({"IDLE_TTL": 1.5}, 0.5), ({"STREAM_TTL": 1.5}, 0.5)],
)
def test_several_heartbeats_fit_into_whatever_they_keep(
    settings: LazySettings, values: dict[str, float], seconds: float
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server", **values}}
    assert seconds_between("default") == seconds
