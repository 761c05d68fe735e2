"""The demo's tools, through the fixtures that its users have, and the demo's own tests under Django's test runner."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from pytest_django import Settings

from mcp_sessions.testing import InProcessClient, travel
from tests.support import ROOT
from tests.support.processes import ENVIRONMENT


@pytest.fixture(autouse=True)
def in_memory(settings: Settings) -> None:
    settings.MCP_SESSIONS_TEST_REDIS = False


async def value(client: InProcessClient, tool: str, **arguments: str) -> object:
    """The result of a tool."""
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None, result.content
    return result.structured_content["result"]


@pytest.mark.parametrize("mcp_state", [{"notes": ["likes tea"], "last_book": "Emma"}])
async def test_recall_tells_what_the_session_knows(mcp_client: InProcessClient) -> None:
    assert await value(mcp_client, "recall") == ["likes tea", "Last looked at: Emma"]
    await value(mcp_client, "forget")
    assert await mcp_client.state.keys() == ["last_book"]


@pytest.mark.parametrize("mcp_era", ["handshake", "modern"])
async def test_a_reading_list_works_in_both_eras(mcp_client: InProcessClient) -> None:
    created = str(await value(mcp_client, "start_reading_list"))
    assert await value(mcp_client, "add_to_reading_list", reading_list=created, title="Emma") == 1
    assert await value(mcp_client, "show_reading_list", reading_list=created) == ["Emma"]


@pytest.mark.parametrize("mcp_era", ["modern"])
async def test_a_reading_list_expires_a_day_after_its_last_use(mcp_client: InProcessClient) -> None:
    created = str(await value(mcp_client, "start_reading_list"))
    travel(timedelta(hours=23))
    assert await value(mcp_client, "show_reading_list", reading_list=created) == []
    travel(timedelta(hours=25))
    result = await mcp_client.call_tool("show_reading_list", {"reading_list": created})
    assert "There is no such reading list, or it expired after 24 hours without use." in str(result.content)


@pytest.mark.slow
def test_the_demos_own_tests_pass_under_djangos_test_runner() -> None:
    command = [sys.executable, "manage.py", "test", "project"]
    environment = os.environ | ENVIRONMENT | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr
