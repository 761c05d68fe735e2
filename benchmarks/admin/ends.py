"""How many sessions one process ends in a second, without an audit and as a job, and what Redis' commands take then."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from mcp_sessions.ending import BATCH, end_sessions
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs.driving import begin, drive
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.sessions import MOST_ENDED

#: Of which endpoint, and how many are ended together, how many times.
ALIAS: Final = "shop"
COUNT: Final = 5_000
ROUNDS: Final = 4
#: With how many repetitions it is found how long one of an empty loop in a script takes.
_LOOP: Final = 10_000
#: For how many seconds a job is driven.
SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of one way."""

    name: str
    #: 0 for what ends nothing.
    per_second: float
    #: What Redis says of its commands: the slowest of two, of a hundred and of a thousand, in milliseconds.
    p50_ms: float
    p99_ms: float
    p999_ms: float


def measure(redis: Redis) -> Iterator[Ended]:
    """Each in turn. The lines of the log are made, and not written."""
    log = logging.getLogger("mcp_sessions")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    ended = _measured("`end_sessions`", redis, _some_sessions)
    yield ended
    yield _measured("a job, with its audit", redis, _a_job)
    # What the machine makes of a command that is as long and touches no data: some of them take longer all the same.
    repetitions = round(_LOOP * ended.p50_ms / _counting(redis, _LOOP).p50_ms)
    yield _counting(redis, repetitions)


def _some_sessions() -> Callable[[], int]:
    """What ends some that are found before it is called."""
    found = SessionQuery(aliases=(ALIAS,)).page(limit=COUNT)
    fingerprints = [row.session.fingerprint for row in found.rows]
    return lambda: len(end_sessions(ALIAS, fingerprints, by="benchmark"))


def _a_job() -> Callable[[], int]:
    selected = SessionQuery(aliases=(ALIAS,), kinds=("session",), filters=Query(client="claude-code"))
    job = begin(snapshot(selected), by="benchmark")
    return lambda: drive(job, seconds=SECONDS).ended


def _counting(redis: Redis, repetitions: int) -> Ended:
    """As many scripts that count so far as COUNT ends take, in the same parts."""
    slowest: dict[str, float] = {}
    for _ in range(ROUNDS):
        redis.config_resetstat()
        for _ in range(COUNT // BATCH):
            with redis.pipeline(transaction=False) as pipe:
                for _ in range(-(-BATCH // MOST_ENDED)):
                    pipe.eval("for i = 1, ARGV[1] do end", 0, str(repetitions))
                pipe.execute()
        slowest = _slower(slowest, redis, "eval")
    return Ended(name="a script that only counts", per_second=0, **slowest)


def _slower(known: dict[str, float], redis: Redis, command: str) -> dict[str, float]:
    """The percentiles of a command, or those that are known if they are slower, in milliseconds."""
    stats: Any = redis.info("latencystats")
    found = stats[f"latency_percentiles_usec_{command}"]
    names = {"p50_ms": "p50", "p99_ms": "p99", "p999_ms": "p99.9"}
    return {each: max(known.get(each, 0), found[name] / 1000) for each, name in names.items()}


def _measured(name: str, redis: Redis, find: Callable[[], Callable[[], int]]) -> Ended:
    """The fastest round counts, and the slowest commands."""
    rates: list[float] = []
    slowest: dict[str, float] = {}
    for _ in range(ROUNDS):
        end = find()
        redis.config_resetstat()
        start = time.perf_counter()
        number = end()
        rates.append(number / (time.perf_counter() - start))
        slowest = _slower(slowest, redis, "evalsha")
    return Ended(name=name, per_second=max(rates), **slowest)


def table(rows: list[Ended]) -> str:
    """The rows in Markdown."""
    head = (
        "| Ending sessions by | per second | Median command, ms | 99th percentile | 99.9th |\n"
        "| --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *map(_line, rows)])


def _line(row: Ended) -> str:
    rate = f"{row.per_second:,.0f}" if row.per_second else "-"
    return f"| {row.name} | {rate} | {row.p50_ms:.1f} | {row.p99_ms:.1f} | {row.p999_ms:.1f} |"
