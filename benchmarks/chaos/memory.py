"""How the memory of the processes and of Redis grows."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import redis

from tests.support.processes import Process, ProcessError
from tests.support.redis import RedisServer

#: Looks from which a slope is computed, and seconds that they must cover: the second half of a run, in which caches are
#: full and the first streams have been deleted by their TTL.
LEAST_LOOKS: Final = 20
LEAST_SECONDS: Final = 60.0
MIB: Final = 1024 * 1024


class Memory:
    """Looks at it from time to time."""

    def __init__(self, processes: Sequence[Process], server: RedisServer) -> None:
        self._processes = processes
        self._server = server
        self._resident: dict[int, list[tuple[float, float]]] = {}
        self._used: list[tuple[float, float]] = []

    def look(self) -> None:
        """Note what each uses now; one that does not run, or answer, is left out."""
        now = monotonic()
        for process in self._processes:
            try:
                pid = process.pid
                status = Path(f"/proc/{pid}/status").read_text()
            except (ProcessError, OSError):
                continue
            kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
            self._resident.setdefault(pid, []).append((now, int(kibibytes) / 1024))
        if (used := self._used_by_redis()) is not None:
            self._used.append((now, used / MIB))

    def slopes(self) -> tuple[float | None, float | None]:
        """MiB per minute of a process, the steepest of them, and of Redis; None where a run was too short to tell."""
        found = [slope for looks in self._resident.values() if (slope := _slope(looks)) is not None]
        return max(found, default=None), _slope(self._used)

    def _used_by_redis(self) -> int | None:
        with self._server.client(socket_timeout=1) as client:
            try:
                return int(client.info("memory")["used_memory"])
            except redis.RedisError:
                return None


def _slope(looks: Sequence[tuple[float, float]]) -> float | None:
    """Per minute, by least squares, over the second half."""
    half = [(when, value) for when, value in looks if when >= (looks[0][0] + looks[-1][0]) / 2]
    if len(half) < LEAST_LOOKS or half[-1][0] - half[0][0] < LEAST_SECONDS:
        return None
    when = sum(each[0] for each in half) / len(half)
    value = sum(each[1] for each in half) / len(half)
    above = sum((x - when) * (y - value) for x, y in half)
    return 60 * above / sum((x - when) ** 2 for x, _ in half)
