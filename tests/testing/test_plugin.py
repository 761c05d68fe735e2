"""The fixtures that pytest finds by itself: what they give, and what they do without."""

import importlib.util
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from mcp_sessions import pytest_plugin
from mcp_sessions.testing import InProcessClient
from tests.support.asgi import demo_with


def imported_again() -> ModuleType:
    """The plugin as pytest imports it, once more."""
    spec = importlib.util.spec_from_file_location("plugin_again", pytest_plugin.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_project_does_not_say_is_the_default(
    mcp_endpoint: str, mcp_era: str, mcp_user: Any, mcp_state: Any, mcp_options: Mapping[str, Any]
) -> None:
    assert (mcp_endpoint, mcp_era, mcp_user, mcp_state, mcp_options) == (
        "default",
        "handshake",
        None,
        None,
        {},
    )


def test_the_plugin_needs_neither_pytest_asyncio_nor_django_before_a_fixture_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert imported_again()._async_fixture is not pytest.fixture
    for name in ("pytest_asyncio", "mcp_sessions.testing", "django", "mcp"):
        monkeypatch.setitem(sys.modules, name, None)
    assert imported_again()._async_fixture is pytest.fixture


@pytest.fixture
def demo(settings: Any) -> None:
    settings.MCP_SESSIONS = demo_with()


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("mcp_options", [{"headers": {"user-agent": "a test"}}])
@pytest.mark.parametrize("mcp_state", [{"notes": ["likes tea"]}])
async def test_the_client_is_connected_as_the_fixtures_say(mcp_client: InProcessClient) -> None:
    assert (mcp_client.endpoint, mcp_client.transport.session_id is not None) == ("default", True)
    assert await mcp_client.state.get("notes") == ["likes tea"]
