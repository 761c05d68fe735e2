"""Where sessions live in tests: in memory, with a clock that can be moved, or where the settings say."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import conf, engine
from mcp_sessions.authentication.identity import Identity, identity_of
from mcp_sessions.conf import Endpoint
from mcp_sessions.records import Handshake
from mcp_sessions.state import State
from mcp_sessions.store import factory
from mcp_sessions.store.drivers import Store, SyncStore
from mcp_sessions.users import CurrentUser


class _Memory:
    """Empty stores in this process, in the place of those that the settings name."""

    def __init__(self) -> None:
        #: Milliseconds that the clock is ahead.
        self.ahead_ms = 0
        self._stores: dict[str, tuple[Store, SyncStore]] = {}

    def make(self, entry: Endpoint) -> tuple[Store, SyncStore]:
        """The store of an endpoint."""
        if entry.namespace not in self._stores:
            self._stores[entry.namespace] = factory.in_memory(entry.namespace, clock=self._now)
        return self._stores[entry.namespace]

    def _now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


#: What `serving` blocks share, of all event loops. None in none, and with MCP_SESSIONS_TEST_REDIS.
_memory: _Memory | None = None
_blocks = 0


def enter() -> None:
    """From here on, endpoints have stores for tests, until each `enter` has had its `leave`.

    With MCP_SESSIONS_TEST_REDIS they keep those of the settings. Raises: ImproperlyConfigured without the package that
    memory needs.
    """
    global _memory, _blocks
    if not _blocks and not getattr(settings, "MCP_SESSIONS_TEST_REDIS", False):
        if not engine.is_available():
            raise ImproperlyConfigured(
                "Tests keep sessions in memory, for which the package lupa is missing. Run pip install "
                '"mcp-sessions[memory]", or set MCP_SESSIONS_TEST_REDIS = True to test with the Redis of the settings.'
            )
        _memory = _Memory()
        factory.stand_in(_memory.make)
    _blocks += 1


def leave() -> None:
    """The sessions of tests end with the last block."""
    global _memory, _blocks
    _blocks -= 1
    if not _blocks and _memory is not None:
        _memory = None
        factory.stand_in(None)


def travel(duration: timedelta | float) -> None:
    """Move the clock of the sessions forward, by a timedelta or seconds: what would have expired by then has expired.

    Nothing is renewed on the way: a session whose IDLE_TTL is over has ended, although its client is connected. Only
    the store's clock moves, until the last client disconnects.

    Raises: RuntimeError outside `connect()` and `serving()`, and with MCP_SESSIONS_TEST_REDIS.
    """
    if _memory is None:
        raise RuntimeError(
            "travel() moves the clock of sessions in memory, while a client is connected. A Redis has its own clock."
        )
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    _memory.ahead_ms += round(seconds * 1000)


def user_state(user: Any, *, endpoint: str = "default") -> State:
    """What tools have as `current_user().state` when this user calls. Use it while a client is connected."""
    return CurrentUser(
        _Request(conf.endpoint(endpoint), factory.store_for(endpoint), identity_of({"user": user}))
    ).state


@dataclass(frozen=True, slots=True)
class _Request:
    """A request of a user: `current.CurrentRequest`."""

    conf: Endpoint
    store: Store
    identity: Identity
    meta: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None

    @property
    def principal(self) -> str:
        return self.identity.principal

    @property
    def handshake(self) -> Handshake:
        return Handshake(protocol_version="", client_info={"name": "a test"}, capabilities={})
