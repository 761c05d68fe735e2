"""What is recognized as a FastMCP, without the package: tests/clients/test_fastmcp_servers.py has real ones."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from mcp_sessions.sdk.server import import_server, load_server


def old_fastmcp(package: str) -> type:
    """The class of a release before 4, whose server inside is of another SDK."""
    return type("FastMCP", (), {"__module__": f"{package}.server.server", "_mcp_server": object()})


@pytest.mark.parametrize("load", [import_server, load_server])
def test_an_old_fastmcp_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    package: Any = ModuleType("fastmcp")
    package.__version__ = "3.4.11"
    package.server = old_fastmcp("fastmcp")()
    monkeypatch.setitem(sys.modules, "fastmcp", package)
    said = "fastmcp.server is a FastMCP of fastmcp 3.4.11, which cannot be served: fastmcp 4 is needed"
    with pytest.raises(TypeError, match=re.escape(said)):
        load("fastmcp.server")
