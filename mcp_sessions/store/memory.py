"""The session store in this process's memory: the same promises, for one process.

Reached from the event loop and from the admin's threads: every method holds one lock for a short while.
"""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mcp_sessions.errors import SessionGone, StoreUnavailable, TooManySessions, UnsupportedLookup
from mcp_sessions.store import memory_values
from mcp_sessions.store.base import EndReason, Limits, Page, Query
from mcp_sessions.store.commands import TOMBSTONE_MS, Clock
from mcp_sessions.store.keys import client_label
from mcp_sessions.store.operations import FIND_DEPTH, searchable
from mcp_sessions.store.record import clean_call
from mcp_sessions.store.session import ANONYMOUS, FINGERPRINT, Handshake, Session

#: Sessions that are over are cleared away that often at most. Until then they count under the caps.
SWEEP_MS: Final = 1_000
MOST_CLIENTS: Final = 100
#: How long after its deadline a session can be ended for its age.
OVERDUE_MS: Final = 10_000


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Entry:
    """One session and its state, as JSON texts by name."""

    session: Session
    state: dict[str, str] = field(default_factory=dict)


class Memory:
    """The sessions of one namespace in this process; both faces share it."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.lock = threading.Lock()
        self.clock = clock or _wall_clock
        self.entries: dict[str, _Entry] = {}
        #: How many of them each principal has.
        self.owned: Counter[str] = Counter()
        #: Fingerprint of an ended session -> until when it may not come back.
        self.tombstones: dict[str, int] = {}
        #: Client name -> when it was last seen, and until when that is remembered.
        self.clients: dict[str, tuple[int, int]] = {}
        self._next_sweep = 0

    def entry(self, fingerprint: str) -> _Entry | None:
        """The entry of a session that is alive now."""
        entry = self.entries.get(fingerprint)
        return entry if entry is not None and self.clock() < entry.session.expires_ms else None

    def alive(self) -> list[Session]:
        """Every session that is alive; the dead are cleared away."""
        self.sweep(self.clock(), force=True)
        return [entry.session for entry in self.entries.values()]

    def sweep(self, now: int, *, force: bool = False) -> None:
        if now < self._next_sweep and not force:
            return
        self._next_sweep = now + SWEEP_MS
        self.entries = {key: entry for key, entry in self.entries.items() if now < entry.session.expires_ms}
        self.owned = Counter(entry.session.principal for entry in self.entries.values())
        self.tombstones = {key: until for key, until in self.tombstones.items() if now < until}
        self.clients = {name: seen for name, seen in self.clients.items() if now < seen[1]}

    def add(self, session: Session) -> None:
        self.remove(session.fingerprint)
        self.entries[session.fingerprint] = _Entry(session)
        self.owned[session.principal] += 1

    def remove(self, fingerprint: str) -> None:
        if entry := self.entries.pop(fingerprint, None):
            self.owned[entry.session.principal] -= 1

    def see_client(self, name: str, now: int, limits: Limits) -> None:
        label = client_label(name)
        self.clients.pop(label, None)
        self.clients[label] = (now, now + limits.max_age_ms)
        while len(self.clients) > MOST_CLIENTS:
            del self.clients[next(iter(self.clients))]

    def get(self, fingerprint: str) -> Session | None:
        with self.lock:
            entry = self.entry(fingerprint)
            return entry.session if entry else None

    def end(self, fingerprint: str, principal: str | None, reason: EndReason) -> Session | None:
        with self.lock:
            entry = self.entries.get(fingerprint) if reason == "max_age" else self.entry(fingerprint)
            if entry is None or (principal is not None and entry.session.principal != principal):
                return None
            if reason == "max_age" and self.clock() >= entry.session.expires_ms + OVERDUE_MS:
                return None
            if reason == "max_age" and entry.session.expires_ms < entry.session.deadline_ms:
                return None
            self.remove(fingerprint)
            self.tombstones[fingerprint] = self.clock() + TOMBSTONE_MS
            return entry.session


class MemoryStore:
    """See `base.SessionStore`."""

    shared = False

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def create(
        self, fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits
    ) -> Session:
        memory = self._memory
        with memory.lock:
            now = memory.clock()
            memory.sweep(now)
            if fingerprint in memory.tombstones and now < memory.tombstones[fingerprint]:
                raise ValueError(f"a session with the fingerprint {fingerprint[:12]} ended")
            if memory.entry(fingerprint):
                raise ValueError(f"a session with the fingerprint {fingerprint[:12]} exists")
            _check_caps(memory, principal, limits)
            session = _new_session(fingerprint, principal, handshake, limits, now)
            memory.add(session)
            memory.see_client(handshake.client_name, now, limits)
            return session

    async def touch(
        self, fingerprint: str, *, principal: str, limits: Limits, call: str = "", initialized: bool = False
    ) -> Session | None:
        memory = self._memory
        with memory.lock:
            entry = memory.entry(fingerprint)
            if entry is None or entry.session.principal != principal:
                return None
            session = entry.session
            entry.session = _slid(
                session,
                memory.clock(),
                limits,
                active=True,
                initialized=session.initialized or initialized,
                requests=session.requests + 1,
                last_call=clean_call(call) or session.last_call,
            )
            memory.see_client(session.handshake.client_name, entry.session.last_activity_ms, limits)
            return entry.session

    async def keep(self, fingerprints: Sequence[str], *, limits: Limits) -> Mapping[str, Session]:
        with self._memory.lock:
            now = self._memory.clock()
            found = {each: entry for each in fingerprints if (entry := self._memory.entry(each))}
            for entry in found.values():
                entry.session = _slid(entry.session, now, limits)
            return {fingerprint: entry.session for fingerprint, entry in found.items()}

    async def get(self, fingerprint: str) -> Session | None:
        return self._memory.get(fingerprint)

    async def end(self, fingerprint: str, *, principal: str | None, reason: EndReason) -> Session | None:
        return self._memory.end(fingerprint, principal, reason)

    async def set_log_level(self, fingerprint: str, level: str) -> bool:
        with self._memory.lock:
            entry = self._memory.entry(fingerprint)
            if entry:
                entry.session = replace(entry.session, log_level=level)
            return entry is not None

    async def change_tools(
        self, fingerprint: str, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
    ) -> frozenset[str] | None:
        with self._memory.lock:
            entry = self._memory.entry(fingerprint)
            if entry is None:
                return None
            tools = entry.session.tools.union(enable).difference(disable)
            entry.session = replace(entry.session, tools=tools)
            return tools

    async def state_get(self, fingerprint: str, names: Sequence[str]) -> list[str | None]:
        with self._memory.lock:
            state = self._state(fingerprint)
            return [state.get(name) for name in names]

    async def state_set(self, fingerprint: str, values: Mapping[str, str], *, max_bytes: int) -> None:
        with self._memory.lock:
            memory_values.put(self._state(fingerprint), values, max_bytes)

    async def state_delete(self, fingerprint: str, names: Sequence[str]) -> int:
        with self._memory.lock:
            state = self._state(fingerprint)
            return sum(state.pop(name, None) is not None for name in names)

    async def state_incr(self, fingerprint: str, name: str, amount: int | float, *, max_bytes: int) -> str:
        with self._memory.lock:
            return memory_values.incr(self._state(fingerprint), name, amount, max_bytes)

    async def state_append(self, fingerprint: str, name: str, item: str, *, max_bytes: int) -> int:
        with self._memory.lock:
            return memory_values.append(self._state(fingerprint), name, item, max_bytes)

    async def state_names(self, fingerprint: str) -> list[str]:
        with self._memory.lock:
            return sorted(self._state(fingerprint))

    async def aclose(self) -> None:
        """Nothing to close."""

    def _state(self, fingerprint: str) -> dict[str, str]:
        entry = self._memory.entry(fingerprint)
        if entry is None:
            raise SessionGone("the session is gone")
        return entry.state


class MemoryDirectory:
    """See `base.SessionDirectory`."""

    shared = False

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def page(self, query: Query, *, offset: int, limit: int) -> Page:
        matches = _filter_of(query)
        sessions = [session for session in self._newest_first() if matches(session)]
        if query.ascending:
            sessions.reverse()
        return Page(sessions=sessions[offset : offset + limit], total=len(sessions))

    def get(self, fingerprint: str) -> Session | None:
        return self._memory.get(fingerprint)

    def find(self, prefix: str, *, limit: int) -> Sequence[Session]:
        if not searchable(prefix):
            return []
        if FINGERPRINT.match(prefix):
            session = self.get(prefix)
            return [session] if session else []
        newest = self._newest_first()[:FIND_DEPTH]
        return [session for session in newest if session.fingerprint.startswith(prefix)][:limit]

    def count(self) -> int:
        with self._memory.lock:
            return len(self._memory.alive())

    def clients(self) -> Sequence[str]:
        with self._memory.lock:
            self._memory.alive()
            return sorted(self._memory.clients, key=lambda name: self._memory.clients[name], reverse=True)

    def state(self, fingerprint: str) -> Mapping[str, Any]:
        with self._memory.lock:
            entry = self._memory.entry(fingerprint)
            items = sorted(entry.state.items()) if entry else []
        return {name: json.loads(value) for name, value in items}

    def end(self, fingerprint: str, *, reason: EndReason = "expired_by_operator") -> Session | None:
        return self._memory.end(fingerprint, None, reason)

    def end_many(
        self, fingerprints: Sequence[str], *, reason: EndReason
    ) -> Sequence[Session | StoreUnavailable | None]:
        return [self._memory.end(fingerprint, None, reason) for fingerprint in fingerprints]

    def ping(self) -> None:
        """Memory always answers."""

    def _newest_first(self) -> list[Session]:
        with self._memory.lock:
            sessions = self._memory.alive()
        return sorted(
            sessions, key=lambda session: (session.last_activity_ms, session.fingerprint), reverse=True
        )


def _new_session(fingerprint: str, principal: str, handshake: Handshake, limits: Limits, now: int) -> Session:
    deadline = now + limits.max_age_ms
    return Session(
        fingerprint=fingerprint,
        handshake=handshake,
        principal=principal,
        created_ms=now,
        deadline_ms=deadline,
        last_activity_ms=now,
        expires_ms=min(now + limits.first_ms, deadline),
        active=False,
        initialized=False,
        requests=0,
        last_call="",
        log_level=None,
        tools=frozenset(),
    )


def _slid(session: Session, now: int, limits: Limits, **changes: Any) -> Session:
    expires = min(now + limits.idle_ms, session.deadline_ms)
    return replace(session, last_activity_ms=now, expires_ms=expires, **changes)


def _check_caps(memory: Memory, principal: str, limits: Limits) -> None:
    cap, own_cap = limits.max_sessions, limits.max_sessions_per_principal
    if cap is not None and len(memory.entries) >= cap:
        raise TooManySessions("MAX_SESSIONS is reached")
    if own_cap is not None and principal != ANONYMOUS and memory.owned[principal] >= own_cap:
        raise TooManySessions("MAX_SESSIONS_PER_PRINCIPAL is reached")


def _filter_of(query: Query) -> Callable[[Session], bool]:
    if sum(value is not None for value in (query.client, query.protocol, query.principal)) > 1:
        raise UnsupportedLookup("sessions can be filtered by one of client, protocol and principal")
    client = None if query.client is None else client_label(query.client)
    since = query.active_since_ms or 0
    before = math.inf if query.active_before_ms is None else query.active_before_ms

    def matches(session: Session) -> bool:
        return (
            since <= session.last_activity_ms < before
            and client in (None, client_label(session.handshake.client_name))
            and query.protocol in (None, session.handshake.protocol_version)
            and query.principal in (None, session.principal)
        )

    return matches
