"""What an idle session costs: in the server process, and in Redis."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from benchmarks.load import Wire
from benchmarks.mcp_http import calls, check_answer, end_sessions, open_sessions
from benchmarks.processes import Server

#: Sessions that are open at the same time while the server is warmed up.
BATCH = 20
#: Seconds between two readings, which must be equal to count, and seconds after the last request to wait for that.
SETTLE_STEP = 1.0
SETTLE_LIMIT = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Growth since the step before, divided by the number of sessions that were added."""

    contestant: str
    sessions: int
    process_bytes: float
    redis_bytes: float


def footprints(server: Server, steps: Sequence[int], redis_url: str, *, warm_up: int) -> list[Footprint]:
    """Warm up with so many sessions, then open sessions up to each step, let them idle, and read.

    Raises: LoadError.
    """
    _warm_up(server, warm_up)
    client = redis.Redis.from_url(redis_url, socket_timeout=10)
    process_before, redis_before = _process_bytes(server), _settled(lambda: _used_memory(client))
    sessions: list[str] = []
    found: list[Footprint] = []
    for step in sorted(steps):
        added = step - len(sessions)
        sessions += open_sessions(server.target, added)
        process, stored = _process_bytes(server), _settled(lambda: _used_memory(client))
        found.append(
            Footprint(
                contestant=server.contestant.name,
                sessions=step,
                process_bytes=(process - process_before) / added,
                redis_bytes=(stored - redis_before) / added,
            )
        )
        process_before, redis_before = process, stored
    _call(server, sessions, min(len(sessions), 100))
    client.close()
    return found


def _warm_up(server: Server, count: int) -> None:
    """Code paths, caches and pools are then in the state in which they stay."""
    for _ in range(count // BATCH):
        sessions = open_sessions(server.target, BATCH)
        _call(server, sessions, BATCH)
        end_sessions(server.target, sessions)


def _call(server: Server, sessions: Sequence[str], count: int) -> None:
    """Call a tool in so many sessions; right answers show that the sessions are alive."""
    with Wire(port=server.target.port, size=8) as wire:
        wire.run(
            itertools.islice(calls(server.target, sessions), count),
            lambda _, answer, __: check_answer(answer),
        )


def _process_bytes(server: Server) -> int:
    """Resident memory without garbage. Daphne holds finished requests for a second."""
    time.sleep(2 * SETTLE_STEP)
    server.give_back()
    return _settled(server.resident_bytes)


def _settled(read: Callable[[], int]) -> int:
    """The reading once it has stopped changing."""
    deadline = time.monotonic() + SETTLE_LIMIT
    last, current = -1, read()
    while abs(current - last) > current * 0.0005 and time.monotonic() < deadline:
        time.sleep(SETTLE_STEP)
        last, current = current, read()
    return current


def _used_memory(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])
