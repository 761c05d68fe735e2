"""What this process does for which session: work in flight, open streams."""

from collections import Counter
from collections.abc import Iterator


class Held:
    """Counts things for each session."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        #: How many, of all sessions.
        self.total = 0

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._counts))

    def hold(self, fingerprint: str) -> None:
        self._counts[fingerprint] += 1
        self.total += 1

    def release(self, fingerprint: str) -> None:
        self._counts[fingerprint] -= 1
        self.total -= 1
        if self._counts[fingerprint] <= 0:
            del self._counts[fingerprint]

    def of(self, fingerprint: str) -> int:
        """How many of one session."""
        return self._counts[fingerprint]
