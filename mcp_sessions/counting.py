"""What this process has counted: how often what happened at each endpoint, and how long calls of tools took.

To count costs an entry in a dictionary of this process. `serving.counts` adds what was counted to the store, which has
the sums of all processes. Any thread may count.
"""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, Literal

#: How a request ended: with a result; with the result of a tool that failed; with a JSON-RPC error; cancelled by its
#: client or an operator; or because its process, its session or its client was gone before the answer.
Outcome = Literal["ok", "tool error", "error", "cancelled", "interrupted"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("ok", "tool error", "error", "cancelled", "interrupted")
#: The upper bounds of the buckets of durations, in seconds; a last one has what took longer.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Of each tool: its calls by outcome, by duration, and the sum of their durations in milliseconds.
TOOL_NUMBERS: Final = len(OUTCOMES) + len(BUCKETS) + 2

#: Tools that are counted under their names; further ones are counted together as OTHER.
MOST_TOOLS: Final = 200
#: Characters of a name that count.
NAME_CHARS: Final = 100
#: What stands for the tools beyond that, and for names that no tool of the server has.
OTHER: Final = "(other)"
UNKNOWN: Final = "(unknown)"
#: Different things that are counted, each with each value of its label; further ones are not.
MOST_NAMES: Final = 500


@dataclass(slots=True)
class Counts:
    """Numbers by name, and those of tools."""

    numbers: dict[str, int] = field(default_factory=dict)
    tools: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, number: int) -> None:
        if name in self.numbers or len(self.numbers) < MOST_NAMES:
            self.numbers[name] = self.numbers.get(name, 0) + number

    def add_call(self, tool: str, milliseconds: float, outcome: Outcome) -> None:
        numbers = self.tools.get(tool)
        if numbers is None:
            tool = tool[:NAME_CHARS] if len(self.tools) < MOST_TOOLS else OTHER
            numbers = self.tools.setdefault(tool, [0] * TOOL_NUMBERS)
        numbers[OUTCOMES.index(outcome)] += 1
        numbers[len(OUTCOMES) + bisect_left(BUCKETS, milliseconds / 1000)] += 1
        numbers[-1] += round(milliseconds)

    def merge(self, other: "Counts") -> None:
        """Add what another has. The bounds hold for the sum, too."""
        for name, number in other.numbers.items():
            self.add(name, number)
        for tool, more in other.tools.items():
            known = tool if tool in self.tools or len(self.tools) < MOST_TOOLS else OTHER
            numbers = self.tools.get(known, [0] * TOOL_NUMBERS)
            self.tools[known] = [a + b for a, b in zip(numbers, more, strict=True)]


@dataclass(slots=True)
class _Endpoint:
    """What was counted of one endpoint: since it was last taken, and before that since the process began."""

    new: Counts = field(default_factory=Counts)
    taken: Counts = field(default_factory=Counts)


_lock: Final = threading.Lock()
_endpoints: Final[dict[str, _Endpoint]] = {}


def count(alias: str, name: str, number: int = 1, **labels: str) -> None:
    """It happened so often. `name` says what, and one label of a few values says more."""
    text = ":".join((name, *labels.values())) if labels else name
    with _lock:
        _of(alias).new.add(text, number)


def count_refusal(alias: str, status: int) -> None:
    """A request got an HTTP status from 400 on."""
    count(alias, "refusals", status=str(status))


def count_limited(alias: str, limit: str) -> None:
    """A limit has refused something: an entry of RATE_LIMITS, or the setting of a cap."""
    count(alias, "limited", limit=limit)


def count_refused_session(alias: str, limit: str) -> None:
    """A new session was refused at a cap."""
    count(alias, "sessions_refused")
    count_limited(alias, limit)


def count_call(alias: str, tool: str, *, milliseconds: float, outcome: Outcome) -> None:
    """A call of a tool has ended. `tool` is UNKNOWN if the server has no such tool."""
    with _lock:
        _of(alias).new.add_call(tool, milliseconds, outcome)


def take(alias: str) -> Counts:
    """What was counted since the last time. It counts as taken from here on."""
    with _lock:
        endpoint = _of(alias)
        taken, endpoint.new = endpoint.new, Counts()
        endpoint.taken.merge(taken)
    return taken


def since_the_start(alias: str) -> Counts:
    """All that this process has counted."""
    whole = Counts()
    with _lock:
        endpoint = _of(alias)
        whole.merge(endpoint.taken)
        whole.merge(endpoint.new)
    return whole


def _of(alias: str) -> _Endpoint:
    endpoint = _endpoints.get(alias)
    if endpoint is None:
        endpoint = _endpoints[alias] = _Endpoint()
    return endpoint
