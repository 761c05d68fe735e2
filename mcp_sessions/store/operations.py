"""Operations of several round trips, once for both faces: generators of calls, see `commands`. Pure."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from mcp_sessions.errors import StoreUnavailable, TooManySessions, UnsupportedLookup
from mcp_sessions.store.base import EndReason, Limits, Page, Query
from mcp_sessions.store.commands import Commands, Operation
from mcp_sessions.store.session import FINGERPRINT, Handshake, Session

log = logging.getLogger("mcp_sessions.store")

#: How many index entries a full cap looks at for sessions that are gone, and how often in one process: a flood of
#: refused sessions must not cost Redis more than a flood of accepted ones.
HEAL_BATCH: Final = 100
HEAL_INTERVAL_MS: Final = 1_000
_MOST_HEALED: Final = 1_000
#: How many of the last active sessions a short prefix is searched in.
FIND_DEPTH: Final = 10_000
SHORTEST_PREFIX: Final = 8


class Healing:
    """Which indexes this process has lately looked through for sessions that are gone."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._next: dict[str, int] = {}

    def is_due(self, index: str) -> bool:
        """Whether to look now; once in an interval for each index."""
        now = self._clock()
        if now < self._next.get(index, 0):
            return False
        if len(self._next) >= _MOST_HEALED:
            self._next.clear()
        self._next[index] = now + HEAL_INTERVAL_MS
        return True


def create(
    commands: Commands,
    healing: Healing,
    fingerprint: str,
    principal: str,
    handshake: Handshake,
    limits: Limits,
) -> Operation[Session]:
    """Reserve a place under the caps, store the record; give the place back if that fails."""
    yield from _admit(commands, healing, fingerprint, principal, handshake, limits)
    try:
        [created] = yield [commands.create(fingerprint, principal, handshake, limits)]
    except StoreUnavailable:
        yield from _forget(commands, fingerprint, principal, handshake)
        raise
    if isinstance(created, Session):
        return created
    if created == "ended":
        yield from _forget(commands, fingerprint, principal, handshake)
    raise ValueError(f"a session with the fingerprint {fingerprint[:12]} {created}")


def _admit(
    commands: Commands,
    healing: Healing,
    fingerprint: str,
    principal: str,
    handshake: Handshake,
    limits: Limits,
) -> Operation[None]:
    """A cap that is full is looked at for sessions that are gone; if that makes no room, it holds."""
    admit = commands.admit(fingerprint, principal, handshake, limits)
    healed: set[str] = set()
    while True:
        [full] = yield [admit]
        if not full:
            return
        index = commands.keys.principal(principal) if full == 2 else commands.keys.activity
        if index in healed or not healing.is_due(index):
            cap = "MAX_SESSIONS_PER_PRINCIPAL" if full == 2 else "MAX_SESSIONS"
            raise TooManySessions(f"{cap} is reached")
        healed.add(index)
        yield from _heal(commands, index, limits)


def _heal(commands: Commands, index: str, limits: Limits) -> Operation[None]:
    """Drop the sessions that are gone among the longest inactive of an index."""
    [(_, fingerprints)] = yield [commands.page(index, limits, offset=0, limit=HEAL_BATCH, ascending=True)]
    yield from _alive(commands, index, fingerprints)


def _alive(commands: Commands, index: str, fingerprints: list[str]) -> Operation[list[Session]]:
    """The sessions of index entries, in order; entries of sessions that are gone are dropped."""
    if not fingerprints:
        return []
    sessions = yield [commands.get(fingerprint) for fingerprint in fingerprints]
    gone = [each for each, session in zip(fingerprints, sessions, strict=True) if session is None]
    if gone:
        yield [commands.unindex((index, commands.keys.activity, commands.keys.new), gone)]
    return [session for session in sessions if session is not None]


def end(
    commands: Commands, fingerprint: str, principal: str | None, reason: EndReason
) -> Operation[Session | None]:
    """End the session, then drop it from the indexes: the first is the truth, the second a hint."""
    [session] = yield [commands.end(fingerprint, principal, reason)]
    if session is not None:
        yield from _forget(commands, fingerprint, session.principal, session.handshake)
    ended: Session | None = session
    return ended


def end_many(
    commands: Commands, fingerprints: Sequence[str], reason: EndReason
) -> Operation[list[Session | StoreUnavailable | None]]:
    """End sessions together, then drop them from the indexes, those with the same indexes in one call."""
    outcomes = yield [commands.end_one_of_many(fingerprint, reason) for fingerprint in fingerprints]
    indexed: dict[tuple[str, ...], list[str]] = {}
    for session in outcomes:
        if isinstance(session, Session):
            indexes = (*commands.keys.indexes(session.handshake, session.principal), commands.keys.new)
            indexed.setdefault(indexes, []).append(session.fingerprint)
    try:
        if indexed:
            yield [commands.unindex(indexes, ended) for indexes, ended in indexed.items()]
    except StoreUnavailable as error:
        log.debug("%d sessions stay in the indexes for a while: %s", len(fingerprints), error)
    return outcomes


def _forget(commands: Commands, fingerprint: str, principal: str, handshake: Handshake) -> Operation[None]:
    """Drop a session from its indexes; if that fails, they heal later."""
    indexes = (*commands.keys.indexes(handshake, principal), commands.keys.new)
    try:
        yield [commands.unindex(indexes, [fingerprint])]
    except StoreUnavailable as error:
        log.debug("Session %s stays in the indexes for a while: %s", fingerprint[:12], error)


def page(commands: Commands, query: Query, limits: Limits, *, offset: int, limit: int) -> Operation[Page]:
    """One range read and one pipeline; one more call if there was something to heal."""
    index = _index_of(commands, query)
    read = commands.page(
        index,
        limits,
        offset=offset,
        limit=limit,
        ascending=query.ascending,
        since_ms=query.active_since_ms,
        before_ms=query.active_before_ms,
    )
    [(total, fingerprints)] = yield [read]
    sessions = yield from _alive(commands, index, fingerprints)
    return Page(sessions=sessions, total=total - (len(fingerprints) - len(sessions)))


def _index_of(commands: Commands, query: Query) -> str:
    keys = commands.keys
    lookups = {
        keys.client: query.client,
        keys.protocol: query.protocol,
        keys.principal: query.principal,
    }
    chosen = [key(value) for key, value in lookups.items() if value is not None]
    if len(chosen) > 1:
        raise UnsupportedLookup("sessions can be filtered by one of client, protocol and principal")
    return chosen[0] if chosen else keys.activity


def find(commands: Commands, prefix: str, limits: Limits, *, limit: int) -> Operation[list[Session]]:
    """Look a whole fingerprint up; search a shorter one among the last active."""
    if FINGERPRINT.match(prefix):
        found: list[Any] = yield [commands.get(prefix)]
        return [session for session in found if session is not None]
    read = commands.page(commands.keys.activity, limits, offset=0, limit=FIND_DEPTH, ascending=False)
    [(_, fingerprints)] = yield [read]
    matching = [each for each in fingerprints if each.startswith(prefix)]
    return (yield from _alive(commands, commands.keys.activity, matching[:limit]))


def searchable(prefix: str) -> bool:
    """Whether a fingerprint could start so, and it is long enough to search for."""
    return SHORTEST_PREFIX <= len(prefix) <= 64 and all(digit in "0123456789abcdef" for digit in prefix)
