"""Fixtures for pytest, which the package installs: a client in the test's own process. See docs/testing.md.

A project changes what they give by parametrizing or overriding the fixtures that `mcp_client` takes. pytest imports
this module for every project in its environment, so nothing of Django or of the SDK is imported before a fixture runs.
"""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

_async_fixture: Any
try:
    from pytest_asyncio import fixture as _async_fixture
except ImportError:
    _async_fixture = pytest.fixture  # another plugin runs async tests, and then their fixtures, too

if TYPE_CHECKING:
    from mcp_sessions.testing import Era, InProcessClient


@pytest.fixture
def mcp_endpoint() -> str:
    """The endpoint's key in MCP_SESSIONS."""
    return "default"


@pytest.fixture
def mcp_era() -> "Era":
    """ "handshake": the client has a session. "modern": it has none."""
    return "handshake"


@pytest.fixture
def mcp_user() -> Any:
    """What authentication would put into the ASGI scope."""
    return None


@pytest.fixture
def mcp_state() -> Mapping[str, Any] | None:
    """What the state of the session begins with."""
    return None


@pytest.fixture
def mcp_options() -> Mapping[str, Any]:
    """Other arguments of `mcp_sessions.testing.connect`: `headers`, `elicitation_callback`, ..."""
    return {}


@_async_fixture  # type: ignore[untyped-decorator] # either of the two
async def mcp_client(
    mcp_endpoint: str,
    mcp_era: "Era",
    mcp_user: Any,
    mcp_state: Mapping[str, Any] | None,
    mcp_options: Mapping[str, Any],
) -> AsyncIterator["InProcessClient"]:
    """The SDK's client, connected to the endpoint in this process."""
    from mcp_sessions.testing import connect

    async with connect(
        endpoint=mcp_endpoint, era=mcp_era, user=mcp_user, state=mcp_state, **mcp_options
    ) as client:
        yield client
