"""`python -m benchmarks.failover`: what clients notice while a primary is killed, hangs, or is replaced."""

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.report import write_docs
from benchmarks.failover.run import Group, Row, run
from benchmarks.failover.scenarios import BY_NAME, SCENARIOS

ROOT: Final = Path(__file__).parent.parent
LATEST: Final = ROOT / "results" / "failover.json"
DOCS: Final = ROOT.parent / "docs" / "failover.md"
START, END = "<!-- failover: written by the benchmark -->", "<!-- end of failover -->"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    made.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="NAME")
    made.add_argument("--clients", type=int, default=24)
    made.add_argument("--pause", type=float, default=0.5, help="seconds between two requests of a client")
    made.add_argument(
        "--output", type=Path, default=LATEST, help="where the JSON goes; other rows in it are kept"
    )
    made.add_argument("--logs", type=Path, metavar="DIRECTORY", help="where the processes' logs are kept")
    made.add_argument("--write-docs", action="store_true", help="put the table into docs/failover.md")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    options = parser().parse_args(argv)
    about = {
        "Python": platform.python_version(),
        "clients": options.clients,
        "seconds between two requests of each": options.pause,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    for name in options.only:
        row = run(BY_NAME[name], clients=options.clients, pause=options.pause, logs_to=options.logs)
        write(options.output, row, about)
        print(row, flush=True)
    rows, said = read(options.output)
    table = markdown(rows, said)
    print(table)
    if options.write_docs:
        write_docs(DOCS, table, START, END)
    return 0


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows, in the order of the scenarios, and what is said about the run."""
    document = json.loads(path.read_text())
    rows = {row["name"]: Row.from_json(row) for row in document["rows"]}
    return [rows[scenario.name] for scenario in SCENARIOS if scenario.name in rows], document["about"]


def write(path: Path, row: Row, about: Mapping[str, Any]) -> None:
    """Replace the row of that scenario, and keep those of others."""
    kept = {each.name: each for each in read(path)[0]} if path.exists() else {}
    kept[row.name] = row
    document = {"about": dict(about), "rows": [each.as_json() for each in kept.values()]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The table, and on what it was measured."""
    lines = [
        "| What happens | Replaced after | Sessions on it: longest gap, slowest call, failed "
        "| The others: the same | All before | Writes lost | Sessions lost | Ended ones alive | Wrong answers "
        "| Stuck | Messages lost, doubled |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, rows),
    ]
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join([*lines, "", f"Measured with {said}."])


def _line(row: Row) -> str:
    cells = [
        BY_NAME[row.name].title,
        f"{row.took:.1f} s",
        _group(row.concerned),
        _group(row.others),
        _group(row.calm),
        f"{row.writes_lost:,} of {row.writes:,}",
        f"{row.sessions_lost:,} of {row.concerned.sessions + (row.others.sessions if row.others else 0):,}",
        f"{row.alive_again:,} of {row.ended:,}",
        f"{row.wrong:,}",
        f"{row.stuck:,}",
        f"{row.messages_lost:,}, {row.messages_doubled:,} of {row.messages:,}",
    ]
    return f"| {' | '.join(cells)} |"


def _group(group: Group | None) -> str:
    if group is None:
        return ""
    return (
        f"{group.outage:.1f} s, {group.slowest:.1f} s, {sum(group.failed.values()):,} of {group.requests:,}"
    )


if __name__ == "__main__":
    sys.exit(main())
