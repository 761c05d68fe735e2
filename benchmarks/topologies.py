"""`python -m benchmarks.topologies`: what a tool call costs a server process on a Cluster, against a standalone Redis.

Both servers are up at the same time and take turns. The load is that of the main benchmark: calls of `add(a, b)`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import open_sessions
from benchmarks.measure import Load, Sample, measure
from benchmarks.processes import Cores, free_port, redis_server, running, start_redis, stop

PRIMARIES: Final = 3
SLOTS: Final = 16384
#: Seconds for the nodes to know one another.
JOINING: Final = 30.0


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Cluster of so many primaries, without persistence; the URLs of all, with commas."""
    with ExitStack() as stack:
        nodes = [free_port() for _ in range(PRIMARIES)]
        buses = [free_port() for _ in nodes]
        for port, bus in zip(nodes, buses, strict=True):
            data = folder / str(port)
            data.mkdir()
            options = ("--save", "", "--cluster-enabled", "yes", "--cluster-port", str(bus))
            stack.callback(stop, start_redis(data, port, *options))
        _join(nodes, buses)
        yield ",".join(f"redis://127.0.0.1:{port}" for port in nodes)


def _join(nodes: Sequence[int], buses: Sequence[int]) -> None:
    bounds = [SLOTS * n // len(nodes) for n in range(len(nodes) + 1)]
    clients = [Redis(port=port) for port in nodes]
    for n, client in enumerate(clients):
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[n], bounds[n + 1] - 1)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0], buses[0])
    deadline = time.monotonic() + JOINING
    while not all(b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO") for client in clients):
        if time.monotonic() > deadline:
            raise TimeoutError("the nodes do not join")
        time.sleep(0.1)
    for client in clients:
        client.close()


def run(
    connections: Sequence[int], sessions: int, rounds: int, seconds: float
) -> list[tuple[Sample, Sample]]:
    """For each number of connections and each round, a sample of standalone and one of the Cluster."""
    cores, pairs = Cores.pick(), []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers, opened = [], []
        for url in (stack.enter_context(redis_server(folder)), stack.enter_context(cluster(folder))):
            contestant, python = BY_NAME[OURS], Path(sys.executable)
            server = stack.enter_context(
                running(contestant, python, redis_url=url, core=cores.server, logs=folder)
            )
            servers.append(server)
            opened.append(open_sessions(server.target, sessions))
        for size in connections:
            for number in range(rounds):
                samples = [
                    measure(server, Load(sessions=ids, connections=size, round=number, seconds=seconds))
                    for server, ids in zip(servers, opened, strict=True)
                ]
                pairs.append((samples[0], samples[1]))
    return pairs


def markdown(pairs: Sequence[tuple[Sample, Sample]]) -> str:
    rows = [
        "| connections | standalone, CPU µs per call | Cluster | ratio, median (lowest to highest) |",
        "| --- | --- | --- | --- |",
    ]
    for size in sorted({one.connections for one, _ in pairs}):
        of_size = [(one.cpu_us, many.cpu_us) for one, many in pairs if one.connections == size]
        ratios = sorted(many / one for one, many in of_size)
        alone, spread = (statistics.median(column) for column in zip(*of_size, strict=True))
        rows.append(
            f"| {size} | {alone:.0f} | {spread:.0f} "
            f"| {statistics.median(ratios):.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    print(markdown(run(options.connections, options.sessions, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
