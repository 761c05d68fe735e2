"""`python -m benchmarks.modern`: a tool call of the modern era here, in the SDK and in FastMCP, each on two servers.

The call is that of the main benchmark, without a session. This app's own handshake era is measured next to it. All
servers are up at the same time and take short turns, so that a disturbance affects all alike; ratios are taken within
a round, then the median.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.contestants import Contestant
from benchmarks.mcp_http import open_sessions
from benchmarks.measure import Load, Sample, rounds, take_turn
from benchmarks.peers import python_for, versions
from benchmarks.processes import Cores, Server, redis_server, running
from benchmarks.report import disturbance

HERE = Path(__file__).parent
LATEST = HERE / "results" / "modern.json"
DOCS = HERE.parent / "docs" / "benchmarks.md"
START, END = "<!-- modern: written by the benchmark -->", "<!-- end of modern -->"

SERVERS: Final = {"patched": "this app's daphne", "uvicorn": "uvicorn"}
OURS, LISTED, UNLISTED, HANDSHAKE, SDK, SDK_JSON, FASTMCP, FLOOR = (
    "ours",
    "ours-listed",
    "ours-unlisted",
    "ours-handshake",
    "sdk",
    "sdk-json",
    "fastmcp",
    "floor",
)
#: What is measured on each server: title, application, peer.
APPLICATIONS: Final = {
    OURS: ("this app", "benchmarks.servers.ours:application", None),
    LISTED: ("this app, callers listed", "benchmarks.servers.signed_in:application", None),
    UNLISTED: ("this app, callers not listed", "benchmarks.servers.signed_in:application", None),
    HANDSHAKE: ("this app, handshake era, Redis", "benchmarks.servers.ours:application", None),
    SDK: ("SDK, default mode", "benchmarks.servers.sdk:sse", None),
    SDK_JSON: ("SDK, JSON mode", "benchmarks.servers.sdk:json", None),
    FASTMCP: ("FastMCP, JSON mode", "benchmarks.servers.fastmcp:application", "fastmcp"),
    FLOOR: ("only the SDK's kernel", "benchmarks.servers.floor:application", None),
}
MODERN: Final = tuple(
    Contestant(
        name=f"{name}-{server}",
        title=f"{title} ({SERVERS[server]})",
        server=server,
        application=application,
        peer=peer,
        environment={"INVENTORY": "0"} if name == UNLISTED else {},
    )
    for server in SERVERS
    for name, (title, application, peer) in APPLICATIONS.items()
)
RATE, CPU = "requests_per_second", "cpu_us"
#: One against another on the same server: which figure, and the bound that is promised, if any.
COMPARED: Final[tuple[tuple[str, str, str, float | None], ...]] = (
    (OURS, SDK, RATE, 1.8),
    (OURS, SDK, CPU, None),
    (OURS, SDK_JSON, RATE, None),
    (OURS, SDK_JSON, CPU, None),
    (OURS, FASTMCP, RATE, 1.8),
    (OURS, HANDSHAKE, CPU, 1.1),
    (OURS, FLOOR, CPU, None),
    (LISTED, UNLISTED, CPU, 1.1),
)


def run(names: Sequence[str], connections: int, count: int, seconds: float) -> Iterator[Sample]:
    """A sample of each server for each round."""
    cores = Cores.pick()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(redis_server(folder))
        servers, opened = [], {}
        for contestant in (each for each in MODERN if each.name in names):
            python = python_for(contestant.peer)
            server = stack.enter_context(
                running(contestant, python, redis_url=f"{url}/0", core=cores.server, logs=folder)
            )
            servers.append(server)
            in_session = contestant.name.startswith(HANDSHAKE)
            opened[contestant.name] = open_sessions(server.target, 1) if in_session else []

        def sample(server: Server, size: int, number: int) -> Sample:
            ids = opened[server.contestant.name]
            taken = take_turn(server, Load(sessions=ids, connections=size, round=number, seconds=seconds))
            print(
                f"round {number + 1:2} {taken.contestant:24} {taken.requests_per_second:7,.0f}/s  "
                f"CPU {taken.cpu_us:6,.0f} µs  busy {taken.server_busy:.0%}",
                flush=True,
            )
            return taken

        yield from rounds(servers, sample, connections=[connections], count=count)


def ratios(samples: Sequence[Sample], one: str, other: str, field: str, server: str) -> list[float]:
    """The one's figure over the other's on the same server, in ascending order, one for each round."""
    figures = {(each.contestant, each.round): float(getattr(each, field)) for each in samples}
    return sorted(
        value / figures[f"{other}-{server}", number]
        for (name, number), value in figures.items()
        if name == f"{one}-{server}" and (f"{other}-{server}", number) in figures
    )


def markdown(samples: Sequence[Sample], installed: Mapping[str, str]) -> str:
    """The ratios, the figures, and the versions behind them."""
    turns, size = len({each.round for each in samples}), samples[0].connections
    named = ", ".join(f"{name} {version}" for name, version in installed.items())
    return "\n\n".join(
        [
            f"Medians of {turns} turns of each server, {size} connections, on a machine with two cores; {named}.",
            *disturbance(samples),
            _ratio_table(samples),
            _figure_table(samples),
        ]
    )


def _ratio_table(samples: Sequence[Sample]) -> str:
    rows = [
        "| on the same server | target | measured (quartiles of the rounds) | |",
        "| --- | --- | --- | --- |",
    ]
    for server, title in SERVERS.items():
        for one, other, field, bound in COMPARED:
            values = ratios(samples, one, other, field, server)
            if len(values) < 2:
                continue
            low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
            who = f"{APPLICATIONS[one][0]} against {APPLICATIONS[other][0]} ({title})"
            what, sign = ("requests/s", "≥") if field == RATE else ("CPU per call", "≤")
            target = what if bound is None else f"{what} {sign} {bound:g} ×"
            met = None if bound is None else middle >= bound if field == RATE else middle <= bound
            verdict = {None: "", True: "met", False: "MISSED"}[met]
            rows.append(f"| {who} | {target} | {middle:.2f} × ({low:.2f} to {high:.2f}) | {verdict} |")
    return "\n".join(rows)


def _figure_table(samples: Sequence[Sample]) -> str:
    rows = [
        "| server | requests/s | p50 ms | p99 ms | CPU µs per call | in its least disturbed turn |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for contestant in MODERN:
        own = [each for each in samples if each.contestant == contestant.name]
        if own:
            rate, p50, p99, cpu = (
                statistics.median(getattr(each, field) for each in own)
                for field in (RATE, "p50_ms", "p99_ms", CPU)
            )
            least = min(each.cpu_us for each in own)
            rows.append(
                f"| {contestant.title} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {cpu:,.0f} | {least:,.0f} |"
            )
    return "\n".join(rows)


def read(path: Path) -> tuple[list[Sample], dict[str, str]]:
    """The samples and the versions of a run, as `main` wrote them."""
    found = json.loads(path.read_text())
    return [Sample(**each) for each in found["samples"]], found["versions"]


def write_docs(path: Path, table: str) -> None:
    """Replace what stands between the two markers."""
    head, _, rest = path.read_text().partition(START)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{START}\n\n{table}\n\n{END}{tail}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.modern", description=(__doc__ or "").split("\n")[0]
    )
    everybody = [each.name for each in MODERN]
    parser.add_argument("--only", nargs="+", choices=everybody, default=everybody, metavar="NAME")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each server and round")
    parser.add_argument("--output", type=Path, default=LATEST, help="where the JSON goes")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args(argv)
    samples = list(run(options.only, options.connections, options.rounds, options.seconds))
    installed = versions(Path(sys.executable)) | versions(python_for(FASTMCP))
    named: dict[str, str] = {
        name: installed[name] for name in ("mcp", "fastmcp", "daphne", "uvicorn") if name in installed
    }
    table = markdown(samples, named)
    print(f"\n{table}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    written = {"versions": named, "samples": [asdict(each) for each in samples]}
    options.output.write_text(json.dumps(written, indent=1) + "\n")
    if options.write_docs:
        write_docs(DOCS, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
