"""The places of records in the indexes: taken under the caps, in a shard that has room, and given back.

A full index is checked for records that are gone, or over and not swept yet, before a cap holds.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

from mcp_sessions.conf import Limits
from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import Handshake, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes, ranges
from mcp_sessions.store.calls.healing import HEAL_INTERVAL_MS, Healing
from mcp_sessions.store.calls.indexes import Entry, Full
from mcp_sessions.store.calls.reading import look_up

#: How many entries of a full index are checked for sessions that are gone.
HEAL_BATCH: Final = 1_000
#: How often a new session asks again for its place while a check runs.
ASKED_AGAIN: Final = 100
#: Fingerprints that are made, for each shard there is, to get one in a certain shard.
_MADE: Final = 50

#: What distinguishes the keys of shards, which are checked together.
_OF_SHARD: Final = re.compile(rb"(?<=/)\d+of")

#: Makes another fingerprint of the record, and what is stored with it.
Another = Callable[[], tuple[str, Handshake]]

healing = Healing()


def take(
    fingerprint: str,
    *,
    principal: str,
    handshake: Handshake,
    limits: Limits,
    another: Another | None,
) -> Operation[tuple[str, Handshake]]:
    """Take the place of a new record. If its shard has no room, it may be `another` one. Returns which one it is.

    A full index is checked for records that are gone; if that makes no room, the cap holds. Raises: TooManySessions.
    """
    key, waits, left = b"", False, ASKED_AGAIN
    while True:
        # Before it is asked: a check that ends meanwhile may have made room.
        worth, ended = waits and healing.is_checking(key), healing.ended
        taken = yield from _take(fingerprint, principal, handshake, limits, another)
        if not isinstance(taken, Full):
            return taken
        key = _OF_SHARD.sub(b"of", taken.key)
        with healing.check(key) as due:
            if due:
                yield from _heal(taken, limits, handshake.kind)
                continue
        # Also if a check ended after the store had replied: who asked before it may be told of room that is gone.
        if left > 0 and (worth or healing.ended != ended):
            left -= 1
        elif waits or not healing.may_wait(key):
            raise TooManySessions(per_principal=taken.cap == 2)
        else:
            waits = True


def give_back(
    fingerprint: str, principal: str, handshake: Handshake, *, now_ms: int = indexes.EVER
) -> Operation[None]:
    """Drop a record from its indexes, unless it was used after `now_ms`; if that fails, others do it later."""
    try:
        yield [
            call
            for place in indexes.places(fingerprint, handshake, principal)
            for call in indexes.unindex(place.home, place.names, [Entry(fingerprint, now_ms)])
        ]
    except StoreUnavailable as error:
        log.debug("Session %s stays in the indexes for a while: %s", fingerprint[:12], error)


def _take(
    fingerprint: str, principal: str, handshake: Handshake, limits: Limits, another: Another | None
) -> Operation[tuple[str, Handshake] | Full]:
    """Take a place in the shard of the fingerprint, or in any other shard that has room."""
    refused: set[int] = set()
    instead_of = ""
    while True:
        full = yield from indexes.reserve(
            fingerprint, principal=principal, handshake=handshake, limits=limits, instead_of=instead_of
        )
        if full is None:
            return fingerprint, handshake
        if limits.shards == 1 or full.cap == 2:
            return full
        refused.add(keys.shard_of(fingerprint, limits.shards))
        others = [] if another is None else (yield from _with_room(limits, handshake.kind))
        made = _one_of([shard for shard in others if shard not in refused], limits.shards, another)
        if made is None:
            yield from give_back(fingerprint, principal, handshake)
            return full
        instead_of, (fingerprint, handshake) = fingerprint, made


def _with_room(limits: Limits, kind: Kind) -> Operation[list[int]]:
    """The shards that have room for another record of a kind."""
    sizes = yield from indexes.sizes(limits=limits, kind=kind)
    cap = limits.max_sessions or 0
    return [
        number
        for number, (home, size) in enumerate(zip(keys.homes(limits.shards), sizes, strict=True))
        if size < indexes.part_of(cap, home, limits.shards)
    ]


def _one_of(wanted: Sequence[int], shards: int, another: Another | None) -> tuple[str, Handshake] | None:
    """A record in one of these shards, any of them alike; None if there is none."""
    if another is None or not wanted:
        return None
    shard = random.choice(wanted)  # noqa: S311 - no secret
    for _ in range(_MADE * shards):
        made = another()
        if keys.shard_of(made[0], shards) == shard:
            return made
    return None


def _heal(full: Full, limits: Limits, kind: Kind) -> Operation[None]:
    """Drop entries of records that are gone or over from indexes that are full. Those that are over are swept later."""
    homes = keys.homes(limits.shards) if full.cap == 1 else [full.home]
    # Not the newest: a place is reserved a moment before its session exists.
    found = dict((yield from _oldest(full.name, homes, full.now_ms - HEAL_INTERVAL_MS, limits, kind)))
    if full.cap == 1:
        over = yield from _oldest(keys.ends_index(kind), homes, full.now_ms, limits, kind)
        found = dict(over) | found
    sessions: list[Session | int | None] = yield [look_up(each) for each in found]
    gone: dict[str, list[Entry]] = {}
    for (fingerprint, home), session in zip(found.items(), sessions, strict=True):
        if not session:
            gone.setdefault(home, []).append(Entry(fingerprint, full.now_ms))
    if gone:
        yield [call for home, some in gone.items() for call in indexes.unindex(home, [full.name], some)]


def _oldest(
    index: str, homes: Sequence[str], until_ms: int, limits: Limits, kind: Kind
) -> Operation[list[tuple[str, str]]]:
    """The fingerprints with the lowest scores in an index, each with its home."""
    read = ranges.stretched(index, homes, limits=limits, kind=kind, before_ms=until_ms + 1, ascending=True)
    stretch = yield from ranges.at(read, offset=0, limit=HEAL_BATCH)
    return [(each.entry.fingerprint, each.home) for each in stretch.entries]
