"""Keys of any type with their TTLs. Not thread-safe."""

import math
import re
from collections.abc import Collection
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeVar

#: Keys whose time may be up that one script looks at, so that none pays for all of them.
SWEPT_AT_ONCE: Final = 16

LARGEST: Final = 2**63 - 1
SYNTAX: Final = "ERR syntax error"
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")

#: What a command replies: True for the status OK, False for nil, and a list of replies for an array.
Reply = bool | int | bytes | list[Any]
T = TypeVar("T")


class Refused(Exception):
    """The command failed; the text is Redis' error."""


class _Key:
    """A value, until when it lives (ms), and where it stands in the queue of those that end."""

    __slots__ = ("queued", "until", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.until: float = math.inf
        self.queued: float = math.inf


class Keyspace:
    """Every key. The clock stands still between two calls of `begin`, as it does for a script in Redis."""

    def __init__(self) -> None:
        #: Milliseconds since the epoch.
        self.now = 0
        #: The streams that got an entry since the list was last replaced.
        self.appended: list[bytes] = []
        self._keys: dict[bytes, _Key] = {}
        #: Of each key with a TTL one entry that is due at its end or before. Entries of keys that are gone are dropped
        #: when they are due, and all at once when they are the most.
        self._queue: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def begin(self, now: int) -> None:
        """Set the clock, and drop some of the keys whose time is up."""
        self.now = now
        for _ in range(SWEPT_AT_ONCE):
            if not self._queue or self._queue[0][0] >= self.now:
                break
            self._take(*heappop(self._queue))

    def find(self, key: bytes) -> _Key | None:
        """What is at a key and alive."""
        found = self._keys.get(key)
        if found is not None and found.until < self.now:
            del self._keys[key]
            return None
        return found

    def value(self, key: bytes, kind: type[T]) -> T | None:
        """The value of a key, None if there is none. Raises: Refused for another type."""
        found = self.find(key)
        if found is None:
            return None
        if type(found.value) is not kind:
            raise Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
        return found.value

    def made(self, key: bytes, kind: type[T]) -> T:
        """The value of a key, an empty one if there is none. Raises: Refused for another type."""
        value = self.value(key, kind)
        if value is None:
            value = kind()
            self._keys[key] = _Key(value)
        return value

    def put(self, key: bytes, value: Any) -> _Key:
        """Set a value of any type; its TTL stays."""
        found = self.find(key)
        if found is None:
            found = self._keys[key] = _Key(value)
        found.value = value
        return found

    def delete(self, key: bytes) -> bool:
        found = self.find(key) is not None
        if found:
            del self._keys[key]
        return found

    def removed(self, key: bytes, rest: Collection[Any], count: int) -> int:
        """How many members were removed from what is at a key; without a rest the key goes, too."""
        if count and not rest:
            del self._keys[key]
        return count

    def end_at(self, key: bytes, found: _Key, until: int) -> None:
        """Let a key live until then (ms)."""
        found.until = until
        if until >= found.queued:
            return
        found.queued = until
        heappush(self._queue, (until, key))
        if len(self._queue) > 2 * len(self._keys) + SWEPT_AT_ONCE:
            self._queue = [(kept.queued, key) for key, kept in self._keys.items() if kept.queued < math.inf]
            heapify(self._queue)

    def _take(self, due: float, key: bytes) -> None:
        """Deal with a key whose entry in the queue is due."""
        found = self._keys.get(key)
        if found is None or found.queued != due:
            return
        if found.until < self.now:
            del self._keys[key]
            return
        found.queued = found.until
        if found.until < math.inf:
            heappush(self._queue, (found.until, key))


def integer(text: bytes, otherwise: str = "ERR value is not an integer or out of range") -> int:
    """The integer of 64 bits that a text is, in the one way to write it. Raises: Refused."""
    if not _INTEGER.fullmatch(text) or not -LARGEST - 1 <= (number := int(text)) <= LARGEST:
        raise Refused(otherwise)
    return number


def as_text(number: float) -> bytes:
    """A number as Redis writes it if it is an integer of 64 bits; others have the notation of Python."""
    if number.is_integer() and -LARGEST - 1 <= number < LARGEST:
        return b"%d" % int(number)
    return repr(number).encode("ascii")
