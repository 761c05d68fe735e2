"""`python -m benchmarks.fleet`: a million sessions of which each calls every ten seconds, simulated.

All of them are in Redis, with owners and in every index. Two cores cannot send what they would: a part of them calls,
each every ten seconds, from several nodes with connections of their own, a few calls at the same moment, as they arrive
at busy nodes. Printed is what a call costs Redis, index included: the time in scripts, and the CPU of its processes. On
a Cluster, it is printed how much of that is in the busiest slot, of which one primary has to do all the work.

    python -m benchmarks.fleet --sessions 100000 --only cluster
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.crc import key_slot

from benchmarks.processes import ROOT, redis_server
from benchmarks.topologies import PRIMARIES, cluster

#: Processes that fill and send.
WORKERS: Final = 2
#: Seconds between two calls of a session, and rounds of them until the index updates are spread evenly.
EVERY: Final = 10
SPREADING: Final = 7
#: Rounds that are measured: in so many, each session has its place in the indexes updated once.
MEASURED: Final = 6

#: Commands that Redis logs at most.
MOST_LOGGED: Final = 1_000_000

#: Makes the servers of a topology; the URLs of all, with commas.
Make = Callable[[Path], AbstractContextManager[str]]
TOPOLOGIES: Final[dict[str, Make]] = {
    "one primary": redis_server,
    f"Cluster, {PRIMARIES} primaries": cluster,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one topology."""

    topology: str
    sessions: int
    calls_per_second: float
    #: Bytes of Redis for each session.
    bytes_each: float
    #: Scripts for each call, and their time and all CPU of Redis in microseconds.
    scripts: float
    script_us: float
    cpu_us: float
    #: The part of the time in commands that the busiest slot has; None where there is one primary.
    busiest: float | None
    #: Calls that failed, those before and after what was measured included.
    failures: int
    #: Seconds by which a call left too late, at most.
    late: float

    def row(self) -> str:
        busiest = "all" if self.busiest is None else f"{self.busiest:.1%}"
        return (
            f"| {self.topology} | {self.sessions:,} | {self.bytes_each:,.0f} | {self.calls_per_second:,.0f} "
            f"| {1 / self.scripts:.1f} | {self.script_us:.1f} | {self.cpu_us:.1f} | {busiest} | {self.failures} "
            f"| {self.late:.1f} s |"
        )


HEAD: Final = (
    "| Redis | sessions | bytes for each | calls/s | calls for each script | scripts, µs per call "
    "| CPU, µs per call | busiest slot | failed | late at most |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def worker(url: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.fleet.worker", *map(str, arguments)]
    environment = {**os.environ, "REDIS_URL": url}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)


def output(process: "subprocess.Popen[str]") -> str:
    """Raises: RuntimeError if it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return said


def read(servers: Sequence["Redis"]) -> tuple[int, float, float]:
    """Runs of scripts so far, microseconds in them, and microseconds of CPU, all servers together."""
    runs, scripts, cpu = 0, 0.0, 0.0
    for server in servers:
        stats: Any = server.info("commandstats")
        of_scripts = [stats.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")]
        runs += sum(each.get("calls", 0) for each in of_scripts)
        scripts += sum(each.get("usec", 0) for each in of_scripts)
        used: Any = server.info("cpu")
        cpu += (used["used_cpu_user"] + used["used_cpu_sys"]) * 1e6
    return runs, scripts, cpu


@contextmanager
def logging(servers: Sequence["Redis"]) -> Iterator[None]:
    """Let Redis log every command, with its duration: on a Cluster each of ours is about one slot."""
    for server in servers:
        server.config_set("slowlog-max-len", MOST_LOGGED)
        server.config_set("slowlog-log-slower-than", 0)
    yield
    for server in servers:
        server.config_set("slowlog-log-slower-than", -1)


def logged(servers: Sequence["Redis"]) -> Counter[int]:
    """Microseconds that the logged scripts have spent on each slot."""
    spent: Counter[int] = Counter()
    for server in servers:
        entries: Any = server.slowlog_get(MOST_LOGGED)
        if len(entries) == MOST_LOGGED:
            raise RuntimeError("more commands than the log holds")
        for entry in entries:
            if entry["command"].startswith(b"EVALSHA "):
                spent[key_slot(entry["command"].split(b" ", 4)[3])] += entry["duration"]
    return spent


def memory(servers: Sequence["Redis"]) -> int:
    return sum(int(server.info("memory")["used_memory"]) for server in servers)


def measure(topology: str, *, sessions: int, calls: float, nodes: int, together: int) -> Result:
    """Fill, let them call, and read. Raises: RuntimeError if a process that fills or sends failed."""
    with tempfile.TemporaryDirectory(prefix="mcp-fleet-") as folder, ExitStack() as stack:
        url = stack.enter_context(TOPOLOGIES[topology](Path(folder)))
        servers = [stack.enter_context(Redis.from_url(each)) for each in url.split(",")]
        empty = memory(servers)
        bounds = [sessions * n // WORKERS for n in range(WORKERS + 1)]
        for filling in [worker(url, sessions, "fill", *bounds[n : n + 2]) for n in range(WORKERS)]:
            output(filling)
        bytes_each = (memory(servers) - empty) / sessions
        active = min(round(calls * EVERY), sessions) // WORKERS
        sending = [
            worker(url, sessions, "drive", active, n, WORKERS, nodes, SPREADING + MEASURED + 1, together)
            for n in range(WORKERS)
        ]
        many = len(servers) > 1
        time.sleep(SPREADING * EVERY)
        with logging(servers) if many else nullcontext():
            begun = read(servers)
            time.sleep(MEASURED * EVERY)
            ended = read(servers)
        replies = [json.loads(output(each)) for each in sending]
        slots = logged(servers) if many else Counter[int]()
    made = active * WORKERS * MEASURED
    runs, scripts, cpu = ((after - before) / made for before, after in zip(begun, ended, strict=True))
    return Result(
        topology=topology,
        sessions=sessions,
        calls_per_second=made / MEASURED / EVERY,
        bytes_each=bytes_each,
        scripts=runs,
        script_us=scripts,
        cpu_us=cpu,
        busiest=max(slots.values()) / slots.total() if many else None,
        failures=sum(reply["failures"] for reply in replies),
        late=max(reply["late"] for reply in replies),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--calls", type=float, default=3_000, help="per second")
    parser.add_argument("--nodes", type=int, default=2, help="of each of the two processes that send")
    parser.add_argument(
        "--together", type=int, default=16, help="calls that arrive at a node at the same moment"
    )
    parser.add_argument("--only", choices=("one", "cluster"))
    given = parser.parse_args(argv)
    names = [name for name in TOPOLOGIES if given.only is None or name.lower().startswith(given.only)]
    print(HEAD, flush=True)
    for name in names:
        found = measure(
            name, sessions=given.sessions, calls=given.calls, nodes=given.nodes, together=given.together
        )
        print(found.row(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
