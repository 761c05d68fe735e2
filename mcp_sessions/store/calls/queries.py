"""Which sessions there are, for the admin and the operator. Index entries of sessions that are gone are dropped.

One condition is an index. Where several hold, the smallest of their indexes is walked in order, in pieces, and each
piece is looked up in the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.records import FINGERPRINT, FINGERPRINT_PREFIX, Kind, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Operation, Script
from mcp_sessions.store.calls import indexes, ranges, reading
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.ranges import PIECE, Located, Stretched, Walked

#: An index with so many entries is walked whole, so that what matches is counted exactly.
WHOLE: Final = 10_000
#: Entries of an endpoint that one round trip walks at most: 10 ms of Redis, in commands of half a millisecond.
MOST_WALKED: Final = 10_000
#: Entries that may have come to a shard since they were counted.
_GROWTH: Final = 50
#: How much more is walked than would do if conditions were independent.
_MORE: Final = 1.5

PREFIX: Final = Script("prefix", repeatable=True)
HAVING: Final = Script("having", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of sessions, newest activity first."""

    #: The sessions of the page. Those that ended since they were indexed are left out.
    sessions: Sequence[Session]
    #: How many sessions match, as the index knows it.
    total: int
    #: The last entry that was read, after which the next page begins; None if there was none.
    last: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list: conditions that all hold, and activity bounds."""

    kind: Kind = "session"
    client: str | None = None
    protocol: str | None = None
    principal: str | None = None
    label: str | None = None
    #: Last activity at or after / strictly before, milliseconds since the epoch.
    active_since_ms: int | None = None
    active_before_ms: int | None = None
    #: Oldest activity first.
    ascending: bool = False

    def admits(self, session: Session) -> bool:
        """Whether a record meets the conditions. The bounds are left to its place in the index."""
        client, shown = self.client, session.handshake.client_name
        return (
            self.kind == session.kind
            and (client is None or keys.client_label(client) == keys.client_label(shown))
            and self.protocol in (None, session.handshake.protocol_version)
            and self.principal in (None, session.principal)
            and self.label in (None, session.label)
        )


class Found(NamedTuple):
    """Entries of records that match, in order, and how many there are."""

    entries: Sequence[Located]
    total: int
    #: Whether there are no more than that.
    exact: bool
    #: Up to which entry, it included, everything was looked at; None: to the end.
    reached: Entry | None


def page(
    query: Query, *, limits: Limits, offset: int = 0, limit: int, after: Entry | None = None
) -> Operation[Page]:
    """One page by last activity, at an offset, or after an entry. Scores are read first, and then the records.

    That is one range read and one pipeline where the index is in one shard, whatever the number of sessions. With
    several shards, it is one more round trip beyond the first 500. Raises: UnsupportedLookup for an offset with several
    conditions.
    """
    if offset:
        [index, *others] = stretches(query, limits)
        if others:
            raise UnsupportedLookup("Records that meet several conditions are listed from the first one on.")
        stretch = yield from ranges.at(index, offset=offset, limit=limit)
        found = Found(stretch.entries, stretch.total, exact=True, reached=None)
    else:
        found = yield from entries(query, limits=limits, limit=limit, after=after)
    shown = found.entries[:limit]
    alive = yield from records(query, shown, limits=limits)
    return Page(
        sessions=alive,
        total=found.total - (len(shown) - len(alive)),
        last=shown[-1].entry if shown and len(shown) == limit else found.reached,
    )


def entries(query: Query, *, limits: Limits, limit: int, after: Entry | None = None) -> Operation[Found]:
    """The first entries of what matches, or those after one, in at most three round trips.

    If several conditions hold, there may be fewer than `limit` although more match: look on after `reached`.
    """
    [index, *others] = stretches(query, limits)
    if others:
        return (yield from _combined(query, [index, *others], limits, limit, after))
    stretch = yield from (
        ranges.at(index, offset=0, limit=limit) if after is None else ranges.after(index, after, limit=limit)
    )
    reached = stretch.entries[-1].entry if stretch.entries and len(stretch.entries) == limit else None
    return Found(stretch.entries, stretch.total, exact=True, reached=reached)


def newest(kind: Kind, *, limits: Limits) -> Operation[int]:
    """The last activity in milliseconds since the epoch; 0 without records.

    No record was created later, and if the store's clock was set back, this may be ahead of it.
    """
    found = yield from entries(Query(kind=kind), limits=limits, limit=1)
    return found.entries[0].entry.active_ms if found.entries else 0


def records(query: Query, found: Sequence[Located], *, limits: Limits) -> Operation[list[Session]]:
    """The records of entries, in order, without those that are gone, which are dropped from the indexes."""
    index = stretches(query, limits)[0].index
    alive = yield from reading.alive(index, found, kind=query.kind)
    return [session for session in alive if query.admits(session)]


def find(prefix: str, *, limits: Limits, limit: int, kind: Kind = "session") -> Operation[list[Session]]:
    """Records of a kind whose fingerprint starts with `prefix`, hexadecimal, at least 8 digits."""
    if not FINGERPRINT_PREFIX.match(prefix):
        return []
    if FINGERPRINT.match(prefix):
        [session] = yield [reading.get(prefix)]
        return [] if session is None or session.kind != kind else [session]
    home = keys.home_of(prefix)
    even, length = len(prefix) % 2, (len(prefix) + 1) // 2
    first = int(prefix + "0" * even, 16)
    behind = first + (16 if even else 1)
    bounds = (first.to_bytes(length), b"" if behind == 256**length else behind.to_bytes(length))
    [members] = yield [Call(PREFIX, home, (keys.fingerprints_index(kind),), (*bounds, limit), _fingerprints)]
    # As if they had never been active: one that is being made has its place, but no record yet.
    found = [Located(Entry(each, 0), home) for each in members]
    return (yield from reading.alive(keys.activity_index(kind), found, kind=kind))


def _combined(
    query: Query, combined: Sequence[Stretched], limits: Limits, limit: int, after: Entry | None
) -> Operation[Found]:
    """Walk the smallest of several indexes."""
    everything = stretches(Query(kind=query.kind), limits)[0]
    *sizes, all_of_kind = yield from ranges.sizes([*combined, everything])
    counts = [sum(of_each.values()) for of_each in sizes]
    smallest = min(range(len(counts)), key=counts.__getitem__)
    walked, of_each = combined[smallest], sizes[smallest]
    if not counts[smallest]:
        return Found([], 0, exact=True, reached=None)
    others = [each for each in combined if each is not walked]
    here = replace(walked, others=[each.index for each in others if each.homes == walked.homes])
    elsewhere = [each for each in others if each.homes != walked.homes]
    if counts[smallest] <= WHOLE:
        grown = {home: size + _GROWTH for home, size in of_each.items()}
        found = yield from _walk(here, elsewhere, None, grown, limits)
        is_later = _later(query, after)
        behind = [each for each in found.entries if is_later(each.entry)]
        cut = behind[:limit]
        reached = cut[-1].entry if len(cut) < len(behind) else None
        return Found(cut, len(found.entries), exact=True, reached=reached)
    expected = 1.0
    for number, count in enumerate(counts):
        expected *= 1.0 if number == smallest else min(1.0, count / max(1, sum(all_of_kind.values())))
    most = min(MOST_WALKED, max(2 * PIECE, round(_MORE * limit / expected)))
    found = yield from _walk(here, elsewhere, after, _spread(most, of_each), limits)
    if len(found.entries) < limit and found.reached is not None:
        more = yield from _walk(here, elsewhere, found.reached, _spread(MOST_WALKED, of_each), limits)
        found = Walked([*found.entries, *more.entries], more.reached)
    # Those that come before `after` are not known.
    exact = after is None and found.reached is None
    return Found(found.entries, len(found.entries), exact=exact, reached=found.reached)


def _spread(most: int, of_each: Mapping[str, int]) -> dict[str, int]:
    """So many entries in all, of each home its part of what it has."""
    total = sum(of_each.values())
    return {home: min(size, ceil(most * size / total)) for home, size in of_each.items()}


def _walk(
    index: Stretched,
    elsewhere: Sequence[Stretched],
    after: Entry | None,
    most: dict[str, int],
    limits: Limits,
) -> Operation[Walked]:
    """Walk an index, and look up what was found in those that are in other shards."""
    found = yield from ranges.walk(index, after, most=most)
    left = list(found.entries)
    homes = keys.homes(limits.shards)
    calls: list[Call[Any]] = []
    for other in elsewhere:
        by_home: dict[str, list[bytes]] = {}
        for each in left:
            shard = keys.shard_of(each.entry.fingerprint, limits.shards)
            home = other.homes[0] if len(other.homes) == 1 else homes[shard]
            by_home.setdefault(home, []).append(bytes.fromhex(each.entry.fingerprint))
        calls += [
            Call(HAVING, home, (other.index,), some[start : start + PIECE], _fingerprints)
            for home, some in by_home.items()
            for start in range(0, len(some), PIECE)
        ]
    if not calls:
        return found
    in_indexes: dict[str, set[str]] = {}
    for call, members in zip(calls, (yield calls), strict=True):
        in_indexes.setdefault(call.parts[0], set()).update(members)
    in_all = set.intersection(*in_indexes.values())
    return Walked([each for each in left if each.entry.fingerprint in in_all], found.reached)


def _later(query: Query, after: Entry | None) -> Callable[[Entry], bool]:
    """Tells whether an entry comes after one in the order of the list; None: all do."""
    if after is None:
        return lambda _: True
    place = ranges.position(after)
    if query.ascending:
        return lambda entry: ranges.position(entry) > place
    return lambda entry: ranges.position(entry) < place


def stretches(query: Query, limits: Limits) -> list[Stretched]:
    """The indexes that a record must be in, each with the bounds. A principal's with a label are one."""
    kind, principal, label = query.kind, query.principal, query.label
    names: list[tuple[str, str | None]] = []
    if principal is not None and label is not None:
        names.append((keys.owner_index(principal, label, kind), principal))
    elif principal is not None:
        names.append((keys.principal_index(principal, kind), principal))
    elif label is not None:
        names.append((keys.label_index(label, kind), None))
    if query.client is not None:
        names.append((keys.client_index(query.client, kind), None))
    if query.protocol is not None:
        names.append((keys.protocol_index(query.protocol, kind), None))
    return [
        ranges.stretched(
            name,
            indexes.homes_of(principal=owner, limits=limits),
            limits=limits,
            kind=kind,
            since_ms=query.active_since_ms,
            before_ms=query.active_before_ms,
            ascending=query.ascending,
        )
        for name, owner in names or [(keys.activity_index(kind), None)]
    ]


def _fingerprints(_: str, reply: Any) -> list[str]:
    return [member.hex() for member in reply]
