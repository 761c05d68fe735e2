"""One endpoint over a real Redis, and what the end of a session is reported by: signals and the log."""

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from mcp_sessions.session import Session
from mcp_sessions.signals import session_ended
from tests.support.redis import RedisServer

_namespaces = itertools.count()


@pytest.fixture
def use(settings: LazySettings) -> Callable[[RedisServer], None]:
    """Put the endpoint's sessions on a server, in a namespace of their own."""

    def put(server: RedisServer) -> None:
        settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}}
        namespace = f"ending{next(_namespaces)}"
        settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server", "NAMESPACE": namespace}}

    return put


@pytest.fixture(autouse=True)
def one_endpoint(use: Callable[[RedisServer], None], redis_server: RedisServer) -> None:
    use(redis_server)


@pytest.fixture
def signals() -> Iterator[list[tuple[type[Session], str, str, str]]]:
    """What receivers got: sender, fingerprint, endpoint, reason."""
    received: list[tuple[type[Session], str, str, str]] = []

    def receive(sender: type[Session], fingerprint: str, alias: str, reason: str, **_: Any) -> None:
        received.append((sender, fingerprint, alias, reason))

    session_ended.connect(receive)
    yield received
    session_ended.disconnect(receive)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the logger that operators filter by."""
    caplog.set_level(logging.INFO, "mcp_sessions.ending")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mcp_sessions.ending"]
