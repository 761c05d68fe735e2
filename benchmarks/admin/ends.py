"""How many sessions one process ends in a second, without an audit and as a job, and what Redis' commands take then."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from mcp_sessions.ending import end_sessions
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs.driving import begin, drive
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.store.calls.queries import Query

#: Of which endpoint, and how many are ended together, how many times.
ALIAS: Final = "shop"
COUNT: Final = 5_000
ROUNDS: Final = 4
#: For how many seconds a job is driven.
SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of one way."""

    name: str
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
    yield _measured("`end_sessions`", redis, _some_sessions)
    yield _measured("a job, with its audit", redis, _a_job)


def _some_sessions() -> Callable[[], int]:
    """What ends some that are found before it is called."""
    found = SessionQuery(aliases=(ALIAS,)).page(limit=COUNT)
    fingerprints = [row.session.fingerprint for row in found.rows]
    return lambda: len(end_sessions(ALIAS, fingerprints, by="benchmark"))


def _a_job() -> Callable[[], int]:
    selected = SessionQuery(aliases=(ALIAS,), kinds=("session",), filters=Query(client="claude-code"))
    job = begin(snapshot(selected), by="benchmark")
    return lambda: drive(job, seconds=SECONDS).ended


def _measured(name: str, redis: Redis, find: Callable[[], Callable[[], int]]) -> Ended:
    """The fastest round counts, and the slowest commands."""
    rates, percentiles = [], []
    for _ in range(ROUNDS):
        end = find()
        redis.config_resetstat()
        start = time.perf_counter()
        number = end()
        rates.append(number / (time.perf_counter() - start))
        stats: Any = redis.info("latencystats")
        percentiles.append(stats["latency_percentiles_usec_evalsha"])
    slowest = {name: max(each[name] for each in percentiles) / 1000 for name in ("p50", "p99", "p99.9")}
    return Ended(
        name=name,
        per_second=max(rates),
        p50_ms=slowest["p50"],
        p99_ms=slowest["p99"],
        p999_ms=slowest["p99.9"],
    )


def table(rows: list[Ended]) -> str:
    """The rows in Markdown."""
    head = (
        "| Ending sessions by | per second | Median command, ms | 99th percentile | 99.9th |\n"
        "| --- | --- | --- | --- | --- |"
    )
    return "\n".join(
        [
            head,
            *(
                f"| {row.name} | {row.per_second:,.0f} | {row.p50_ms:.1f} | {row.p99_ms:.1f} | {row.p999_ms:.1f} |"
                for row in rows
            ),
        ]
    )
