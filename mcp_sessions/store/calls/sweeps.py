"""Records whose time is over: found by when they end, ended once, and dropped from the indexes.

One node at a time does that for a shard. If it hangs or dies, another one goes on after three seconds. A record stays
for fifteen seconds after its end, so that it is still known what ended. What an index says is behind by its interval:
a record that was used meanwhile lives, and gets its true place.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import KINDS, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Operation, Script, is_foreign
from mcp_sessions.store.calls import indexes
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.reading import FOREIGN, parse_session
from mcp_sessions.store.calls.sessions import LASTING

#: For how many milliseconds a node that does not ask again still has a shard.
LEASE_MS: Final = 3_000
#: Records of each kind that are found, and swept, together: what one script does with them takes a millisecond.
BATCH: Final = 100
#: For how long a repeated call finds what it ended. Longer than until another node takes over what a dead one began.
KNOWN_MS: Final = 60_000

OVER: Final = Script("over", "_record", repeatable=True)
EXPIRE: Final = Script("expire", "_record", repeatable=True)
FORGET: Final = Script("forget", repeatable=True)


class Over(NamedTuple):
    """Records of a shard whose time seems to be over."""

    #: The time of the store in milliseconds.
    now_ms: int
    #: Fingerprints, BATCH of each kind at most.
    fingerprints: Mapping[Kind, Sequence[str]]


class Swept(NamedTuple):
    """What became of such records."""

    #: Those that this call ended. Nobody else gets them.
    ended: Sequence[Session]
    #: Fingerprints of those that are gone: they ended in another way, or too long ago.
    lost: Sequence[str]
    #: Fingerprints of records of another release: one of its nodes is to find them.
    foreign: Sequence[str]
    #: Whether the store could be asked about all of them.
    complete: bool


def over(home: str, *, node: str) -> Call[Over | None]:
    """Records of a shard whose time seems to be over; None if another node looks after it."""
    parts = (keys.SWEEPER, *(keys.ends_index(kind) for kind in KINDS))
    return Call(OVER, home, parts, (node, LEASE_MS, BATCH), _over)


def sweep(fingerprints: Sequence[str], *, token: str, limits: Limits) -> Operation[Swept]:
    """End what is over of these records, drop it from the indexes, and give the others their true places.

    A call that is repeated with the same token ends what is left, and gets what it ended before again.
    """
    outcomes = yield [_expire(each, token) for each in fingerprints]
    known = list(zip(fingerprints, outcomes, strict=True))
    found = [each for each in outcomes if isinstance(each, _Found)]
    ended = [each.session for each in found if not each.lives]
    calls = indexes.unindex_all(ended, shards=limits.shards)
    for each in found:
        if each.lives:
            calls += indexes.update(each.session, limits=limits)
    if calls:
        yield calls
    return Swept(
        ended,
        [each for each, outcome in known if outcome is None],
        [each for each, outcome in known if outcome == FOREIGN],
        not any(isinstance(each, StoreUnavailable) for each in outcomes),
    )


def drop(fingerprints: Sequence[str], *, home: str, kind: Kind, now_ms: int) -> Operation[None]:
    """Drop records that were gone at that time, and have not come again, from the index of their kind.

    It is not known in which other indexes they are. Their readers drop them there.
    """
    yield indexes.unindex(home, indexes.of_all(kind), [Entry(each, now_ms) for each in fingerprints])


def leave(fingerprints: Sequence[str], *, home: str, kind: Kind, node: str, now_ms: int) -> Operation[None]:
    """Leave records of a shard to a node of another release, and the shard to whichever node asks next.

    They come behind what else is due. When Redis drops a record that nobody ends, it is lost.
    """
    parts = (keys.GONE, keys.ends_index(kind), keys.fingerprints_index(kind))
    calls: list[Call[Any]] = [
        Call(
            indexes.UPDATE,
            home,
            parts,
            (3, 0, bytes.fromhex(each), now_ms, now_ms, indexes.SWEPT_MS),
            _nothing,
        )
        for each in fingerprints
    ]
    yield calls
    yield [Call(OVER, home, (keys.SWEEPER,), (node, 1, 0), _nothing)]


def forget(fingerprints: Sequence[str], *, token: str) -> Operation[None]:
    """Their ends were announced."""
    yield [Call(FORGET, each, ("ended-record",), (token,), lambda _, __: None) for each in fingerprints]


class _Found(NamedTuple):
    session: Session
    #: Whether its time is not over.
    lives: bool


def _expire(fingerprint: str, token: str) -> Call[_Found | int | None]:
    parts = ("session", "features", "state", "ended-record", *LASTING)
    return Call(EXPIRE, fingerprint, parts, (token, KNOWN_MS), _found, fails_alone=True, skips_sealed=True)


def _found(fingerprint: str, reply: Any) -> _Found | int | None:
    session = parse_session(fingerprint, reply[:1] if isinstance(reply, list) else reply)
    if session is None and is_foreign(reply):
        return FOREIGN
    return None if session is None else _Found(session, reply[1] == 1)


def _nothing(_: str, __: Any) -> None:
    return None


def _over(_: str, reply: Any) -> Over | None:
    if reply is None:
        return None
    now, *found = reply
    by_kind = zip(KINDS, found, strict=True)
    return Over(
        int(now), {kind: [member.hex() for member in members] for kind, members in by_kind if members}
    )
