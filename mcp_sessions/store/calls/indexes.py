"""The indexes of records by last activity: hints, seldom written, and corrected by sweeps and readers.

They are in shards, each a slot of a Cluster. A record is in the shard of its fingerprint; in the indexes of its
principal, which are in one shard each, so that the principal's cap is exact; or in both with one script, if that is the
same. Anonymous clients are no principal: theirs are in all shards.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.records import ANONYMOUS, Handshake, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Operation, Script
from mcp_sessions.texts import restored, storable

#: For how long an index update that comes after the end of its session is ignored.
GONE_MS: Final = 30_000
#: How long an index entry stays after the end of its record, for whoever sweeps it.
SWEPT_MS: Final = 60_000
#: A last activity before which any other is.
EVER: Final = 2**53
#: Client names that are remembered.
MOST_CLIENTS: Final = 100

#: How many fingerprints a script drops at once. From indexes of a million members that takes half a millisecond, in
#: which Redis serves nobody else.
MOST_UNINDEXED: Final = 10

#: How long a record that is no session can live.
LONGEST_MS: Final = 366 * 86_400_000

RESERVE: Final = Script("reserve", "_record", "_index", repeatable=True)
UPDATE: Final = Script("update", "_index", repeatable=True, takes_many=True, pipe="follow_ups")
UNINDEX: Final = Script("unindex", "_record", repeatable=True)
MEMBERS: Final = Script("members", "_record", "_stretch", repeatable=True)
CLIENTS: Final = Script("clients", repeatable=True)


class Full(NamedTuple):
    """Which cap forbids a new record."""

    #: 1 for the endpoint's, or the part of it that the shard has; 2 for the principal's.
    cap: int
    #: The index that is full, and its key.
    home: str
    name: str
    key: bytes
    #: The time of the store in milliseconds.
    now_ms: int


class Place(NamedTuple):
    """Indexes of one shard that a record is in."""

    home: str
    #: The first counts for a cap.
    indexes: Sequence[str]
    #: In the shard of the record itself those of all records of its kind that are not by last activity: when they end,
    #: and their fingerprints. Else none.
    beside: Sequence[str]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.indexes, *self.beside)


class Entry(NamedTuple):
    """A member of an index."""

    fingerprint: str
    #: Its last activity in milliseconds since the epoch, as the index knows it.
    active_ms: int


def slack_ms(limits: Limits) -> int:
    """How much longer than its record an index entry may matter: it can be that much behind."""
    return 2 * limits.index_ms


def places(fingerprint: str, handshake: Handshake, principal: str, *, together: bool = False) -> list[Place]:
    """The indexes that hold a record: those in the shard of its fingerprint, then those in that of its principal.

    `together`: there is one shard, so that they are one place. Those of anonymous clients always are.
    """
    beside, own = _by_record(handshake)
    of_principal = _by_principal(principal, handshake.kind, handshake.label)
    home = keys.home_of(fingerprint)
    if together or principal == ANONYMOUS:
        return [Place(home, (own[0], *of_principal, *own[1:]), beside)]
    return [Place(home, own, beside), Place(keys.home_of_principal(principal), of_principal, ())]


@lru_cache(maxsize=4096)
def _by_record(handshake: Handshake) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is beside the indexes by last activity, and those in the shard of the record."""
    kind, label = handshake.kind, handshake.label
    own = [
        keys.activity_index(kind),
        keys.client_index(handshake.client_name, kind),
        keys.protocol_index(handshake.protocol_version, kind),
    ]
    if label:
        own.append(keys.label_index(label, kind))
    return (keys.ends_index(kind), keys.fingerprints_index(kind)), tuple(own)


@lru_cache(maxsize=4096)
def _by_principal(principal: str, kind: Kind, label: str) -> tuple[str, ...]:
    """The indexes of a principal. The first counts for a cap."""
    index = keys.principal_index(principal, kind)
    return (keys.owner_index(principal, label, kind), index) if label else (index,)


