"""Stores in which everything is a list, and the records in them."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_sessions.inventory.queryset import SessionQuerySet
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Handshake, Kind, Session
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Found, Page, Query
from mcp_sessions.store.calls.ranges import Located
from mcp_sessions.store.calls.recent import Recent

#: Name, arguments, keyword arguments.
FakeCall = tuple[str, tuple[Any, ...], dict[str, Any]]

MINUTE = 60_000
START = 1_800_000_000_000


def session(
    number: int,
    *,
    client: str = "client",
    protocol: str = "2025-11-25",
    principal: str = "anonymous",
    kind: Kind = "session",
    label: str = "",
    name: str = "",
) -> Session:
    """Session 0 was active last, session 1 a minute before it, and so on."""
    moment = START - number * MINUTE
    return Session(
        fingerprint=hashlib.sha256(f"{kind}{client}{number}".encode()).hexdigest(),
        handshake=Handshake(
            protocol_version=protocol,
            client_info={"name": client, "version": "1"},
            capabilities={},
            kind=kind,
            label=label,
            name=name,
        ),
        principal=principal,
        created_ms=moment,
        deadline_ms=moment + 1440 * MINUTE,
        last_activity_ms=moment,
        expires_ms=moment + 60 * MINUTE,
        active=True,
        initialized=True,
        requests=number,
        last_call="ping",
        log_level=None,
        tools=frozenset(),
    )


@dataclass
class ListedStore:
    """A sync store over a list, which remembers what it was asked; its round trips are counted."""

    sessions: Sequence[Session]
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    round_trips: int = 0
    shared: bool = True

    def page(self, query: Query, *, offset: int, limit: int) -> Page:
        self.asked.append((query, offset, limit))
        found = self._found(query)
        return Page(sessions=found[offset : offset + limit], total=len(found))

    def entries(self, query: Query, *, limit: int, after: Entry | None) -> Found:
        self.asked.append((query, after, limit))
        found = [Located(Entry(each.fingerprint, each.last_activity_ms), "@0") for each in self._found(query)]
        sign = 1 if query.ascending else -1
        behind = [
            each for each in found if after is None or sign * each.entry.active_ms > sign * after.active_ms
        ]
        reached = behind[limit - 1].entry if len(behind) >= limit else None
        return Found(behind[:limit], len(found), exact=True, reached=reached)

    def records(self, query: Query, found: Sequence[Located]) -> list[Session]:
        by_fingerprint = {each.fingerprint: each for each in self.sessions}
        return [by_fingerprint[each.entry.fingerprint] for each in found]

    def _found(self, query: Query) -> list[Session]:
        return sorted(
            (s for s in self.sessions if self._matches(s, query)),
            key=lambda s: (s.last_activity_ms, s.fingerprint),
            reverse=not query.ascending,
        )

    def _matches(self, session: Session, query: Query) -> bool:
        return (
            query.kind == session.kind
            and query.label in (None, session.label)
            and query.client in (None, session.handshake.client_name)
            and query.protocol in (None, session.handshake.protocol_version)
            and query.principal in (None, session.principal)
            and (query.active_since_ms or 0) <= session.last_activity_ms
            and (query.active_before_ms is None or session.last_activity_ms < query.active_before_ms)
        )

    def get(self, fingerprint: str, *, skips_sealed: bool = False) -> Session | None:
        self.asked.append(("get", fingerprint))
        return next((s for s in self.sessions if s.fingerprint == fingerprint), None)

    def recent(self, fingerprint: str, *, wanted: int, most: int) -> Recent:
        return Recent(0, 0, [])

    def find(self, prefix: str, *, limit: int, kind: Kind) -> Sequence[Session]:
        self.asked.append(("find", prefix, kind))
        return [s for s in self.sessions if s.fingerprint.startswith(prefix) and s.kind == kind][:limit]

    def run(self, operation: Generator[Sequence[FakeCall], list[Any], Any]) -> Any:
        """An operation's result."""
        results = None
        while True:
            try:
                calls = operation.send(results)  # type: ignore[arg-type]  # None starts it
            except StopIteration as stop:
                return stop.value
            results = self.run_all(calls)

    def run_all(self, calls: Sequence[FakeCall]) -> list[Any]:
        self.round_trips += bool(calls)
        return [getattr(self, name)(*arguments, **options) for name, arguments, options in calls]


def fake_call(name: str) -> Callable[..., FakeCall]:
    """A call that a `ListedStore` understands."""
    return lambda *arguments, **options: (name, arguments, options)


def fake_operation(name: str) -> Callable[..., Any]:
    """An operation of one round trip that a `ListedStore` understands."""

    def operation(*arguments: Any, limits: Any, **options: Any) -> Generator[Any, Any, Any]:
        [result] = yield [(name, arguments, options)]
        return result

    return operation


@dataclass
class Stores:
    """The endpoints' stores by alias."""

    by_alias: dict[str, ListedStore]

    def __getitem__(self, alias: str) -> ListedStore:
        return self.by_alias[alias]


def sessions() -> SessionQuerySet[MCPSession]:
    return MCPSession.objects.get_queryset()


def numbers(found: Any) -> list[int]:
    """Which sessions; their numbers are their request counts."""
    return [session.record.requests for session in found]
