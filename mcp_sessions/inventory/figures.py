"""What was counted at some endpoints in the last hour, day or week, as figures for people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from mcp_sessions.counting import BUCKETS, OUTCOMES
from mcp_sessions.store.calls.counts import DAY, HOUR, SPANS, WEEK, Read, Span

#: By the names that addresses and commands have for them.
SPANS_BY_NAME: Final[Mapping[str, Span]] = {span.name: span for span in SPANS}
__all__ = ["DAY", "HOUR", "SPANS_BY_NAME", "WEEK", "Figures", "Span", "ToolFigures", "figures_of"]

_MINUTE_MS: Final = 60_000
_FIRST_BUCKET: Final = len(OUTCOMES)
#: Measured by one process for all, and of the Redis, which endpoints share: the highest counts, and not the sum.
_SHARED: Final = ("memory", "evicted", "latency_us")
#: So it is with those of several Redis.
_SLOWEST: Final = ("latency_us",)
#: Added up by every process once a minute.
_SAMPLED: Final = ("streams", "nodes")
#: Outcomes that are failures of the tool or of the server, and no wish of the client.
_FAILED: Final = [OUTCOMES.index("tool error"), OUTCOMES.index("error"), OUTCOMES.index("interrupted")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFigures:
    """The calls of one tool."""

    name: str
    calls: int
    #: Calls that failed: with a result that says so, with a JSON-RPC error, or because the process ended.
    failed: int
    cancelled: int
    #: Seconds that half of the calls, and 95 in 100, took at most; estimated within a bucket of durations.
    p50: float
    p95: float

    @property
    def failed_percent(self) -> float:
        return 100 * self.failed / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A span of time in steps, the oldest first. The last step has not ended."""

    span: Span
    #: By the store's clock, milliseconds since the epoch.
    now_ms: int
    steps: Sequence[Mapping[str, int]]
    #: Most calls first. They are those since `tools_since`, which is before the first step.
    tools: Sequence[ToolFigures]
    #: Keys that Redis evicted.
    evicted: int = 0

    @property
    def since(self) -> datetime:
        """When the first step begins."""
        return _moment((self.now_ms // self.span.step_ms + 1 - len(self.steps)) * self.span.step_ms)

    @property
    def tools_since(self) -> datetime:
        """Since when the calls of tools are counted."""
        first = (self.now_ms - self.span.milliseconds) // self.span.tools_step_ms
        return _moment(first * self.span.tools_step_ms)

    def starts(self) -> list[datetime]:
        """When each step begins."""
        first = self.now_ms // self.span.step_ms + 1 - len(self.steps)
        return [_moment((first + number) * self.span.step_ms) for number in range(len(self.steps))]

    def counted(self, *names: str) -> list[int]:
        """How often something happened in each step; a name stands for each of its labels, too."""
        return [sum(_number(step, name) for name in names) for step in self.steps]

    def per_minute(self, *names: str) -> list[float]:
        """The same for one minute."""
        counted, minutes = self.counted(*names), self._minutes()
        return [number / minute for number, minute in zip(counted, minutes, strict=True)]

    def measured(self, name: str) -> list[float | None]:
        """What was measured in each step; None where nobody did."""
        if name in _SAMPLED:
            return [
                number if name in step else None
                for step, number in zip(self.steps, self.per_minute(name), strict=True)
            ]
        return [step.get(name) for step in self.steps]

    def total(self, *names: str) -> int:
        return sum(self.counted(*names))

    def by_label(self, name: str) -> dict[str, int]:
        """How often something happened with each of its labels, most first."""
        found: Counter[str] = Counter()
        for step in self.steps:
            for full, number in step.items():
                head, _, label = full.partition(":")
                if head == name and label:
                    found[label] += number
        return dict(found.most_common())

    def most_per_minute(self, name: str, label: str) -> float:
        """How often something happened in one minute of the step in which it did most often."""
        return max(self.per_minute(f"{name}:{label}"))

    def _minutes(self) -> list[float]:
        """The minutes of each step; those of the last one that have begun."""
        whole = self.span.step_ms / _MINUTE_MS
        begun = (self.now_ms % self.span.step_ms) // _MINUTE_MS + 1
        return [whole] * (len(self.steps) - 1) + [min(whole, begun)]


def figures_of(reads: Mapping[str, Sequence[Read]]) -> Figures:
    """The figures of endpoints together, by the cache that they are in. They must be of one span."""
    all_reads = [read for some in reads.values() for read in some]
    longest = min(len(each.numbers) for each in all_reads)
    by_cache = [
        [_merged([each.numbers[number - longest] for each in some], _SHARED) for number in range(longest)]
        for some in reads.values()
    ]
    tools: dict[str, list[Sequence[int]]] = {}
    for name, numbers in _tools(all_reads):
        tools.setdefault(name, []).append(numbers)
    figures = [
        _tool(name, [sum(column) for column in zip(*rows, strict=True)]) for name, rows in tools.items()
    ]
    return Figures(
        span=all_reads[0].span,
        now_ms=max(each.now_ms for each in all_reads),
        steps=_together(by_cache),
        tools=sorted(figures, key=lambda each: (-each.calls, each.name)),
        evicted=sum(max(map(_evicted, some)) for some in reads.values()),
    )


def _evicted(read: Read) -> int:
    """How many keys its Redis has evicted. It counts anew when it starts, and when a replica takes over."""
    known = [step["evicted"] for step in read.numbers if "evicted" in step]
    return sum(max(0, now - before) for before, now in pairwise(known))


def _tools(reads: Iterable[Read]) -> Iterator[tuple[str, Sequence[int]]]:
    for each in reads:
        for step in each.tools:
            yield from step.items()


def _together(caches: Sequence[Sequence[Mapping[str, int]]]) -> list[dict[str, int]]:
    """The steps of all caches. A sum of memory is one only where all have told that ever did."""
    told = [steps for steps in caches if any("memory" in step for step in steps)]
    merged = [_merged(steps, _SLOWEST) for steps in zip(*caches, strict=True)]
    for number, step in enumerate(merged):
        if not all("memory" in steps[number] for steps in told):
            step.pop("memory", None)
    return merged


def _merged(steps: Sequence[Mapping[str, int]], highest: Sequence[str]) -> dict[str, int]:
    """The sum of steps; of the names in `highest`, the highest number."""
    merged: dict[str, int] = {}
    for step in steps:
        for name, number in step.items():
            known = merged.get(name, 0)
            merged[name] = max(known, number) if name in highest else known + number
    return merged


def _tool(name: str, numbers: Sequence[int]) -> ToolFigures:
    buckets = numbers[_FIRST_BUCKET:-1]
    return ToolFigures(
        name=name,
        calls=sum(buckets),
        failed=sum(numbers[outcome] for outcome in _FAILED),
        cancelled=numbers[OUTCOMES.index("cancelled")],
        p50=quantile(buckets, 0.5),
        p95=quantile(buckets, 0.95),
    )


def quantile(buckets: Sequence[int], part: float) -> float:
    """The duration in seconds that this part of all calls took at most, as if those of a bucket were spread evenly."""
    rank, before = part * sum(buckets), 0
    for number, bound, floor in zip(buckets, (*BUCKETS, BUCKETS[-1]), (0.0, *BUCKETS), strict=True):
        if number and before + number >= rank:
            return floor + (bound - floor) * (rank - before) / number
        before += number
    return 0.0


def _number(step: Mapping[str, int], name: str) -> int:
    if name in step:
        return step[name]
    return sum(number for full, number in step.items() if full.startswith(name + ":"))


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