def of_all(kind: Kind) -> tuple[str, ...]:
    """The indexes of every record of a kind, whatever its client and principal."""
    return keys.activity_index(kind), keys.ends_index(kind), keys.fingerprints_index(kind)


def homes_of(*, principal: str | None, limits: Limits) -> Sequence[str]:
    """The homes of an index as `keys.homes` gives them: of all shards, or of the principal whose index it is."""
    if principal is None or principal == ANONYMOUS:
        return keys.homes(limits.shards)
    digits = keys.home_of_principal(principal)[len(keys.SHARD) :]
    return [keys.homes(limits.shards)[keys.shard_of(digits, limits.shards)]]


def reserve(
    fingerprint: str, *, principal: str, handshake: Handshake, limits: Limits, instead_of: str = ""
) -> Operation[Full | None]:
    """Take a new record's place in the indexes, unless a cap is reached: then it has none.

    With several shards each has its part of the endpoint's cap. `instead_of` is a fingerprint of the same principal for
    which there was no room in its own shard: in the principal's indexes, this one takes its place.
    """
    for place in reversed(places(fingerprint, handshake, principal, together=limits.shards == 1)):
        # Those of the principal first: who is at the own cap takes nobody else's place for a moment.
        full: Full | None
        [full] = yield [_reserve(fingerprint, place, principal, handshake, limits, instead_of)]
        if full is not None:
            return full
    return None


def update(session: Session, *, limits: Limits) -> list[Call[Any]]:
    """Put a record where its last activity belongs."""
    found = places(session.fingerprint, session.handshake, session.principal, together=limits.shards == 1)
    member, last, ends = bytes.fromhex(session.fingerprint), session.last_activity_ms, session.expires_ms
    calls = []
    for home, indexes, beside in found:
        parts = (keys.GONE, *indexes, *beside)
        arguments = (len(parts), len(indexes), member, last, ends, SWEPT_MS)
        calls.append(Call(UPDATE, home, parts, arguments, _nothing))
    return calls


def unindex(home: str, indexes: Sequence[str], entries: Iterable[Entry]) -> list[Call[None]]:
    """Drop records that are gone, and have not come again, from indexes of one shard, the first by last activity.

    One script drops 10 at most, so that others need not wait for it.
    """
    return _unindex(home, [(indexes, each) for each in entries])


def unindex_each(indexes: Sequence[str], entries: Sequence[Entry]) -> list[Call[None]]:
    """As `unindex`, each from indexes of its own shard."""
    return [call for each in entries for call in unindex(keys.home_of(each.fingerprint), indexes, [each])]


def unindex_all(sessions: Iterable[Session], *, shards: int, for_good: bool = False) -> list[Call[None]]:
    """Drop records that ended, and have not come again, from all of their indexes.

    `for_good`: they have tombstones, so that no session comes again, whatever the clocks of a Cluster's nodes say.
    """
    homes = keys.homes(shards)
    found: dict[str, list[tuple[Sequence[str], Entry]]] = {}
    for session in sessions:
        last = EVER if for_good and session.kind == "session" else session.last_activity_ms
        entry = Entry(session.fingerprint, last)
        for place in places(session.fingerprint, session.handshake, session.principal, together=shards == 1):
            home = homes[keys.shard_of(place.home[len(keys.SHARD) :], shards)]
            found.setdefault(home, []).append((place.names, entry))
    return [call for home, some in found.items() for call in _unindex(home, some)]


def _unindex(home: str, entries: Sequence[tuple[Sequence[str], Entry]]) -> list[Call[None]]:
    """Drop records from indexes of one shard; the first of those of each is one by last activity."""
    calls = []
    for start in range(0, len(entries), MOST_UNINDEXED):
        some = entries[start : start + MOST_UNINDEXED]
        # KEYS of the script, from 1; the first is the index of those that are gone.
        numbers = {
            name: n for n, name in enumerate(dict.fromkeys(name for names, _ in some for name in names), 2)
        }
        arguments: list[Any] = [GONE_MS]
        for names, entry in some:
            where = " ".join([str(numbers[name]) for name in names])
            arguments += (bytes.fromhex(entry.fingerprint), entry.active_ms, where)
        calls.append(Call(UNINDEX, home, (keys.GONE, *numbers), arguments, _nothing))
    return calls


