"""What this app promises to reach, and whether a run reached it. Ratios are taken within a round, then the median."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.contestants import DJANGO_MCP, OURS, PATCHED, REDIS_PEERS, SDK_JSON, SDK_SSE, UNPATCHED
from benchmarks.measure import Sample
from benchmarks.memory import Footprint

Field = Literal["requests_per_second", "p99_ms"]
#: The load at which the ratios are promised.
CONNECTIONS: Final = 16
#: "No memory" as a reading of whole pages can show it: an entry of an empty dictionary would cost more.
NO_BYTES: Final = 100
REDIS_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """This app against one other, at one number of sessions."""

    other: str
    sessions: int
    field: Field
    bound: float

    @property
    def text(self) -> str:
        what, sign = ("requests/s", "≥") if self.field == "requests_per_second" else ("p99", "≤")
        plural = "" if self.sessions == 1 else "s"
        return f"{what} against {self.other}, {self.sessions:,} session{plural}: {sign} {self.bound:g} ×"

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.field == "requests_per_second" else value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target after a run. `value` is None where the run did not measure it."""

    text: str
    value: float | None
    lowest: float | None = None
    highest: float | None = None
    #: Also measured with plain daphne under this app, and with patched daphne under the other one.
    unpatched: float | None = None
    both_patched: float | None = None
    met: bool | None


def promises() -> list[Promise]:
    """The ratios, in the order in which they are shown."""
    rate: Field = "requests_per_second"
    return [
        Promise(other=SDK_SSE, sessions=1, field=rate, bound=2.5),
        Promise(other=SDK_JSON, sessions=1, field=rate, bound=1.4),
        Promise(other=SDK_JSON, sessions=1000, field=rate, bound=1.8),
        Promise(other=SDK_SSE, sessions=1000, field="p99_ms", bound=0.5),
        Promise(other=SDK_JSON, sessions=1000, field="p99_ms", bound=0.5),
        *(Promise(other=DJANGO_MCP, sessions=count, field=rate, bound=8) for count in (1, 1000)),
        *(
            Promise(other=peer, sessions=count, field=rate, bound=3)
            for peer in REDIS_PEERS
            for count in (1, 1000)
        ),
    ]


def verdicts(samples: Sequence[Sample], footprints: Sequence[Footprint]) -> list[Verdict]:
    """All targets, with what this run says about them."""
    return [_compare(promise, samples) for promise in promises()] + _memory(footprints)


def ratios(
    promise: Promise, samples: Sequence[Sample], *, ours: str = OURS, other: str | None = None
) -> list[float]:
    """This app's value over the other's, one for each round that has both."""
    values = {
        (sample.contestant, sample.round): float(getattr(sample, promise.field))
        for sample in samples
        if sample.sessions == promise.sessions and sample.connections == CONNECTIONS
    }
    both = [
        (values[ours, number], values.get((other or promise.other, number)))
        for name, number in values
        if name == ours
    ]
    return [own / their for own, their in both if their]


def _compare(promise: Promise, samples: Sequence[Sample]) -> Verdict:
    found = ratios(promise, samples)
    if not found:
        return Verdict(text=promise.text, value=None, met=None)
    value = statistics.median(found)
    patched = PATCHED.get(promise.other)
    return Verdict(
        text=promise.text,
        value=value,
        lowest=min(found),
        highest=max(found),
        unpatched=_median(ratios(promise, samples, ours=UNPATCHED)),
        both_patched=_median(ratios(promise, samples, other=patched)) if patched else None,
        met=promise.holds(value),
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _memory(footprints: Sequence[Footprint]) -> list[Verdict]:
    largest = max((f for f in footprints if f.contestant == OURS), key=lambda f: f.sessions, default=None)
    process = f"process memory of an idle session: 0 bytes (under {NO_BYTES}, the resolution)"
    stored = f"Redis memory of an idle session: ≤ {REDIS_BYTES:,} bytes"
    if largest is None:
        return [Verdict(text=text, value=None, met=None) for text in (process, stored)]
    return [
        Verdict(text=process, value=largest.process_bytes, met=largest.process_bytes < NO_BYTES),
        Verdict(text=stored, value=largest.redis_bytes, met=largest.redis_bytes <= REDIS_BYTES),
    ]
