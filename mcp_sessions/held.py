"""The sessions that something keeps alive in this process: work in flight, open streams."""

from collections import Counter
from collections.abc import Iterator


class Held:
    """Counts, for each session, what keeps it alive."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._counts))

    def hold(self, fingerprint: str) -> None:
        self._counts[fingerprint] += 1

    def release(self, fingerprint: str) -> None:
        self._counts[fingerprint] -= 1
        if self._counts[fingerprint] <= 0:
            del self._counts[fingerprint]
