"""A release of the SDK that cannot be served is said when Django starts, and not in an ImportError from somewhere."""

from importlib.metadata import PackageNotFoundError

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions.sdk import versions


def test_the_sdk_that_is_installed_is_accepted() -> None:
    versions.require()


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (
            {"mcp": "1.30.0", "fastmcp": "3.4.11"},
            "mcp 1.30.0 is installed, for fastmcp 3.4.11. Servers written with FastMCP can be served from fastmcp 4 on",
        ),
        ({"mcp": "1.30.0"}, "mcp_sessions needs mcp 2.3 or newer, and mcp 1.30.0 is installed."),
    ],
)
def test_an_old_sdk_is_refused_with_the_versions(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], said: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(versions, "version", version)
    with pytest.raises(ImproperlyConfigured) as refused:
        apps.get_app_config("mcp_sessions").ready()
    assert said in str(refused.value)
