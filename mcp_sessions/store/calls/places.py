"""The places of records in the indexes: taken under the caps, and given back.

A full index is checked for records that are gone before a cap holds.
"""

from typing import Final

from mcp_sessions.conf import Limits
from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import Handshake, Kind
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.healing import HEAL_INTERVAL_MS, Healing
from mcp_sessions.store.calls.reading import alive

#: How many entries of a full index are checked for sessions that are gone.
HEAL_BATCH: Final = 1_000
#: How often a new session asks again for its place while a check runs.
ASKED_AGAIN: Final = 100

healing = Healing()


def take(fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits) -> Operation[None]:
    """Take the place of a new record.

    A full index is checked for records that are gone; if that makes no room, the cap holds. Raises: TooManySessions.
    """
    reservation, key = (
        indexes.reserve(fingerprint, principal=principal, handshake=handshake, limits=limits),
        b"",
    )
    waits, left = False, ASKED_AGAIN
    while True:
        # Before it is asked: a check that ends meanwhile may have made room.
        worth, ended = waits and healing.is_checking(key), healing.ended
        [full] = yield [reservation]
        if full is None:
            return
        cap, key, now = full
        with healing.check(key) as due:
            if due:
                yield from _heal(indexes.of(handshake, principal)[cap - 1], now, limits, handshake.kind)
                continue
        # Also if a check ended after the store had replied: who asked before it may be told of room that is gone.
        if left > 0 and (worth or healing.ended != ended):
            left -= 1
        elif waits or not healing.may_wait(key):
            raise TooManySessions(per_principal=cap == 2)
        else:
            waits = True


def give_back(fingerprint: str, principal: str, handshake: Handshake) -> Operation[None]:
    """Drop a session from its indexes; if that fails, readers do it later."""
    try:
        yield [indexes.unindex(indexes.of(handshake, principal), [fingerprint])]
    except StoreUnavailable as error:
        log.debug("Session %s stays in the indexes for a while: %s", fingerprint[:12], error)


def _heal(index: str, now: int, limits: Limits, kind: Kind) -> Operation[None]:
    """Drop entries of sessions that are gone from an index that is full."""
    # Not the newest: a place is reserved a moment before its session exists.
    old = now - HEAL_INTERVAL_MS + 1
    read = indexes.members(
        index, limits=limits, offset=0, limit=HEAL_BATCH, ascending=True, before_ms=old, kind=kind
    )
    [(_, found)] = yield [read]
    yield from alive(index, found, kind=kind)
