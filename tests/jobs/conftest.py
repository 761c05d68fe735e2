"""An endpoint without sessions, in the memory of this process: what jobs do does not depend on the store."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

_namespaces = itertools.count()


@pytest.fixture(autouse=True)
def endpoint(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "project.mcp.server", "NAMESPACE": f"jobs{next(_namespaces)}"}
    }


@pytest.fixture
def end_on(settings: LazySettings) -> Callable[..., None]:
    def choose(*events: str, **more: Any) -> None:
        entry = settings.MCP_SESSIONS["default"]
        settings.MCP_SESSIONS = {"default": {**entry, "END_ON": list(events), **more}}

    return choose


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="first")
