"""What all processes have counted: sums since the beginning, and in the last hour, day and week.

Each of these spans of time has steps of one length, each of which has a hash of numbers and one of tools. They expire
when the span has moved on. Steps are those of the store's clock, so that processes whose clocks differ agree on them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mcp_sessions.counting import MOST_TOOLS, TOOL_NUMBERS, Counts
from mcp_sessions.store.call import Call, Operation, Script

#: For how long sums since the beginning are kept after the last count, and names of tools after their last call.
KEPT_MS: Final = 8 * 86_400_000
#: Numbers, and tools, that one script adds: it takes less than a millisecond.
NUMBERS_TOGETHER: Final = 40
TOOLS_TOGETHER: Final = 10
#: Steps of numbers, and of tools, that one script reads: likewise.
READ_TOGETHER: Final = 20
TOOLS_READ_TOGETHER: Final = 4

ADD: Final = Script("counts_add", "_record", repeatable=True)
SET: Final = Script("counts_set", repeatable=True)
READ: Final = Script("counts_read", "_record", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span of time up to now, in steps. Those of tools are longer: there are more numbers in each."""

    name: str
    milliseconds: int
    step_ms: int
    tools_step_ms: int

    def keys(self, now_ms: int) -> tuple[str, str]:
        """The parts of the keys of the numbers and of the tools of now."""
        return f"counts:{self.name}:{now_ms // self.step_ms}", self._tools(now_ms // self.tools_step_ms)

    def steps(self, now_ms: int) -> list[str]:
        """The keys of the numbers of all steps, the one that has not ended last."""
        last = now_ms // self.step_ms
        return [
            f"counts:{self.name}:{step}" for step in range(last - self.milliseconds // self.step_ms, last + 1)
        ]

    def tools_steps(self, now_ms: int) -> list[str]:
        """Those of the tools."""
        last = now_ms // self.tools_step_ms
        return [self._tools(step) for step in range(last - self.milliseconds // self.tools_step_ms, last + 1)]

    def _tools(self, step: int) -> str:
        return f"tool-counts:{self.name}:{step}"


HOUR: Final = Span(name="hour", milliseconds=3_600_000, step_ms=60_000, tools_step_ms=300_000)
DAY: Final = Span(name="day", milliseconds=86_400_000, step_ms=600_000, tools_step_ms=3_600_000)
WEEK: Final = Span(name="week", milliseconds=7 * 86_400_000, step_ms=3_600_000, tools_step_ms=21_600_000)
SPANS: Final = (HOUR, DAY, WEEK)


class Added(NamedTuple):
    """The store's time in milliseconds, and whether what was added is the first of its minute."""

    now_ms: int
    begins: bool


class Read(NamedTuple):
    """What was counted in a span of time, in steps, the one that has not ended last."""

    span: Span
    now_ms: int
    numbers: Sequence[Mapping[str, int]]
    tools: Sequence[Mapping[str, Sequence[int]]]


def parts_of(counts: Counts) -> Iterator[Counts]:
    """The same in parts, each of which one script adds."""
    numbers, tools = list(counts.numbers.items()), list(counts.tools.items())
    while numbers or tools:
        yield Counts(dict(numbers[:NUMBERS_TOGETHER]), dict(tools[:TOOLS_TOGETHER]))
        numbers, tools = numbers[NUMBERS_TOGETHER:], tools[TOOLS_TOGETHER:]


def add(
    counts: Counts, *, by: str, batch: str, now_ms: int, beside: Sequence[Call[None]] = ()
) -> Operation[Added]:
    """Add one of `parts_of` what a process counted. A batch that is sent again within ten minutes is not added again.

    `by` is the process; each of its batches has another name. `now_ms` is the store's time as far as it is known.
    `beside` are calls that share the round trip.
    """
    while True:
        reply, *_ = yield [_add(counts, by, batch, now_ms), *beside]
        now_ms, beside = int(reply[0]), ()
        if len(reply) > 1:
            return Added(now_ms, bool(reply[1]))


def set_numbers(numbers: Mapping[str, int], *, now_ms: int, spans: Sequence[Span] = SPANS) -> Call[None]:
    """Set numbers that are measured: in each step, the last one counts."""
    ttls = [span.milliseconds + 2 * span.step_ms for span in spans]
    flat = [part for pair in numbers.items() for part in pair]
    return Call(SET, "", [span.keys(now_ms)[0] for span in spans], (*ttls, *flat), lambda _, __: None)


def read(span: Span, *, now_ms: int) -> Operation[Read]:
    """What was counted in a span of time. One round trip if `now_ms` is the store's time."""
    while True:
        steps, tools = span.steps(now_ms), span.tools_steps(now_ms)
        replies = yield [
            # Nothing there is sealed, and a low-level server may answer calls of tools whose names look so.
            Call(READ, "", keys[start : start + together], (), lambda _, reply: reply, skips_sealed=True)
            for keys, together in ((steps, READ_TOGETHER), (tools, TOOLS_READ_TOGETHER))
            for start in range(0, len(keys), together)
        ]
        found = [each for reply in replies for each in reply[1:]]
        now_ms = int(replies[-1][0])
        if span.steps(now_ms) == steps and span.tools_steps(now_ms) == tools:
            numbers = [_numbers(each) for each in found[: len(steps)]]
            return Read(span, now_ms, numbers, [_tools(each) for each in found[len(steps) :]])


def totals() -> Call[Counts]:
    """All that was counted; it begins anew when nothing is counted for eight days."""
    return Call(READ, "", ("totals", "tool-totals"), (), _counts, skips_sealed=True)


def _add(counts: Counts, by: str, batch: str, now_ms: int) -> Call[Any]:
    parts = ["counted-by:" + by, "tool-names", "totals", "tool-totals"]
    steps: list[int] = []
    for span in SPANS:
        parts += span.keys(now_ms)
        for step_ms in (span.step_ms, span.tools_step_ms):
            steps += (now_ms // step_ms, step_ms, span.milliseconds + 2 * step_ms)
    numbers = [part for pair in counts.numbers.items() for part in pair]
    tools = [
        part
        for tool, some in counts.tools.items()
        for part in (tool.encode("utf-8", "backslashreplace"), " ".join(map(str, some)))
    ]
    arguments = (batch, MOST_TOOLS, KEPT_MS, len(counts.numbers), *steps, *numbers, *tools)
    return Call(ADD, "", parts, arguments, lambda _, reply: reply)


def _counts(_: str, reply: Any) -> Counts:
    return Counts(_numbers(reply[1]), {tool: list(some) for tool, some in _tools(reply[2]).items()})


def _numbers(flat: Sequence[bytes]) -> dict[str, int]:
    return {
        name.decode("utf-8", "replace"): int(number)
        for name, number in zip(flat[::2], flat[1::2], strict=True)
    }


def _tools(flat: Sequence[bytes]) -> dict[str, list[int]]:
    """Another release may have other buckets: what it counted cannot be read as ours."""
    found = {
        tool.decode("utf-8", "replace"): [int(number) for number in text.split()]
        for tool, text in zip(flat[::2], flat[1::2], strict=True)
    }
    return {tool: numbers for tool, numbers in found.items() if len(numbers) == TOOL_NUMBERS}
