"""The rows as JSON and as the table of docs/chaos.md."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.run import Row
from benchmarks.chaos.scenarios import BY_NAME, SCENARIOS

HERE: Final = Path(__file__).parent
LATEST: Final = HERE.parent / "results" / "chaos.json"
DOCS: Final = HERE.parent.parent / "docs" / "chaos.md"
START, END = "<!-- chaos: written by the benchmark -->", "<!-- end of chaos -->"


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows, in the order of the scenarios, and what is said about the run."""
    document = json.loads(path.read_text())
    return [Row(**row) for row in document["rows"]], document["about"]


def write(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Replace the rows of these scenarios, and keep those of others."""
    kept = {row.name: row for row in read(path)[0]} if path.exists() else {}
    kept |= {row.name: row for row in rows}
    ordered = [kept[scenario.name] for scenario in SCENARIOS if scenario.name in kept]
    document = {"about": dict(about), "rows": [row.as_json() for row in ordered]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_docs(path: Path, table: str, before: str = START, behind: str = END) -> None:
    """Replace what stands between the two markers. Raises: ValueError if they are missing."""
    head, start, rest = path.read_text().partition(before)
    _, end, tail = rest.partition(behind)
    if not start or not end:
        raise ValueError(f"{path.name} lacks the markers {before} and {behind}")
    path.write_text(f"{head}{start}\n\n{table}\n\n{end}{tail}")


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The table, and on what it was measured."""
    lines = [
        "| What happens | Requests | Failed, and why | Sessions lost | Messages | Lost | Doubled | p50, p99 | Memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, rows),
    ]
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join([*lines, "", f"Measured with {said}."])


def _line(row: Row) -> str:
    cells = [
        BY_NAME[row.name].title,
        f"{row.requests:,}",
        _failed(row),
        f"{row.sessions_lost:,} of {row.clients}",
        f"{row.messages:,}",
        f"{row.messages_lost:,}",
        f"{row.messages_doubled:,}",
        f"{_milliseconds(row.p50_ms)}, {_milliseconds(row.p99_ms)}",
        _memory(row),
    ]
    return f"| {' | '.join(cells)} |"


def _failed(row: Row) -> str:
    if not row.failed:
        return "0"
    reasons = "; ".join(f"{count:,} × {reason}" for reason, count in row.failed.items())
    beyond = sum(row.unexplained.values())
    return reasons + (f"; {beyond:,} of them outside of the fault" if beyond else "")


def _milliseconds(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def _memory(row: Row) -> str:
    if row.process_slope is None or row.redis_slope is None:
        return ""
    return f"process {row.process_slope:+.2f}, Redis {row.redis_slope:+.2f} MiB/min"
