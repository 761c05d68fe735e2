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

#: Of which endpoint, and how many are ended together.
ALIAS: Final = "shop"
COUNT: Final = 5_000
#: For how many seconds a job is driven.
SECONDS: Final = 5.0


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
    yield _measured("`end_sessions`", redis, _without_audit)
    yield _measured("a job, with its audit", redis, _as_job)


def _without_audit() -> int:
    found = SessionQuery(aliases=(ALIAS,)).page(limit=COUNT)
    return len(end_sessions(ALIAS, [row.session.fingerprint for row in found.rows], by="benchmark"))


def _as_job() -> int:
    selected = SessionQuery(aliases=(ALIAS,), kinds=("session",), filters=Query(client="claude-code"))
    return drive(begin(snapshot(selected), by="benchmark"), seconds=SECONDS).ended


def _measured(name: str, redis: Redis, end: Callable[[], int]) -> Ended:
    redis.config_resetstat()
    start = time.perf_counter()
    number = end()
    seconds = time.perf_counter() - start
    stats: Any = redis.info("latencystats")
    found = stats["latency_percentiles_usec_evalsha"]
    return Ended(
        name=name,
        per_second=number / seconds,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        p999_ms=found["p99.9"] / 1000,
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
