"""Stretches of an index that is spread over shards, or of several indexes, merged: by last activity, then fingerprint.

What is merged are scores; records are read when it is known which. The first entries of all are one round trip. Deeper,
a first one finds out where the stretch is, from scores at even distances.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Final, NamedTuple

from mcp_sessions.conf import Limits
from mcp_sessions.records import Kind
from mcp_sessions.store.call import Call, Operation, Script
from mcp_sessions.store.calls.indexes import MEMBERS, Entry, matters_ms

#: Entries that one script reads: a third of a millisecond in which Redis serves nobody else.
PIECE: Final = 150
#: Entries of each shard that are read at once to find out which come first of all.
SHALLOW: Final = 500
#: How many scores at even distances tell where a stretch is.
DISTANCES: Final = 128

QUANTILES: Final = Script("quantiles", "_record", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretched:
    """An index that is read in one order, between two bounds."""

    index: str
    #: The shards that it is in.
    homes: Sequence[str]
    #: How long a member can matter, in milliseconds.
    matters_ms: int
    #: Last activity at or after / strictly before, milliseconds since the epoch.
    since_ms: int | None = None
    before_ms: int | None = None
    ascending: bool = False
    #: Indexes in the same shards. An entry is left out unless it is in all of them.
    others: Sequence[str] = ()


class Located(NamedTuple):
    """An entry, and the home of its shard."""

    entry: Entry
    home: str


class Stretch(NamedTuple):
    """Some entries in order."""

    entries: Sequence[Located]
    #: How many match in all.
    total: int


class Walked(NamedTuple):
    """What a walk along an index found."""

    #: In order.
    entries: Sequence[Located]
    #: Up to which entry, it included, everything was looked at; None: to the end.
    reached: Entry | None


class _Part(NamedTuple):
    """What one shard replied."""

    home: str
    total: int
    #: How many entries come before these.
    start: int
    entries: Sequence[Entry]
    #: The last one that was read, whether or not it is among these; None if nothing was.
    last: Entry | None


class _Quantiles(NamedTuple):
    """Scores of the entries at even distances, from the first one on; negative ones if the list is descending."""

    home: str
    total: int
    distance: int
    scores: Sequence[int]

    def at_least(self, score: int) -> int:
        """How many entries come before this score, at least."""
        before = bisect_left(self.scores, score)
        return (before - 1) * self.distance + 1 if before else 0

    def at_most(self, score: int) -> int:
        """At most."""
        return min(self.total, bisect_left(self.scores, score) * self.distance)


def stretched(
    index: str,
    homes: Sequence[str],
    *,
    limits: Limits,
    kind: Kind,
    since_ms: int | None = None,
    before_ms: int | None = None,
    ascending: bool = False,
) -> Stretched:
    """The index of a kind of records."""
    return Stretched(
        index=index,
        homes=homes,
        matters_ms=matters_ms(limits, kind),
        since_ms=since_ms,
        before_ms=before_ms,
        ascending=ascending,
    )


def after(index: Stretched, cursor: Entry, *, limit: int) -> Operation[Stretch]:
    """The entries that follow one, which need not be there any more."""
    parts = yield from _pieces(index, dict.fromkeys(index.homes, limit), cursor)
    return _merged(index, parts, 0, limit)


def at(index: Stretched, *, offset: int, limit: int) -> Operation[Stretch]:
    """The entries from a rank on."""
    if len(index.homes) == 1:
        parts = yield from _pieces(index, {index.homes[0]: limit}, offset=offset)
        return _merged(index, parts, 0, limit)
    if offset + limit <= SHALLOW:
        parts = yield from _pieces(index, dict.fromkeys(index.homes, offset + limit))
        return _merged(index, parts, offset, limit)
    known = yield [_quantiles(home, index) for home in index.homes]
    scores = sorted({score for each in known for score in each.scores})
    # The last score before which no entry of the stretch can be, and the first one before which all of it is.
    first = bisect_right(scores, offset, key=lambda score: sum(each.at_most(score) for each in known)) - 1
    last = bisect_left(scores, offset + limit, key=lambda score: sum(each.at_least(score) for each in known))
    skipped = {each.home: each.at_least(scores[first]) if first >= 0 else 0 for each in known}
    ends = {each.home: each.at_most(scores[last]) if last < len(scores) else each.total for each in known}
    # Each shard says how many entries come before: then the stretch is exact, although the distances are rough.
    # One more, so that a shard that has nothing of it says that, too.
    wanted = {each.home: ends[each.home] - skipped[each.home] + 1 for each in known}
    begin = Entry("", abs(scores[first])) if first >= 0 else None
    parts = yield from _pieces(index, wanted, begin)
    return _merged(index, parts, offset - sum({part.home: part.start for part in parts}.values()), limit)


def sizes(stretches: Sequence[Stretched]) -> Operation[list[dict[str, int]]]:
    """How many entries of each home match the bounds of each, in one round trip; other indexes do not count."""
    asked = [(number, home) for number, index in enumerate(stretches) for home in index.homes]
    found: list[dict[str, int]] = [{} for _ in stretches]
    parts = yield [_members(home, stretches[number], None, 0, 0) for number, home in asked]
    for (number, home), part in zip(asked, parts, strict=True):
        found[number][home] = part.total
    return found


def walk(index: Stretched, after: Entry | None, *, most: dict[str, int]) -> Operation[Walked]:
    """Look at so many entries of each home, from the first one or after one. Returns those that are in all indexes."""
    parts = yield from _pieces(index, most, after)
    order = _order(index)
    furthest: dict[str, Entry] = {}
    for part in parts:
        if part.last is not None and part.total - part.start > most[part.home]:
            known = furthest.get(part.home, part.last)
            furthest[part.home] = max(known, part.last, key=order)
    reached = min(furthest.values(), key=order, default=None)
    found = _merged(index, parts, 0, sum(len(part.entries) for part in parts)).entries
    if reached is not None:
        found = [each for each in found if order(each.entry) <= order(reached)]
    return Walked(found, reached)


def _pieces(
    index: Stretched, wanted: dict[str, int], begin: Entry | None = None, *, offset: int = 0
) -> Operation[list[_Part]]:
    """So many entries of each shard, in scripts that take no longer than a millisecond."""
    parts: list[_Part] = yield [
        _members(home, index, begin, offset + piece * PIECE, min(PIECE, count - piece * PIECE))
        for home, count in wanted.items()
        for piece in range(max(1, ceil(count / PIECE)))
    ]
    return parts


def _merged(index: Stretched, parts: Sequence[_Part], offset: int, limit: int) -> Stretch:
    found = {each.fingerprint: Located(each, part.home) for part in parts for each in part.entries}
    order = sorted(found.values(), key=lambda each: position(each.entry), reverse=not index.ascending)
    total = sum({part.home: part.total for part in parts}.values())
    return Stretch(order[max(0, offset) : max(0, offset) + limit], total)


def position(entry: Entry) -> tuple[int, str]:
    """Where an entry is in a list of the oldest first."""
    return entry.active_ms, entry.fingerprint


def _order(index: Stretched) -> Callable[[Entry], tuple[int, int]]:
    """Where an entry is in the order in which the index is read."""
    sign = 1 if index.ascending else -1
    return lambda entry: (sign * entry.active_ms, sign * int(entry.fingerprint, 16))


def _bounds(index: Stretched) -> Iterable[Any]:
    bounds = ["" if bound is None else bound for bound in (index.since_ms, index.before_ms)]
    return (index.matters_ms, *bounds, "asc" if index.ascending else "desc")


def _members(home: str, index: Stretched, begin: Entry | None, offset: int, limit: int) -> Call[_Part]:
    """Some entries of one shard. `begin` is the entry after which they begin; without a fingerprint, their score."""
    score, member = ("", b"") if begin is None else (begin.active_ms, bytes.fromhex(begin.fingerprint))
    arguments = (*_bounds(index), score, member, offset, limit)
    return Call(MEMBERS, home, (index.index, *index.others), arguments, _part)


def _quantiles(home: str, index: Stretched) -> Call[_Quantiles]:
    sign = 1 if index.ascending else -1
    return Call(QUANTILES, home, (index.index,), (*_bounds(index), DISTANCES), partial(_scores, sign))


def _part(home: str, reply: Any) -> _Part:
    total, start, flat, last = reply
    return _Part(home, total, start, list(_entries(flat)), next(_entries(last), None))


def _entries(flat: Sequence[bytes]) -> Iterator[Entry]:
    for member, score in zip(flat[::2], flat[1::2], strict=True):
        yield Entry(member.hex(), int(score))


def _scores(sign: int, home: str, reply: Any) -> _Quantiles:
    total, distance, scores = reply
    return _Quantiles(home, total, distance, [sign * int(score) for score in scores])
