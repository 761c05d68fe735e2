"""Keys with TTLs, values of Redis' types, and the commands that the scripts call, with the options that they use.

A command is a method with its name. It replies True for the status OK, False for nil, and a list for an array.
"""

import math
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import Any, Final

#: How many keys with a TTL one script checks for expiry, so that no script pays for all of them.
SWEPT_AT_ONCE: Final = 16

#: Of each what they are sorted by, and the rest.
Pairs = list[tuple[Any, Any]]

_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_FIRST: Final = itemgetter(0)


class Refused(Exception):
    """The command failed; the text is Redis' error."""


class Hash(dict[bytes, bytes]):
    """Values by their fields."""

    def hset(self, *pairs: bytes) -> int:
        before = len(self)
        self.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(self) - before

    def hsetnx(self, field: bytes, value: bytes) -> int:
        return 0 if field in self else self.hset(field, value)

    def hget(self, field: bytes) -> bytes | bool:
        return self.get(field, False)

    def hmget(self, *fields: bytes) -> list[bytes | bool]:
        return [self.get(field, False) for field in fields]

    def hgetall(self) -> list[bytes]:
        return [part for pair in self.items() for part in pair]

    def hdel(self, *fields: bytes) -> int:
        return sum([self.pop(field, None) is not None for field in fields])

    def hexists(self, field: bytes) -> int:
        return int(field in self)

    hlen = dict.__len__

    def hincrby(self, field: bytes, increment: bytes) -> int:
        total = _integer(increment) + _integer(self.get(field, b"0"), "ERR hash value is not an integer")
        self[field] = b"%d" % _integer(b"%d" % total, "ERR increment or decrement would overflow")
        return total


class Set(Hash):
    """Members; their values mean nothing."""

    def sadd(self, member: bytes) -> int:
        return self.hset(member, b"")

    sismember = Hash.hexists


class SortedSet(dict[bytes, float]):
    """Scores by member; `_order` has the pairs of score and member, sorted."""

    def __init__(self) -> None:
        super().__init__()
        self._order: Pairs = []

    def zadd(self, *arguments: bytes) -> int:
        """Takes one member. With `GT` a known one keeps its score unless the new one is greater."""
        *greater, text, member = arguments
        score, old = float(text), self.get(member)
        if old is None or (score > old if greater else score != old):
            self.zrem(member)
            self[member] = score
            insort(self._order, (score, member))
        return int(old is None)

    def zrem(self, *members: bytes) -> int:
        removed = [(self.pop(member), member) for member in members if member in self]
        for pair in removed:
            del self._order[bisect_left(self._order, pair)]
        return len(removed)

    def zscore(self, member: bytes) -> bytes | bool:
        return as_text(self[member]) if member in self else False

    def zmscore(self, *members: bytes) -> list[bytes | bool]:
        return [self.zscore(member) for member in members]

    zcard = dict.__len__

    def zcount(self, low: bytes, high: bytes) -> int:
        return len(_span(self._order, low, high, float))

    def zrange(self, first: bytes | int, last: bytes | int, *with_scores: bytes) -> list[bytes]:
        """From one rank to another, both included; negative ones count from the end."""
        start, stop = [int(rank) + len(self) if int(rank) < 0 else int(rank) for rank in (first, last)]
        pairs = self._order[max(0, start) : max(0, stop + 1)]
        if with_scores:
            return [part for score, member in pairs for part in (member, as_text(score))]
        return [member for _, member in pairs]

    def zrangebyscore(self, low: bytes, high: bytes, *limit: bytes) -> list[bytes]:
        """`LIMIT` from 0 only."""
        return [member for _, member in _span(self._order, low, high, float, *limit[2:])]

    def zrangebylex(self, low: bytes, high: bytes, *limit: bytes) -> list[bytes]:
        """Of members with equal scores; bounds begin with `[` or `(`, or are `+`; `LIMIT` from 0 only."""
        members = [member for _, member in self._order]
        start = (bisect_right if low[:1] == b"(" else bisect_left)(members, low[1:])
        stop = (
            len(members)
            if high == b"+"
            else (bisect_left if high[:1] == b"(" else bisect_right)(members, high[1:])
        )
        return members[start:stop][: int(limit[2])]

    def zremrangebyrank(self, first: bytes, last: bytes) -> int:
        return self.zrem(*self.zrange(first, last))

    def zremrangebyscore(self, low: bytes, high: bytes) -> int:
        return self.zrem(*self.zrangebyscore(low, high))


class Stream(Pairs):
    """Ids, as pairs of milliseconds and a number, with what a range replies for each.

    The scripts never delete the newest entry, so its id is the last one that was given.
    """

    def xadd(self, now: int, *arguments: bytes) -> bytes:
        """Takes one field. `MAXLEN ~` trims exactly, as Redis may, too."""
        *trimming, name, field, value = arguments
        last = self[-1][0] if self else (0, 0)
        new = max((now, 0), (last[0], last[1] + 1)) if name == b"*" else _stream_id(name)
        if new <= last:
            raise Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        text = b"%d-%d" % new
        self.append((new, [text, [field, value]]))
        if trimming:
            del self[: -int(trimming[-1])]
        return text

    xlen = list.__len__

    def xdel(self, entry: bytes) -> int:
        found = _span(self, entry, entry, _stream_id)
        for pair in found:
            self.remove(pair)
        return len(found)

    def xrange(self, start: bytes, end: bytes, *count: bytes) -> list[Any]:
        return [entry for _, entry in _span(self, start, end, _stream_id, *count[1:])]

    def xrevrange(self, end: bytes, start: bytes, *count: bytes) -> list[Any]:
        return self.xrange(start, end)[::-1][: int(count[1])]


