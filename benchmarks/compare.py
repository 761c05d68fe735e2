"""`python -m benchmarks.compare OTHER`: this checkout and another one of this project, in turns on one machine.

Both run in this Python environment, each on the `daphne` command as the README sets it up, with a Redis of its own.
Printed are medians over the rounds of each and the ratio, this one to the other: requests per second, p99 and CPU of
the process per `tools/call`, and the CPU that an event of a stream costs. The time of Redis per call is taken over all
rounds together, because a process updates the index seconds after the call that made it necessary. A checkout compared
with itself came out 4 % slower as "this": where a few percent matter, compare both ways round.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from benchmarks import events
from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import open_sessions
from benchmarks.measure import Load, Sample, measure
from benchmarks.processes import Cores, Server, redis_server, running
from benchmarks.runner import pinned

THIS, OTHER = "this", "other"
EVENTS_PER_SECOND = 1000.0


def redis_time(client: "redis.Redis") -> tuple[int, int]:
    """Microseconds that Redis has spent on scripts, and requests that touched a session, since it started."""
    stats: Any = client.info("commandstats")
    scripts = [stats.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")]
    touched: Any = stats.get("cmdstat_set", {})
    return sum(each.get("usec", 0) for each in scripts), touched.get("calls", 0)


def per_call(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Microseconds of Redis for each call between two readings, warm-ups and index updates included."""
    return (after[0] - before[0]) / max(after[1] - before[1], 1)


def in_turns(rounds: int) -> Iterator[tuple[int, str]]:
    """The number of the round and which checkout is next: the second of one round begins the next."""
    for number in range(rounds):
        yield from ((number, name) for name in ((THIS, OTHER) if number % 2 else (OTHER, THIS)))


def compare(other: Path, *, rounds: int, seconds: float, sessions: int, connections: int) -> None:
    """Run and print. Raises: LoadError, ServerError."""
    cores = Cores.pick()
    with tempfile.TemporaryDirectory(prefix="mcp-compare-") as folder, ExitStack() as stack:
        logs = Path(folder)
        stack.enter_context(pinned(cores.load))
        clients: dict[str, redis.Redis] = {}
        servers: dict[str, Server] = {}
        for name, checkout in {THIS: None, OTHER: other}.items():
            (logs / name).mkdir()
            url = stack.enter_context(redis_server(logs / name))
            clients[name] = stack.enter_context(redis.Redis.from_url(url, socket_timeout=10))
            servers[name] = stack.enter_context(
                running(
                    replace(BY_NAME[OURS], name=name, checkout=checkout),
                    Path(sys.executable),
                    redis_url=f"{url}/0",
                    core=cores.server,
                    logs=logs,
                )
            )
        opened = {name: open_sessions(server.target, sessions) for name, server in servers.items()}
        before = {name: redis_time(client) for name, client in clients.items()}
        samples: dict[str, list[Sample]] = {THIS: [], OTHER: []}
        for number, name in in_turns(rounds):
            load = Load(sessions=opened[name], connections=connections, round=number, seconds=seconds)
            samples[name].append(measure(servers[name], load))
        in_redis = {name: [per_call(before[name], redis_time(client))] for name, client in clients.items()}
        flows: dict[str, list[events.Flow]] = {THIS: [], OTHER: []}
        for _, name in in_turns(rounds):
            server = servers[name]
            flows[name].append(
                events.measure(
                    name, server, server, count=round(EVENTS_PER_SECOND), per_second=EVENTS_PER_SECOND
                )
            )
    show("requests/s", samples, lambda sample: sample.requests_per_second)
    show("p99, ms", samples, lambda sample: sample.p99_ms)
    show("CPU per call, µs", samples, lambda sample: sample.cpu_us)
    show("Redis per call, µs", in_redis, lambda microseconds: microseconds)
    show("events/s", flows, lambda flow: flow.arrived)
    show("CPU per event, µs", flows, lambda flow: flow.origin_cpu_us)


def show(title: str, found: dict[str, list[Any]], figure: Callable[[Any], float]) -> None:
    """A line: the median of each, and the median of the ratios within the rounds."""
    mine, others = ([figure(each) for each in found[name]] for name in (THIS, OTHER))
    ratio = statistics.median(a / b for a, b in zip(mine, others, strict=True) if b)
    print(
        f"{title:20} this {statistics.median(mine):9,.1f}   other {statistics.median(others):9,.1f}   ratio {ratio:.3f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("other", type=Path, help="the folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each server and round")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args(argv)
    compare(
        arguments.other.resolve(),
        **{key: value for key, value in vars(arguments).items() if key != "other"},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
