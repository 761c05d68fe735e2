"""`python -m benchmarks.startup`: how long this app takes to import, and a process to answer its first request.

Each figure is the median of ROUNDS fresh processes, with the lowest and the highest. Where nothing is waited for it is
CPU time, which other processes on the machine disturb less. Several checkouts take turns, so that a disturbance hits
all alike:

    python -m benchmarks.startup ../other-checkout .
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.mcp_http import Target, open_sessions
from benchmarks.processes import ROOT, cpu_seconds, free_port, redis_server, stop, tree, wait_for_port

ROUNDS: Final = 9
_MODULES: Final = ("mcp_sessions", "mcp_sessions.routing")
#: One line of `python -X importtime`: microseconds of the module alone.
_OURS: Final = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*mcp_sessions\b")
FIGURES: Final = {
    "package": "import mcp_sessions, CPU",
    "routing": "and mcp_sessions.routing, with all that it imports, CPU",
    "ours": "of both, in this app's own modules",
    "answer": "from the start of a daphne process to its first answer",
    "answer_cpu": "the same, CPU of the process",
}


def seconds_of_imports(checkout: Path) -> dict[str, float]:
    """Imports in a fresh interpreter, and which share of them is this app's own."""
    timed = "; ".join(
        f"t = time.process_time(); import {name}; print(time.process_time() - t)" for name in _MODULES
    )
    package, routing = map(float, _run(checkout, "-c", f"import time; {timed}").stdout.split())
    told = _run(checkout, "-X", "importtime", "-c", f"import {', '.join(_MODULES)}").stderr
    own = sum(int(microseconds) for microseconds in _OURS.findall(told)) / 1e6
    return {"package": package, "routing": routing, "ours": own}


def _run(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=_environment(checkout), capture_output=True, text=True, check=True)


def seconds_to_answer(checkout: Path, redis_url: str, folder: Path) -> dict[str, float]:
    """From the start of a serving process to the end of its answer to the first `initialize` and what follows it."""
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-P", "-m", "benchmarks.servers.launch", "daphne", str(port)]
    environment = _environment(checkout) | {"REDIS_URL": redis_url}
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "benchmarks.servers.ours:application"], env=environment, stdout=output, stderr=output
        )
    try:
        wait_for_port(process, port, log, pause=0.002)
        open_sessions(Target(port=port, path="/mcp"), 1)
        return {"answer": time.monotonic() - began, "answer_cpu": cpu_seconds(process.pid)}
    finally:
        stop(process)


def _environment(checkout: Path) -> dict[str, str]:
    """Everything of ours comes from the checkout, what only this one has from here; bytecode is cached as usual."""
    left_out = ("DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": os.pathsep.join([str(checkout), str(ROOT)])}


def measure(checkouts: Sequence[Path], rounds: int) -> dict[Path, dict[str, list[float]]]:
    """Every figure of every checkout, once a round; a first round that fills caches does not count."""
    found: dict[Path, dict[str, list[float]]] = {
        checkout: {figure: [] for figure in FIGURES} for checkout in checkouts
    }
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        for number in range(rounds + 1):
            for checkout in checkouts:
                figures = seconds_of_imports(checkout) | seconds_to_answer(checkout, url, Path(folder))
                if number:
                    for figure, seconds in figures.items():
                        found[checkout][figure].append(seconds)
    return found


def table(found: dict[str, list[float]]) -> str:
    rows = [
        f"{FIGURES[figure]:58}{statistics.median(seconds) * 1000:8.1f} ms"
        f"  ({min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f})"
        for figure, seconds in found.items()
    ]
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[tree()], help="default: this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    arguments = parser.parse_args(argv)
    found = measure([checkout.resolve() for checkout in arguments.checkouts], arguments.rounds)
    for checkout, figures in found.items():
        print(f"mcp_sessions in {checkout}, median of {arguments.rounds}\n{table(figures)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