class Keyspace:
    """Every key. The clock stands still between two calls of `begin`, as it does for a script in Redis."""

    def __init__(self) -> None:
        #: Milliseconds since the epoch.
        self.now = 0
        #: The streams that got an entry since the list was last replaced.
        self.appended: list[bytes] = []
        self._values: dict[bytes, Any] = {}
        #: Until when each key with a TTL lives (ms).
        self._ends: dict[bytes, int] = {}
        #: Of each key with a TTL an entry that is due at its end or before. Entries of keys that are gone are dropped
        #: when they are due, and all at once when they are the most.
        self._queue: list[tuple[int, bytes]] = []
        #: By the names that scripts call. An XADD must know the key and the time, so it is the one of this class.
        self.commands: dict[bytes, Callable[..., Any]] = {
            name.upper().encode(): partial(self._apply, kind, command)
            for kind in (Hash, Set, SortedSet, Stream)
            for name, command in vars(kind).items()
            if not name.startswith("_")
        }
        for own in (self.get, self.set, self.exists, self.pexpire, self.pttl, self.xadd):
            self.commands[own.__name__.upper().encode()] = own
        self.commands[b"DEL"] = self.delete

    def __len__(self) -> int:
        return len(self._values)

    def begin(self, now: int) -> None:
        """Set the clock, and drop some of the keys whose time is up."""
        self.now = now
        for _ in range(SWEPT_AT_ONCE):
            if not self._queue or self._queue[0][0] >= now:
                break
            _, key = heappop(self._queue)
            if self.find(key) is not None and key in self._ends:
                heappush(self._queue, (self._ends[key], key))

    def find(self, key: bytes, kind: type[Any] | None = None) -> Any:
        """The value of a key, None if there is none. Raises: Refused if it is of another type."""
        if self._ends.get(key, math.inf) < self.now:
            del self._ends[key], self._values[key]
        found = self._values.get(key)
        if found is None or kind is None or type(found) is kind:
            return found
        raise Refused("WRONGTYPE Operation against a key holding the wrong kind of value")

    def get(self, key: bytes) -> bytes | bool:
        value = self.find(key, bytes)
        return False if value is None else value

    def set(self, key: bytes, value: bytes, option: bytes = b"", milliseconds: bytes = b"") -> bool:
        """Replies True for the status OK."""
        self.find(key)
        self._values[key] = value
        if option == b"PX":
            self.pexpire(key, milliseconds)
        elif option != b"KEEPTTL":
            self._ends.pop(key, None)
        return True

    def delete(self, *keys: bytes) -> int:
        found = {key for key in keys if self.exists(key)}
        for key in found:
            del self._values[key]
            self._ends.pop(key, None)
        return len(found)

    def exists(self, key: bytes) -> int:
        return int(self.find(key) is not None)

    def pexpire(self, key: bytes, milliseconds: bytes) -> int:
        end = self.now + int(milliseconds)
        if not self.exists(key):
            return 0
        if end <= self.now:
            return self.delete(key)
        if end < self._ends.get(key, math.inf):
            heappush(self._queue, (end, key))
        self._ends[key] = end
        if len(self._queue) > 2 * len(self._ends) + SWEPT_AT_ONCE:
            self._queue = [(end, key) for key, end in self._ends.items()]
            heapify(self._queue)
        return 1

    def pttl(self, key: bytes) -> int:
        return self._ends.get(key, self.now - 1) - self.now if self.exists(key) else -2

    def xadd(self, key: bytes, *arguments: bytes) -> bytes:
        entry: bytes = self._apply(Stream, Stream.xadd, key, self.now, *arguments)
        self.appended.append(key)
        return entry

    def _apply(self, kind: type[Any], command: Callable[..., Any], key: bytes, *arguments: Any) -> Any:
        """Run a command of a type of values. There is no key with an empty value. Raises: Refused."""
        found = self.find(key, kind)
        value = kind() if found is None else found
        reply = command(value, *arguments)
        if value:
            self._values[key] = value
        elif found is not None:
            self.delete(key)
        return reply


def as_text(number: Any) -> bytes:
    """A number as Redis writes it, integers up to 2**53. Raises: Refused if it is none."""
    if type(number) is not int and type(number) is not float:
        raise Refused("ERR Command arguments must be strings or integers")
    return b"%.17g" % number


def _integer(text: bytes, otherwise: str = "ERR value is not an integer or out of range") -> int:
    """The integer of 64 bits that a text is, in the one way to write it. Raises: Refused."""
    if not _INTEGER.fullmatch(text) or not -(2**63) <= (number := int(text)) < 2**63:
        raise Refused(otherwise)
    return number


def _stream_id(text: bytes) -> tuple[int, int]:
    if text in {b"-", b"+"}:
        return (0, 0) if text == b"-" else (2**64, 0)
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number or 0)


def _span(pairs: Pairs, low: bytes, high: bytes, parse: Callable[[bytes], Any], most: bytes = b"") -> Pairs:
    """The pairs whose first part lies in an interval, at most so many; `(` leaves a bound itself out."""
    start = (bisect_right if low[:1] == b"(" else bisect_left)(pairs, parse(low.lstrip(b"(")), key=_FIRST)
    stop = (bisect_left if high[:1] == b"(" else bisect_right)(pairs, parse(high.lstrip(b"(")), key=_FIRST)
    return pairs[start : min(stop, start + int(most)) if most else stop]
