"""Sessions put straight into an endpoint's store, for tests of what operators see of them."""

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from mcp_sessions import conf
from mcp_sessions.store.base import SessionStore
from mcp_sessions.store.redis import RedisStore
from mcp_sessions.store.registry import store_for
from mcp_sessions.store.session import ANONYMOUS, Handshake

_numbers: Final[Iterator[int]] = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session to be opened, and its fingerprint."""

    client: str = "inspector"
    client_version: str = "1.0"
    #: Beside name and version.
    client_info: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = "2025-11-25"
    principal: str = ANONYMOUS
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    #: Each is a request.
    calls: tuple[str, ...] = ("ping",)
    state: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    log_level: str | None = None
    #: When all that happened; only with Redis.
    minutes_ago: float = 0
    fingerprint: str = field(default_factory=lambda: hashlib.sha256(str(next(_numbers)).encode()).hexdigest())

    @property
    def handshake(self) -> Handshake:
        return Handshake(
            protocol_version=self.protocol,
            client_info={"name": self.client, "version": self.client_version, **self.client_info},
            capabilities=dict(self.capabilities),
        )


def open_sessions(sessions: Iterable[Opened], alias: str = "default") -> list[Opened]:
    """Open them one after the other: the last one was active last."""
    sessions = list(sessions)
    asyncio.run(_open_all(sessions, alias))
    return sessions


async def _open_all(sessions: Iterable[Opened], alias: str) -> None:
    store, limits = store_for(alias), conf.endpoint(alias).limits
    try:
        for session in sessions:
            with _turned_back(store, session.minutes_ago):
                await store.create(
                    session.fingerprint,
                    principal=session.principal,
                    handshake=session.handshake,
                    limits=limits,
                )
                await _use(store, session, alias)
            _reach_the_next_millisecond()
    finally:
        await store.aclose()


def _reach_the_next_millisecond() -> None:
    """Sessions that were active in the same one are in no order; the store and this process have the same clock."""
    moment = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == moment:
        pass


@contextmanager
def _turned_back(store: SessionStore, minutes: float) -> Iterator[None]:
    """Put the store's clock back for this process."""
    if not minutes:
        yield
        return
    assert isinstance(store, RedisStore)
    moment = time.time_ns() // 1_000_000 - round(minutes * 60_000)
    with mock.patch.object(store._commands, "_clock", return_value=moment):
        yield


async def _use(store: SessionStore, session: Opened, alias: str) -> None:
    limits = conf.endpoint(alias).limits
    for call in session.calls:
        await store.touch(
            session.fingerprint, principal=session.principal, limits=limits, call=call, initialized=True
        )
    if session.state:
        values = {name: json.dumps(value) for name, value in session.state.items()}
        await store.state_set(session.fingerprint, values, max_bytes=limits.state_max_bytes)
    if session.tools:
        await store.change_tools(session.fingerprint, enable=session.tools)
    if session.log_level:
        await store.set_log_level(session.fingerprint, session.log_level)
