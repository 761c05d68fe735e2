"""Calls per second, latency and CPU of all servers, in rounds that take turns so that a disturbance hits all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.load import Wire
from benchmarks.mcp_http import calls, check_answer, modern_calls
from benchmarks.processes import Server

#: Share of a cell's time that is spent before it is measured.
WARM_UP = 0.2
#: With so many connections a server on an undisturbed core uses at least that share of it.
MANY = 16
QUIET = 0.9
#: Turns that a server gets in a round if something else took its core.
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One server, one load, one round."""

    contestant: str
    sessions: int
    connections: int
    round: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    #: CPU time of the server process for one call, microseconds.
    cpu_us: float
    #: Share of its core that the server used; near 1, it was the bottleneck.
    server_busy: float
    #: Share of the other core that the load used; it must stay well under 1.
    load_busy: float
    resident_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of a server in one cell."""

    #: The sessions that share the calls. Without any, the calls are of the modern era.
    sessions: Sequence[str]
    connections: int
    round: int
    seconds: float


def rounds(
    servers: Sequence[Server],
    sample: Callable[[Server, int, int], Sample | None],
    *,
    connections: Sequence[int],
    count: int,
) -> Iterator[Sample]:
    """Interleave: in each round and for each number of connections every server gets its turn, in a rotated order."""
    for number in range(count):
        for size in connections:
            turn = number % max(len(servers), 1)
            for server in [*servers[turn:], *servers[:turn]]:
                taken = sample(server, size, number)
                if taken is not None:
                    yield taken


def measure(server: Server, load: Load) -> Sample:
    """The least disturbed of a few turns; the first that was not disturbed is the last. Raises: LoadError."""
    best = take_turn(server, load)
    for _ in range(TRIES - 1):
        if load.connections < MANY or best.server_busy >= QUIET:
            break
        best = max(best, take_turn(server, load), key=lambda sample: sample.server_busy)
    return best


def take_turn(server: Server, load: Load) -> Sample:
    """Warm up, then keep all connections busy for so long. Raises: LoadError."""
    with Wire(port=server.target.port, size=load.connections) as wire:
        _drive(wire, server, load, load.seconds * WARM_UP)
        cpu, own, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
        latencies = _drive(wire, server, load, load.seconds)
        elapsed = time.perf_counter() - began
        cpu, own = server.cpu_seconds() - cpu, time.process_time() - own
    latencies.sort()
    count = len(latencies)
    return Sample(
        contestant=server.contestant.name,
        sessions=len(load.sessions),
        connections=load.connections,
        round=load.round,
        requests=count,
        requests_per_second=count / elapsed,
        p50_ms=statistics.median(latencies) * 1000,
        p99_ms=latencies[min(count - 1, int(count * 0.99))] * 1000,
        cpu_us=cpu / count * 1e6,
        server_busy=cpu / elapsed,
        load_busy=own / elapsed,
        resident_mib=server.resident_bytes() / 2**20,
    )


def _drive(wire: Wire, server: Server, load: Load, seconds: float) -> list[float]:
    latencies: list[float] = []

    def answered(_: int, answer: bytes, taken: float) -> None:
        check_answer(answer)
        latencies.append(taken)

    requests = calls(server.target, load.sessions) if load.sessions else modern_calls(server.target)
    gc.disable()
    try:
        wire.run(_until(time.perf_counter() + seconds, requests), answered)
    finally:
        gc.enable()
    return latencies


def _until(deadline: float, requests: Iterator[bytes]) -> Iterator[bytes]:
    clock = time.perf_counter
    for request in requests:
        if clock() >= deadline:
            return
        yield request
