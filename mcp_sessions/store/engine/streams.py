"""Streams and the commands on them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from mcp_sessions.store.engine.keyspace import SYNTAX, Keyspace, Refused, Reply, integer

#: Milliseconds and a number.
StreamId = tuple[int, int]
#: An id, then its fields and values in turn.
Entry = tuple[StreamId, tuple[bytes, ...]]

_ID: Final = re.compile(rb"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_LARGEST: Final = 2**64 - 1
_OLDEST: Final = (0, 0)
_NEWEST: Final = (_LARGEST, _LARGEST)
_BY_ID: Final = itemgetter(0)


class Stream:
    """Entries by their ids, and the last id that was given."""

    __slots__ = ("entries", "last")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.last: StreamId = _OLDEST

    def between(self, low: StreamId, high: StreamId) -> list[Entry]:
        start = bisect_left(self.entries, low, key=_BY_ID)
        return self.entries[start : bisect_right(self.entries, high, key=_BY_ID)]

    def after(self, last: StreamId, count: int) -> list[Entry]:
        start = bisect_right(self.entries, last, key=_BY_ID)
        return self.entries[start : start + count]

    def discard(self, entry: StreamId) -> bool:
        place = bisect_left(self.entries, entry, key=_BY_ID)
        found = self.entries[place : place + 1]
        if not found or found[0][0] != entry:
            return False
        del self.entries[place]
        return True


def as_text(entry: StreamId) -> bytes:
    return b"%d-%d" % entry


def stream_id(text: bytes, number: int = 0) -> StreamId:
    """The id that a text is; `number` where it names milliseconds only. Raises: Refused."""
    parts = _ID.fullmatch(text)
    found = (int(parts[1]), number if parts[2] is None else int(parts[2])) if parts else None
    if found is None or found > _NEWEST or found[1] > _LARGEST:
        raise Refused("ERR Invalid stream ID specified as stream command argument")
    return found


def _following(entry: StreamId) -> StreamId:
    return (entry[0], entry[1] + 1) if entry[1] < _LARGEST else (entry[0] + 1, 0)


def _from(text: bytes) -> StreamId:
    """The first id of an interval."""
    if text == b"-":
        return _OLDEST
    if not text.startswith(b"("):
        return stream_id(text)
    found = stream_id(text[1:])
    if found == _NEWEST:
        raise Refused("ERR invalid start ID for the interval")
    return _following(found)


def _to(text: bytes) -> StreamId:
    """The last id of an interval."""
    if text == b"+":
        return _NEWEST
    if not text.startswith(b"("):
        return stream_id(text, _LARGEST)
    milliseconds, number = stream_id(text[1:], _LARGEST)
    if (milliseconds, number) == _OLDEST:
        raise Refused("ERR invalid end ID for the interval")
    return (milliseconds, number - 1) if number else (milliseconds - 1, _LARGEST)


def xadd(keys: Keyspace, key: bytes, first: bytes, second: bytes, third: bytes, *more: bytes) -> Reply:
    """`MAXLEN ~` trims exactly: Redis may do so, too."""
    arguments, most = [first, second, third, *more], None
    if first == b"MAXLEN":
        given = 2 if second == b"~" else 1
        most = integer(arguments[given])
        if most < 0:
            raise Refused("ERR The MAXLEN argument must be >= 0.")
        arguments = arguments[given + 1 :]
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise Refused("ERR wrong number of arguments for 'xadd' command")
    name, *fields = arguments
    chosen = None if name == b"*" else stream_id(name)
    if chosen == _OLDEST:
        raise Refused("ERR The ID specified in XADD must be greater than 0-0")
    stream = keys.made(key, Stream)
    new = chosen or max((keys.now, 0), _following(stream.last))
    if new <= stream.last:
        raise Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    stream.last = new
    stream.entries.append((new, tuple(fields)))
    if most is not None:
        del stream.entries[: max(0, len(stream.entries) - most)]
    keys.appended.append(key)
    return as_text(new)


def xlen(keys: Keyspace, key: bytes) -> Reply:
    stream = keys.value(key, Stream)
    return len(stream.entries) if stream else 0


def xdel(keys: Keyspace, key: bytes, entry: bytes, *more: bytes) -> Reply:
    stream = keys.value(key, Stream)
    if stream is None:
        return 0
    entries = [stream_id(each) for each in (entry, *more)]
    return sum([stream.discard(each) for each in entries])


def xrange(keys: Keyspace, key: bytes, start: bytes, end: bytes, *options: bytes) -> Reply:
    return _entries(keys, key, (_from(start), _to(end)), options, 1)


def xrevrange(keys: Keyspace, key: bytes, end: bytes, start: bytes, *options: bytes) -> Reply:
    return _entries(keys, key, (_from(start), _to(end)), options, -1)


def _entries(
    keys: Keyspace, key: bytes, interval: tuple[StreamId, StreamId], options: Sequence[bytes], step: int
) -> Reply:
    count = None
    if options:
        if len(options) != 2 or options[0] != b"COUNT":
            raise Refused(SYNTAX)
        count = max(0, integer(options[1]))
    stream = keys.value(key, Stream)
    if stream is None:
        return []
    if count == 0:
        return False
    return [[as_text(each), list(fields)] for each, fields in stream.between(*interval)[::step][:count]]


COMMANDS: Final = {
    b"XADD": xadd,
    b"XLEN": xlen,
    b"XDEL": xdel,
    b"XRANGE": xrange,
    b"XREVRANGE": xrevrange,
}
