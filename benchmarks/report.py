"""A run as JSON, as Markdown in docs/benchmarks.md, and as lines on the terminal."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contestants import BY_NAME, CONTESTANTS
from benchmarks.measure import MANY, QUIET, Sample
from benchmarks.memory import Footprint
from benchmarks.targets import Verdict

START, END = "<!-- results: written by the benchmark -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one run measured."""

    #: ISO 8601, UTC.
    began: str
    #: What the command line asked for.
    options: Mapping[str, Any]
    #: Python, cores, Redis.
    environment: Mapping[str, str]
    #: Contestant -> distribution -> version.
    versions: Mapping[str, Mapping[str, str]]
    samples: Sequence[Sample]
    footprints: Sequence[Footprint]
    verdicts: Sequence[Verdict]
    #: Contestant -> why it could not be measured.
    missing: Mapping[str, str]
    #: Rounds that have no sample, and why.
    incidents: Sequence[str]

    def as_json(self) -> str:
        """Every sample, so that others can compute what we did not."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of the rounds and their extremes."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(median=statistics.median(ordered), lowest=ordered[0], highest=ordered[-1])


def read(path: Path) -> Run:
    """A run as it was written by `as_json`."""
    found = json.loads(path.read_text())
    found["samples"] = [Sample(**each) for each in found["samples"]]
    found["footprints"] = [Footprint(**each) for each in found["footprints"]]
    found["verdicts"] = [Verdict(**each) for each in found["verdicts"]]
    return Run(**found)


def markdown(run: Run) -> str:
    """The results as a section of a document."""
    parts = [
        f"Run of {run.began[:16].replace('T', ' ')} UTC: {_options(run.options)}. {_environment(run.environment)}",
        *_missing(run.missing),
        *_incidents(run.incidents),
        *disturbance(run.samples),
        "### Targets",
        _verdict_table(run.verdicts),
        *_call_sections(run.samples),
        *_memory_section(run.footprints),
        "### Versions",
        _versions_table(run.versions),
    ]
    return "\n\n".join(parts)


def write_docs(path: Path, run: Run) -> None:
    """Replace the text between the two markers. Raises: ValueError if the document has no markers."""
    text = path.read_text()
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{path.name} lacks the markers {START} and {END}")
    path.write_text(f"{head}{start}\n\n{markdown(run)}\n\n{end}{tail}")


def verdict_line(verdict: Verdict) -> str:
    """One target as a line for the terminal."""
    return f"{_mark(verdict.met):12} {_value(verdict):24} {verdict.text}"


def disturbance(samples: Sequence[Sample]) -> list[str]:
    """A warning if the servers did not get their core: their speed then says more about the machine."""
    loaded = [sample.server_busy for sample in samples if sample.connections >= MANY]
    share = statistics.median(loaded) if loaded else 1.0
    if share >= QUIET:
        return []
    return [
        f"**The machine was not quiet**: under load the servers got only {share:.0%} of their core (median). "
        "Ratios of such a run say little."
    ]


def _options(options: Mapping[str, Any]) -> str:
    return f"{options['rounds']} round(s) of {options['seconds']:g} s for each server and load"


def _environment(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in environment.items()) + "."


def _missing(missing: Mapping[str, str]) -> list[str]:
    return [f"Left out: {name} ({reason})." for name, reason in missing.items()]


def _incidents(incidents: Sequence[str]) -> list[str]:
    return ["Rounds without a sample: " + "; ".join(incidents) + "."] if incidents else []


def _verdict_table(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (
            verdict.text,
            _value(verdict),
            _mark(verdict.met),
            _ratio(verdict.unpatched),
            _ratio(verdict.both_patched),
        )
        for verdict in verdicts
    ]
    head = (
        "target, at 16 connections",
        "measured (lowest to highest round)",
        "",
        "both on plain daphne",
        "both on patched daphne",
    )
    return _table(head, rows)


def _call_sections(samples: Sequence[Sample]) -> list[str]:
    parts: list[str] = []
    for sessions in sorted({sample.sessions for sample in samples}):
        parts.append(f"### `tools/call`, {sessions:,} session{'s' if sessions > 1 else ''}")
        parts.append(_call_table([sample for sample in samples if sample.sessions == sessions]))
    return parts


def _call_table(samples: Sequence[Sample]) -> str:
    rows = []
    for contestant in CONTESTANTS:
        for size in sorted({sample.connections for sample in samples}):
            mine = [s for s in samples if s.contestant == contestant.name and s.connections == size]
            if mine:
                rows.append(_call_row(contestant.title, size, mine))
    head = ("server", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs per call", "resident MiB")
    return _table(head, rows)


def _call_row(title: str, size: int, samples: Sequence[Sample]) -> tuple[str, ...]:
    rate = Spread.of(sample.requests_per_second for sample in samples)
    p99 = Spread.of(sample.p99_ms for sample in samples)
    return (
        title,
        str(size),
        f"{rate.median:,.0f} ({rate.lowest:,.0f} to {rate.highest:,.0f})",
        f"{Spread.of(sample.p50_ms for sample in samples).median:.1f}",
        f"{p99.median:.1f} ({p99.lowest:.1f} to {p99.highest:.1f})",
        f"{Spread.of(sample.cpu_us for sample in samples).median:,.0f}",
        f"{Spread.of(sample.resident_mib for sample in samples).median:.0f}",
    )


def _memory_section(footprints: Sequence[Footprint]) -> list[str]:
    if not footprints:
        return []
    rows = [
        (BY_NAME[f.contestant].title, f"{f.sessions:,}", f"{f.process_bytes:,.0f}", f"{f.redis_bytes:,.0f}")
        for f in footprints
    ]
    head = ("server", "idle sessions", "process bytes per session", "Redis bytes per session")
    return ["### Memory of idle sessions", _table(head, rows)]


def _versions_table(versions: Mapping[str, Mapping[str, str]]) -> str:
    grouped: dict[str, list[str]] = {}
    for name, found in versions.items():
        grouped.setdefault(", ".join(f"{k} {v}" for k, v in found.items()), []).append(name)
    return _table(("server", "versions"), [(", ".join(names), text) for text, names in grouped.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return "-"
    if verdict.lowest is None:
        return f"{verdict.value:,.0f} bytes"
    return f"{verdict.value:.2f} × ({verdict.lowest:.2f} to {verdict.highest:.2f})"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ×"


def _mark(met: bool | None) -> str:
    return {True: "met", False: "MISSED", None: "not measured"}[met]
