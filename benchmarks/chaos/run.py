"""One scenario under load, and its row of the table."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

from benchmarks.chaos.crowd import Crowd, working
from benchmarks.chaos.outcomes import Fault, Record
from benchmarks.chaos.scenarios import Scenario
from benchmarks.chaos.world import World, world

#: Seconds in which a request must be answered, beyond the duration of the fault.
PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one scenario did to the clients."""

    name: str
    clients: int
    seconds: float
    requests: int
    #: Failed requests by reason.
    failed: Mapping[str, int]
    #: Those of them that no fault explains.
    unexplained: Mapping[str, int]
    #: Failed calls that need neither state nor a stream.
    failed_calls: int
    sessions_lost: int
    messages: int
    messages_lost: int
    messages_doubled: int
    #: Of the calls that are answered at once, milliseconds.
    p50_ms: float
    p99_ms: float
    #: MiB per minute: of the process that grew most, and of Redis. None if the scenario is too short.
    process_slope: float | None
    redis_slope: float | None
    #: Tracebacks in the logs of the processes.
    tracebacks: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(scenario: Scenario, *, clients: int, scale: float, pause: float) -> Row:
    """Raises: LookupError if a program is missing."""
    with made_for(scenario) as everything:
        return run_in(everything, scenario, clients=clients, scale=scale, pause=pause)


@contextmanager
def made_for(scenario: Scenario) -> Iterator[World]:
    """A world as the scenario needs it. Raises: LookupError if a program is missing."""
    with (
        tempfile.TemporaryDirectory(prefix="mcp-chaos-") as name,
        world(
            Path(name), keep=scenario.keep, settings=scenario.settings, skewed=scenario.skewed
        ) as everything,
    ):
        yield everything


def run_in(everything: World, scenario: Scenario, *, clients: int, scale: float, pause: float) -> Row:
    """One scenario in a world that has its settings; several may follow one another."""
    everything.faults.clear()
    patience = PATIENCE + scenario.seconds * scale
    crowd = Crowd(everything.processes, clients, patience=patience, pause=pause)
    begun = monotonic()
    with working(crowd):
        scenario.run(everything, scale)
    return _row(scenario, clients, monotonic() - begun, crowd.record, everything)


def _row(scenario: Scenario, clients: int, seconds: float, record: Record, everything: World) -> Row:
    process_slope, redis_slope = everything.memory.slopes()
    waited = sorted(record.waited)
    logs = [process.log.read_text(errors="replace") for process in everything.processes]
    return Row(
        name=scenario.name,
        clients=clients,
        seconds=round(seconds, 1),
        requests=len(record.outcomes),
        failed=dict(record.failures().most_common()),
        unexplained=_unexplained(record, everything.faults),
        failed_calls=record.failures(["call"]).total(),
        sessions_lost=record.sessions_lost,
        messages=record.messages.received,
        messages_lost=record.messages.lost,
        messages_doubled=record.messages.doubled,
        p50_ms=round(1000 * statistics.median(waited), 1),
        p99_ms=round(1000 * waited[int(len(waited) * 0.99)], 1),
        process_slope=process_slope,
        redis_slope=redis_slope,
        tracebacks=sum(log.count("Traceback (most recent call last)") for log in logs),
    )


def _unexplained(record: Record, faults: Sequence[Fault]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in record.unexplained(faults):
        reason = f"{each.kind} on {each.process or 'any'}: {each.problem}"
        found[reason] = found.get(reason, 0) + 1
    return found
