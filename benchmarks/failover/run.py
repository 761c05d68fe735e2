"""One scenario under load, and its row of the table."""

import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from shutil import copy
from time import monotonic
from typing import Any, Final

from benchmarks.chaos.crowd import Crowd, working
from benchmarks.chaos.outcomes import Outcome
from benchmarks.failover.ends import Ender
from benchmarks.failover.scenarios import Scenario
from benchmarks.failover.topologies import NAMESPACE, Topology
from tests.support.processes import Process, daphne, drained_by_ours, started

PROCESSES: Final = 2
#: Seconds for which the clients work before, and after.
CALM: Final = 5.0
AFTER: Final = 8.0
#: Seconds in which a request must be answered: whoever waits longer is stuck.
PATIENCE: Final = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What the clients of some sessions saw."""

    sessions: int
    requests: int
    #: Requests that failed, by reason.
    failed: Mapping[str, int]
    #: The longest time without a successful call of any of them, and from when on calls had succeeded again for good,
    #: both in seconds; the latter counts from the fault.
    outage: float
    recovered: float
    #: Seconds that the slowest call took, whatever its answer.
    slowest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one scenario did to the clients."""

    name: str
    #: Seconds until another primary, or the same one again, served the keys.
    took: float
    #: All sessions, before the fault.
    calm: Group
    #: Sessions that the fault concerned, and the others.
    concerned: Group
    others: Group | None
    wrong: int
    writes: int
    writes_lost: int
    sessions_lost: int
    ended: int
    alive_again: int
    stuck: int
    messages: int
    messages_lost: int
    messages_doubled: int
    tracebacks: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Row":
        groups = {
            name: None if value[name] is None else Group(**value[name])
            for name in ("calm", "concerned", "others")
        }
        return Row(**{**value, **groups})


def run(scenario: Scenario, *, clients: int, pause: float, logs_to: Path | None = None) -> Row:
    """Start everything, do it while the clients work, and look at what they saw.

    `logs_to`: a directory to which the logs of the processes are copied.
    """
    with tempfile.TemporaryDirectory(prefix="mcp-failover-") as name, scenario.topology() as topology:
        processes = [_served(letter, Path(name), topology) for letter in "ABC"[:PROCESSES]]
        with started(processes):
            ender = Ender(processes)
            crowd = Crowd(processes, clients, patience=PATIENCE, pause=pause)
            with working(crowd):
                ender.start()
                _wait(CALM)
                topology.primary()
                begun = monotonic()
                over = scenario.act(topology, _wait)
                _wait(AFTER)
                ender.finish()
            if logs_to is not None:
                for process in processes:
                    copy(process.log, logs_to / f"{scenario.name}-{process.log.name}")
            logs = [process.log.read_text(errors="replace") for process in processes]
            return _row(scenario, topology, crowd, ender, begun=begun, over=over, logs=logs)


def _served(name: str, directory: Path, topology: Topology) -> Process:
    values = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.servers.failover_settings",
        "FAILOVER_CACHE": json.dumps(topology.cache),
        "MCP_SERVER": "tests.served.chaos.server",
        "MCP_NAMESPACE": NAMESPACE,
    }
    return drained_by_ours(daphne(name, directory, **values))


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _row(
    scenario: Scenario,
    topology: Topology,
    crowd: Crowd,
    ender: Ender,
    *,
    begun: float,
    over: float,
    logs: Sequence[str],
) -> Row:
    record = crowd.record
    outcomes = [each for each in record.outcomes if each.session]
    problems = [each.problem for each in outcomes if each.problem]

    def seen_by(concerned: Callable[[Outcome], bool]) -> Group | None:
        return group([each for each in outcomes if concerned(each)], since=begun)

    concerned = seen_by(lambda each: topology.concerns(each.session))
    before = [each for each in outcomes if each.ended < begun]
    calm = group(before, since=min(each.ended for each in before))
    if concerned is None or calm is None:
        raise LookupError("no session was concerned")
    return Row(
        name=scenario.name,
        took=over - begun,
        calm=calm,
        concerned=concerned,
        others=seen_by(lambda each: not topology.concerns(each.session)),
        wrong=sum(problem.startswith(("wrong answer", "counted to")) for problem in problems),
        writes=sum(each.kind == "state" and not each.problem for each in outcomes),
        writes_lost=record.writes_lost,
        sessions_lost=record.sessions_lost,
        ended=len(ender.ended),
        alive_again=ender.alive(),
        stuck=sum(problem.startswith("no answer") for problem in problems),
        messages=record.messages.received,
        messages_lost=record.messages.lost,
        messages_doubled=record.messages.doubled,
        tracebacks=sum(log.count("Traceback (most recent call last)") for log in logs),
    )


def group(outcomes: Sequence[Outcome], *, since: float) -> Group | None:
    """What these requests say about the time since a fault; None without any."""
    after = [each for each in outcomes if each.ended >= since]
    if not after:
        return None
    quick = [each for each in after if each.kind in ("call", "state")]
    good = sorted(each.ended for each in quick if not each.problem)
    failed: dict[str, int] = {}
    for each in after:
        if each.problem:
            failed[each.problem] = failed.get(each.problem, 0) + 1
    last_failure = max((each.ended for each in quick if each.problem), default=since)
    return Group(
        sessions=len({each.session for each in outcomes}),
        requests=len(after),
        failed=failed,
        outage=_longest_gap([since, *good]),
        recovered=next((when for when in good if when > last_failure), last_failure) - since,
        slowest=max((each.ended - each.sent for each in quick), default=0.0),
    )


def _longest_gap(moments: Iterable[float]) -> float:
    return max((after - before for before, after in pairwise(moments)), default=float("inf"))
