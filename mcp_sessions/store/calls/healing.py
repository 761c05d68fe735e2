"""When a full index is checked for sessions that are gone. A flood of refused sessions must not cost Redis more than a
flood of accepted ones."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

#: How often one process checks an index, and of how many indexes it knows that.
HEAL_INTERVAL_MS: Final = 1_000
_MOST_HEALED: Final = 1_000
#: How many new sessions may wait for a check that runs already.
MOST_WAITING: Final = 16


class Healing:
    """Which full indexes this process checks for sessions that are gone, or has checked lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[bytes, float] = {}
        #: How many new sessions wait for each check that runs.
        self._waiting: dict[bytes, int] = {}
        self._lock = Lock()
        #: How many checks have ended.
        self.ended = 0

    @contextmanager
    def check(self, index: bytes) -> Iterator[bool]:
        """Whether the caller is to check an index now; once in an interval for each index."""
        now = self._clock()
        if now < self._next.get(index, 0):
            yield False
            return
        if len(self._next) >= _MOST_HEALED:
            self._next.clear()
        self._next[index] = now + HEAL_INTERVAL_MS / 1000
        self._waiting[index] = 0
        try:
            yield True
        finally:
            with self._lock:
                del self._waiting[index]
                self.ended += 1

    def is_checking(self, index: bytes) -> bool:
        """Whether an index is being checked."""
        return index in self._waiting

    def may_wait(self, index: bytes) -> bool:
        """Whether an index is being checked, and not too many wait for that; counts one more."""
        with self._lock:
            if self._waiting.get(index, MOST_WAITING) >= MOST_WAITING:
                return False
            self._waiting[index] += 1
            return True
