"""`python -m benchmarks`: measure, print the targets, write the results. See docs/benchmarks.md."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contestants import BY_NAME, CONTESTANTS
from benchmarks.peers import versions
from benchmarks.report import Run, disturbance, verdict_line, write_docs
from benchmarks.runner import Options, Runner, environment
from benchmarks.targets import verdicts

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
DOCS = HERE.parent / "docs" / "benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, whatever the targets; 1 if this app itself could not be measured to the end."""
    if not sys.platform.startswith("linux"):
        print("The benchmark needs Linux: it reads /proc and pins processes to cores.")
        return 1
    signal.signal(signal.SIGTERM, _leave)
    arguments = parser().parse_args(argv)
    run = execute(options(arguments))
    print()
    for verdict in run.verdicts:
        print(verdict_line(verdict))
    for line in [*run.incidents, *disturbance(run.samples)]:
        print(line)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(run.as_json())
    print(f"\nresults in {arguments.output}")
    if arguments.write_docs:
        write_docs(DOCS, run)
        print(f"tables in {DOCS}")
    return 1 if any(name.startswith("ours") for name in run.missing) else 0


def _leave(*_: object) -> None:
    """End as after Ctrl-C, so that the servers end, too."""
    raise SystemExit(143)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--only", nargs="+", choices=sorted(BY_NAME), metavar="NAME", help=", ".join(BY_NAME))
    made.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64], metavar="N")
    made.add_argument("--sessions", nargs="*", type=int, default=[1, 1000], metavar="N")
    made.add_argument("--rounds", type=int, default=5, help="how often each server gets its turn")
    made.add_argument("--seconds", type=float, default=2.0, help="for each server, load and round")
    made.add_argument(
        "--idle", nargs="*", type=int, default=[1000, 5000, 10_000], metavar="N", help="for the memory"
    )
    made.add_argument("--warm-up", type=int, default=1000, metavar="N", help="sessions before memory is read")
    made.add_argument(
        "--quick", action="store_true", help="a look: 2 short rounds at 16 connections, no memory"
    )
    made.add_argument("--output", type=Path, default=LATEST, help="where the JSON goes")
    made.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    return made


def options(arguments: argparse.Namespace) -> Options:
    """What the command line asks for."""
    quick = {"connections": [16], "rounds": 2, "seconds": 0.7, "idle": []} if arguments.quick else {}
    chosen = {**vars(arguments), **quick}
    return Options(
        contestants=[c for c in CONTESTANTS if not arguments.only or c.name in arguments.only],
        **{key: chosen[key] for key in ("connections", "sessions", "rounds", "seconds", "idle", "warm_up")},
    )


def execute(wanted: Options) -> Run:
    """Measure what is wanted; every process that was started has ended when this returns."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mcp-benchmark-") as folder:
        runner = Runner(options=wanted, folder=Path(folder), say=say)
        runner.prepare()
        with runner.redis() as url:
            samples, weighed = runner.calls(url), runner.memory(url)
            surroundings = environment(runner.cores, url)
    return Run(
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        options={"connections": wanted.connections, "sessions": wanted.sessions}
        | {"rounds": wanted.rounds, "seconds": wanted.seconds, "idle": wanted.idle},
        environment=surroundings,
        versions={name: versions(python) for name, python in runner.pythons.items()},
        samples=samples,
        footprints=weighed,
        verdicts=verdicts(samples, weighed),
        missing=runner.missing,
        incidents=runner.incidents,
    )


if __name__ == "__main__":
    sys.exit(main())