def count(*, limits: Limits, kind: Kind = "session") -> Operation[int]:
    """How many sessions are open, or how many records of another kind there are, as the indexes know it."""
    return sum((yield _sizes(kind, matters_ms(limits, kind), limits.shards)))


def sizes(*, limits: Limits, kind: Kind) -> Operation[list[int]]:
    """How many entries of a kind each shard has, as they count for the cap."""
    found: list[int] = yield _sizes(kind, LONGEST_MS, limits.shards)
    return found


def clients(*, limits: Limits) -> Operation[list[str]]:
    """The names of the clients that opened sessions lately, most recent first, at most 100."""
    seen: dict[str, int] = {}
    # Nothing there is sealed, and a client may call itself what looks so.
    for names in (
        yield [
            Call(CLIENTS, home, (keys.CLIENTS,), (), _seen, skips_sealed=True)
            for home in keys.homes(limits.shards)
        ]
    ):
        for name, moment in names.items():
            seen[name] = max(moment, seen.get(name, 0))
    return sorted(seen, key=lambda name: (-seen[name], name))[:MOST_CLIENTS]


def matters_ms(limits: Limits, kind: Kind) -> int:
    """How long after its last update an index entry can belong to a record that is alive.

    Records that are no sessions have various lifetimes.
    """
    return max(limits.idle_ms, limits.first_ms) + slack_ms(limits) if kind == "session" else LONGEST_MS


def part_of(cap: int, home: str, shards: int) -> int:
    """The part of a cap that a shard has."""
    shard = keys.shard_of(home[len(keys.SHARD) :], shards)
    return cap // shards + (shard < cap % shards)


def _reserve(
    fingerprint: str,
    place: Place,
    principal: str,
    handshake: Handshake,
    limits: Limits,
    instead_of: str,
) -> Call[Full | None]:
    """Take the place in one shard."""
    caps: list[int] = []
    if place.beside and limits.max_sessions is not None:
        caps += (1, 1, part_of(limits.max_sessions, place.home, limits.shards))
    counts_for_principal = principal != ANONYMOUS and (not place.beside or limits.shards == 1)
    if counts_for_principal and limits.max_sessions_per_principal is not None:
        caps += (2, 2 if place.beside else 1, limits.max_sessions_per_principal)
    arguments = (
        bytes.fromhex(fingerprint),
        bytes.fromhex(instead_of),
        min(limits.first_ms, limits.max_age_ms),
        SWEPT_MS,
        len(place.indexes),
        storable(keys.client_label(handshake.client_name)),
        limits.max_age_ms,
        limits.max_age_ms + slack_ms(limits),
        *caps,
    )
    parts = (keys.GONE, *place.indexes, *((keys.CLIENTS, *place.beside) if place.beside else ()))

    def full(_: str, reply: Any) -> Full | None:
        if not reply:
            return None
        cap, key, now = reply
        index = place.indexes[1 if cap == 2 and place.beside else 0]
        return Full(cap, place.home, index, key, now)

    return Call(RESERVE, place.home, parts, arguments, full)


def _sizes(kind: Kind, matters: int, shards: int) -> list[Call[int]]:
    parts, arguments = (keys.activity_index(kind),), (matters, "", "", "desc", "", "", 0, 0)
    return [
        Call(MEMBERS, home, parts, arguments, lambda _, reply: int(reply[0])) for home in keys.homes(shards)
    ]


def _seen(_: str, reply: Any) -> dict[str, int]:
    return {
        restored(name.decode()): int(moment) for name, moment in zip(reply[::2], reply[1::2], strict=True)
    }


def _nothing(_: str, __: Any) -> None:
    return None
