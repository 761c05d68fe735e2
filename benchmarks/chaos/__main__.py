"""`python -m benchmarks.chaos`: what clients notice while processes, Redis and clocks fail."""

import argparse
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.chaos.report import DOCS, LATEST, markdown, read, write, write_docs
from benchmarks.chaos.run import run
from benchmarks.chaos.scenarios import BY_NAME


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=(__doc__ or "").split(";")[0]
    )
    made.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="NAME")
    made.add_argument("--clients", type=int, default=200)
    made.add_argument("--pause", type=float, default=1.0, help="seconds between two requests of a client")
    made.add_argument("--scale", type=float, default=1.0, help="multiplies all durations")
    made.add_argument(
        "--output", type=Path, default=LATEST, help="where the JSON goes; other rows in it are kept"
    )
    made.add_argument("--write-docs", action="store_true", help="put the table into docs/chaos.md")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    options = parser().parse_args(argv)
    about = {
        "Python": platform.python_version(),
        "clients": options.clients,
        "seconds between two requests of each": options.pause,
        "scale": options.scale,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    for name in options.only:
        row = run(BY_NAME[name], clients=options.clients, scale=options.scale, pause=options.pause)
        write(options.output, [row], about)
        print(row, flush=True)
    rows, said = read(options.output)
    table = markdown(rows, said)
    print(table)
    if options.write_docs:
        write_docs(DOCS, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
