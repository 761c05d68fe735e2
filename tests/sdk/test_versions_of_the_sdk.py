"""Which releases of the SDK this app can serve, and what one is told who has another."""

import importlib.metadata
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions.sdk import versions


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found: dict[str, str] = {}

    def version(name: str) -> Any:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(versions, "version", version)
    return found


@pytest.mark.parametrize("found", ["2.0", "2.3.1", "3.0", "10.1"])
def test_this_release_and_later_ones_are_served(installed: dict[str, str], found: str) -> None:
    installed["mcp"] = found
    versions.require()


def test_an_older_one_is_refused_with_who_probably_asked_for_it(installed: dict[str, str]) -> None:
    installed["mcp"] = "1.9.0"
    with pytest.raises(ImproperlyConfigured, match=r"mcp 2.3 or newer, and mcp 1.9.0 is installed\.$"):
        versions.require()
    installed["fastmcp"] = "2.1"
    with pytest.raises(
        ImproperlyConfigured, match=r"installed, for fastmcp 2.1. Servers written with FastMCP"
    ):
        versions.require()
