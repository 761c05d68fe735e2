"""Sorted sets and the commands on them."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from mcp_sessions.store.engine.keyspace import SYNTAX, Keyspace, Refused, Reply, as_text, integer

_FLOAT: Final = re.compile(rb"(?i)[+-]?(?:inf(?:inity)?|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)")
_SCORE: Final = itemgetter(0)

#: A score, and whether that score itself is left out.
Bound = tuple[float, bool]


class SortedSet:
    """Scores by member, and pairs of score and member in order."""

    __slots__ = ("order", "scores")

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.order: list[tuple[float, bytes]] = []

    def put(self, member: bytes, score: float) -> None:
        self.discard(member)
        self.scores[member] = score
        insort(self.order, (score, member))

    def discard(self, member: bytes) -> bool:
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.order[bisect_left(self.order, (score, member))]
        return True

    def discard_slice(self, part: slice) -> int:
        discarded = self.order[part]
        del self.order[part]
        for _, member in discarded:
            del self.scores[member]
        return len(discarded)

    def by_score(self, low: Bound, high: Bound) -> slice:
        start = (bisect_right if low[1] else bisect_left)(self.order, low[0], key=_SCORE)
        stop = (bisect_left if high[1] else bisect_right)(self.order, high[0], key=_SCORE)
        return slice(start, max(start, stop))

    def by_rank(self, first: int, last: int) -> slice:
        """From one rank to another, both included; negative ones count from the end."""
        count = len(self.order)
        start = max(0, first + count if first < 0 else first)
        return slice(start, max(start, (last + count if last < 0 else last) + 1))


def _members(keys: Keyspace, key: bytes) -> SortedSet:
    return keys.value(key, SortedSet) or SortedSet()


def _float(text: bytes, otherwise: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise Refused(otherwise)
    return float(text)


def _bounds(low: bytes, high: bytes) -> tuple[Bound, Bound]:
    low_out, high_out = low.startswith(b"("), high.startswith(b"(")
    wrong = "ERR min or max is not a float"
    return (_float(low[low_out:], wrong), low_out), (_float(high[high_out:], wrong), high_out)


def zadd(keys: Keyspace, key: bytes, first: bytes, second: bytes, *more: bytes) -> Reply:
    pairs = (first, second, *more)
    only_greater = first == b"GT"
    if only_greater:
        pairs = pairs[1:]
    if len(pairs) % 2:
        raise Refused(SYNTAX)
    scores = [_float(text, "ERR value is not a valid float") for text in pairs[::2]]
    members = keys.made(key, SortedSet)
    before = len(members.order)
    for score, member in zip(scores, pairs[1::2], strict=True):
        known = members.scores.get(member)
        if known is None or (score > known if only_greater else score != known):
            members.put(member, score)
    return len(members.order) - before


def zrem(keys: Keyspace, key: bytes, member: bytes, *more: bytes) -> Reply:
    members = _members(keys, key)
    return keys.removed(key, members.order, sum([members.discard(each) for each in (member, *more)]))


def zscore(keys: Keyspace, key: bytes, member: bytes) -> Reply:
    score = _members(keys, key).scores.get(member)
    return False if score is None else as_text(score)


def zcard(keys: Keyspace, key: bytes) -> Reply:
    return len(_members(keys, key).order)


def zcount(keys: Keyspace, key: bytes, low: bytes, high: bytes) -> Reply:
    bounds = _bounds(low, high)
    part = _members(keys, key).by_score(*bounds)
    return int(part.stop - part.start)


def zrange(keys: Keyspace, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
    ranks = integer(first), integer(last)
    _check_scores_only(options)
    members = _members(keys, key)
    return _listed(members.order[members.by_rank(*ranks)], options)


def zrevrange(keys: Keyspace, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
    start, stop = integer(first), integer(last)
    _check_scores_only(options)
    members = _members(keys, key)
    # Ranks from the other end: the first from the end is -1.
    start, stop = -1 - stop, -1 - start
    return _listed(members.order[members.by_rank(start, stop)][::-1], options)


def _check_scores_only(options: Sequence[bytes]) -> None:
    if options not in {(), (b"WITHSCORES",)}:
        raise Refused(SYNTAX)


def _listed(pairs: Sequence[tuple[float, bytes]], options: Sequence[bytes]) -> Reply:
    if not options:
        return [member for _, member in pairs]
    return [part for score, member in pairs for part in (member, as_text(score))]


def zrangebyscore(keys: Keyspace, key: bytes, low: bytes, high: bytes, *options: bytes) -> Reply:
    bounds = _bounds(low, high)
    offset, count = 0, -1
    if options:
        if len(options) != 3 or options[0] != b"LIMIT":
            raise Refused(SYNTAX)
        offset, count = integer(options[1]), integer(options[2])
    members = _members(keys, key)
    part = members.by_score(*bounds)
    if offset < 0:
        return []
    start = part.start + offset
    stop = part.stop if count < 0 else min(part.stop, start + count)
    return [member for _, member in members.order[start:stop]]


def zremrangebyrank(keys: Keyspace, key: bytes, first: bytes, last: bytes) -> Reply:
    ranks = integer(first), integer(last)
    members = _members(keys, key)
    return keys.removed(key, members.order, members.discard_slice(members.by_rank(*ranks)))


def zremrangebyscore(keys: Keyspace, key: bytes, low: bytes, high: bytes) -> Reply:
    bounds = _bounds(low, high)
    members = _members(keys, key)
    return keys.removed(key, members.order, members.discard_slice(members.by_score(*bounds)))


COMMANDS: Final = {
    b"ZADD": zadd,
    b"ZREM": zrem,
    b"ZSCORE": zscore,
    b"ZCARD": zcard,
    b"ZCOUNT": zcount,
    b"ZRANGE": zrange,
    b"ZREVRANGE": zrevrange,
    b"ZRANGEBYSCORE": zrangebyscore,
    b"ZREMRANGEBYRANK": zremrangebyrank,
    b"ZREMRANGEBYSCORE": zremrangebyscore,
}
