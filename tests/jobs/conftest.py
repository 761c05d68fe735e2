"""An endpoint without sessions, in the memory of this process: what jobs do does not depend on the store."""

import itertools

import pytest
from django.conf import LazySettings

_namespaces = itertools.count()


@pytest.fixture(autouse=True)
def endpoint(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "project.mcp.server", "NAMESPACE": f"jobs{next(_namespaces)}"}
    }
