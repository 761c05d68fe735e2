"""Sessions and other records put straight into an endpoint's store, for tests of what operators see of them."""

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions import conf
from mcp_sessions.records import ANONYMOUS, Handshake, Kind
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.clients import make_async_client, make_key_of
from mcp_sessions.store.drivers import Store
from mcp_sessions.store.drivers.asynchronous import RedisStore
from mcp_sessions.store.factory import store_for
from mcp_sessions.store.keys import Keys

_numbers: Final[Iterator[int]] = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session to be opened, or a record of another kind, and its fingerprint."""

    kind: Kind = "session"
    label: str = ""
    name: str = ""

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
    fingerprint: str = field(
        default_factory=lambda: hashlib.sha256(f"opened {next(_numbers)}".encode()).hexdigest()
    )

    @property
    def handshake(self) -> Handshake:
        return Handshake(
            protocol_version=self.protocol,
            client_info={"name": self.client, "version": self.client_version, **self.client_info},
            capabilities=dict(self.capabilities),
            kind=self.kind,
            label=self.label,
            name=self.name,
        )


def open_sessions(opened: Iterable[Opened], alias: str = "default") -> list[Opened]:
    """Open them one after the other: the last one was active last."""
    opened = list(opened)
    asyncio.run(_open_all(opened, alias))
    return opened


async def _open_all(opened: Iterable[Opened], alias: str) -> None:
    async with aclosing(store_for(alias)) as now:
        for session in opened:
            if session.minutes_ago:
                async with aclosing(_store_with_a_clock_behind(alias, session.minutes_ago)) as then:
                    await _open(session, then, alias)
            else:
                await _open(session, now, alias)
            _reach_the_next_millisecond()


async def _open(session: Opened, store: Store, alias: str) -> None:
    limits = conf.endpoint(alias).limits
    await store.run(
        sessions.create(
            session.fingerprint, principal=session.principal, handshake=session.handshake, limits=limits
        )
    )
    await _use(store, session, alias)


def _reach_the_next_millisecond() -> None:
    """Sessions that were active in the same one are in no order; the store and this process have the same clock."""
    moment = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == moment:
        pass


def _store_with_a_clock_behind(alias: str, minutes: float) -> Store:
    """The store of an endpoint in Redis."""
    entry = conf.endpoint(alias)
    moment = time.time_ns() // 1_000_000 - round(minutes * 60_000)
    return RedisStore(
        Keys(entry.namespace, make_key_of(entry.cache), shards=entry.limits.shards),
        lambda timeout: make_async_client(entry.cache, socket_timeout=timeout),
        clock=lambda: moment,
    )


async def _use(store: Store, session: Opened, alias: str) -> None:
    limits = conf.endpoint(alias).limits
    for call in session.calls:
        touch = sessions.touch(
            session.fingerprint, principal=session.principal, limits=limits, call=call, initialized=True
        )
        await store.run(touch)
    if session.state:
        values = {name: json.dumps(value) for name, value in session.state.items()}
        most = conf.endpoint(alias).state_max_bytes
        await store.run(state.set_values(session.fingerprint, values, max_bytes=most))
    if session.tools:
        await store.run(sessions.change_tools(session.fingerprint, enable=session.tools))
    if session.log_level:
        await store.run(sessions.set_log_level(session.fingerprint, session.log_level))
