"""One endpoint over a real Redis, and what the end of a session is reported by: signals and the log."""

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from mcp_sessions.session import Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import endings, validity
from mcp_sessions.store.factory import sync_store_for
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
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each signal but the first, whether somebody has said since the one before that the ending is worked on."""
    begin, begun, last = endings.begin, list[endings.Ending](), list[int]()
    found: list[bool] = []

    def remembered(ending: endings.Ending) -> Call[None]:
        begun.append(ending)
        return begin(ending)

    def receive(**_: Any) -> None:
        store = sync_store_for("default")
        known = Call(endings.KNOWN, "", ("endings",), (begun[-1].token,), lambda _, reply: reply)
        began = int(store.run(known).split(b" ")[0])
        found.extend(began > moment for moment in last)
        last[:] = [store.run(validity.min_created(0)).now_ms]
        while store.run(validity.min_created(0)).now_ms == last[0]:
            pass

    monkeypatch.setattr(endings, "SAID_SECONDS", 0)
    monkeypatch.setattr(endings, "begin", remembered)
    session_ended.connect(receive)
    yield found
    session_ended.disconnect(receive)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the logger that operators filter by."""
    caplog.set_level(logging.INFO, "mcp_sessions.ending")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mcp_sessions.ending"]
