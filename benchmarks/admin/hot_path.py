"""The 99th percentile of tool calls while another process lists, searches and bulk-ends, and without it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import open_sessions
from benchmarks.measure import Load, measure
from benchmarks.processes import Cores, running, stop

SESSIONS: Final = 100
CONNECTIONS: Final = 4
SECONDS: Final = 2.0
ROUNDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Medians over the rounds, in milliseconds."""

    alone_ms: float
    disturbed_ms: float

    @property
    def ratio(self) -> float:
        return self.disturbed_ms / self.alone_ms


def percentiles(redis_url: str, folder: Path) -> Percentiles:
    """In turns, on a Redis that holds the sessions of the pages, too."""
    cores, alone, disturbed = Cores.pick(), [], []
    with running(
        BY_NAME[OURS], Path(sys.executable), redis_url=redis_url, core=cores.server, logs=folder
    ) as server:
        sessions = open_sessions(server.target, SESSIONS)
        for number in range(ROUNDS):
            load = Load(sessions=sessions, connections=CONNECTIONS, round=number, seconds=SECONDS)
            alone.append(measure(server, load).p99_ms)
            with operating():
                disturbed.append(measure(server, load).p99_ms)
    return Percentiles(alone_ms=median(alone), disturbed_ms=median(disturbed))


@contextmanager
def operating() -> Iterator[None]:
    """An operator in a process of their own, who does not stop; the environment says on which Redis."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.admin.operator"])
    try:
        yield
    finally:
        stop(process)
