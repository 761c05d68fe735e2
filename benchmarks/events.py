"""`python -m benchmarks.events`: how fast messages go through one stream, and how late they arrive.

A tool reports progress at a steady rate, each report with the moment at which it was made; the client notes when it
reads them. Once on the connection of the call itself, once on another process that took the stream over, and once
through the SDK's in-memory transport, which logs nothing.
"""

import argparse
import json
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.contestants import BY_NAME, OURS, SDK_SSE
from benchmarks.mcp_http import Target, open_sessions
from benchmarks.processes import Cores, Server, redis_server, running

HERE: Final = Path(__file__).parent
LATEST: Final = HERE / "results" / "events.json"
DOCS: Final = HERE.parent / "docs" / "benchmarks.md"
START, END = "<!-- events: written by the benchmark -->", "<!-- end of events -->"
_PROGRESS: Final = re.compile(rb'"progress":([0-9.]+)')
_EVENT_ID: Final = re.compile(rb"^id: ?(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Events through one stream."""

    #: "ours, same process", "ours, another process" or "SDK in memory".
    way: str
    #: Events per second that the tool was asked for, and that arrived.
    asked: float
    arrived: float
    p50_ms: float
    p99_ms: float
    #: Microseconds of CPU for each event, in the process that runs the tool and in the one that delivers.
    origin_cpu_us: float
    delivery_cpu_us: float


def call(target: Target, session: str, *, count: int, per_second: float, leave: bool) -> socket.socket:
    """Call the tool; the connection on which the stream comes."""
    arguments = {"count": count, "per_second": per_second, "leave": leave}
    params = {"name": "emit", "arguments": arguments, "_meta": {"progressToken": "p"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
    return _send(target, target.request(body, session=session))


def resume(target: Target, session: str, event_id: bytes) -> socket.socket:
    """Resume a stream."""
    head = target.request(b"", session=session, method="GET").removesuffix(b"\r\n\r\n")
    return _send(target, head + b"\r\nLast-Event-ID: " + event_id + b"\r\n\r\n")


def _send(target: Target, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(request)
    return connection


def first_event_id(connection: socket.socket) -> bytes:
    """Read a stream that is closed at once; the id of its last event."""
    text = b""
    while chunk := connection.recv(65536):
        text += chunk
        if b"\r\n0\r\n\r\n" in text:
            break
    return bytes(_EVENT_ID.findall(text)[-1])


def latencies(connection: socket.socket, count: int) -> Iterator[tuple[float, float]]:
    """For each event when it was read, and how long it took, in seconds."""
    rest, seen = b"", 0
    while seen < count:
        chunk = connection.recv(65536)
        now = time.monotonic()
        if not chunk:
            raise RuntimeError(f"the stream ended after {seen} of {count} events")
        rest += chunk
        complete, newline, rest = rest.rpartition(b"\n")
        for moment in _PROGRESS.findall(complete + newline):
            seen += 1
            yield now, now - float(moment)


def measure(way: str, origin: Server, delivery: Server, *, count: int, per_second: float) -> Flow:
    """One flow of events; `delivery` is another process than `origin`, or the same."""
    [session] = open_sessions(origin.target, 1)
    leave = delivery is not origin
    connection = call(origin.target, session, count=count, per_second=per_second, leave=leave)
    if leave:
        connection = resume(delivery.target, session, first_event_id(connection))
    before = origin.cpu_seconds(), delivery.cpu_seconds()
    read = list(latencies(connection, count))
    spent = origin.cpu_seconds() - before[0], delivery.cpu_seconds() - before[1]
    connection.close()
    times = sorted(latency for _, latency in read)
    return Flow(
        way=way,
        asked=per_second,
        arrived=(count - 1) / max(read[-1][0] - read[0][0], 1e-9),
        p50_ms=statistics.median(times) * 1000,
        p99_ms=times[int(len(times) * 0.99)] * 1000,
        origin_cpu_us=spent[0] / count * 1e6,
        delivery_cpu_us=spent[1] / count * 1e6 if leave else 0.0,
    )


def run(rates: Sequence[float], seconds: float) -> list[Flow]:
    """Every way at every rate."""
    cores, flows = Cores.pick(), []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        logs = Path(folder)
        url = stack.enter_context(redis_server(logs))
        python = Path(sys.executable)

        def started(name: str, core: int) -> Server:
            contestant = BY_NAME[name]
            return stack.enter_context(running(contestant, python, redis_url=url, core=core, logs=logs))

        a, b, sdk = started(OURS, cores.server), started(OURS, cores.load), started(SDK_SSE, cores.server)
        for rate in rates:
            count = max(50, round(rate * seconds))
            flows.append(measure("ours, same process", a, a, count=count, per_second=rate))
            flows.append(measure("ours, another process", a, b, count=count, per_second=rate))
            flows.append(measure("SDK in memory, nothing logged", sdk, sdk, count=count, per_second=rate))
    return flows


def markdown(flows: Sequence[Flow]) -> str:
    head = (
        "| stream | asked events/s | arrived events/s | p50 ms | p99 ms | CPU µs per event, tool | delivery |"
    )
    rows = [
        f"| {f.way} | {f.asked:,.0f} | {f.arrived:,.0f} | {f.p50_ms:.1f} | {f.p99_ms:.1f} "
        f"| {f.origin_cpu_us:.0f} | {f.delivery_cpu_us:.0f} |"
        for f in flows
    ]
    return "\n".join([head, "| " + " | ".join(["---"] * 7) + " |", *rows])


def write_docs(path: Path, flows: Sequence[Flow]) -> None:
    """Replace the text between the two markers."""
    head, _, rest = path.read_text().partition(START)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{START}\n\n{markdown(flows)}\n\n{END}{tail}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--rates", nargs="+", type=float, default=[100.0, 1000.0, 2000.0], metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each stream and rate")
    parser.add_argument("--output", type=Path, default=LATEST, help="where the JSON goes")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args(argv)
    flows = run(arguments.rates, arguments.seconds)
    print(markdown(flows))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps([asdict(flow) for flow in flows], indent=1) + "\n")
    if arguments.write_docs:
        write_docs(DOCS, flows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
