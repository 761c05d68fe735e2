"""What became of the clients' requests and messages, and which failures the faults explain."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

#: What clients do: a call without state; one that counts in the session's state; one that reports progress on a stream;
#: one that asks its client; one that sends messages on the session's own stream; opening that stream; and the first
#: requests of a session.
Kind = Literal["call", "state", "stream", "ask", "tell", "listen", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request of a client. Times are of this machine's monotonic clock, in seconds."""

    kind: Kind
    #: The process that got it, or the last one that was tried.
    process: str
    sent: float
    ended: float
    #: The fingerprint of the session; empty if it was about to be opened.
    session: str = ""
    #: Why it failed, in a few words; empty if its answer was the right one.
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was broken for a while, or at one moment."""

    begun: float
    ended: float
    #: The process that was; None for what concerns all.
    process: str | None = None

    def explains(self, outcome: Outcome) -> bool:
        """Whether the request was under way at that time, and concerned."""
        concerned = self.process is None or self.process == outcome.process
        return concerned and outcome.sent <= self.ended and self.begun <= outcome.ended


@dataclass(slots=True)
class Messages:
    """Messages that clients should have received once each, in order."""

    received: int = 0
    lost: int = 0
    #: Received twice, or after a later one.
    doubled: int = 0

    def expect(self, numbers: Sequence[int], *, certain: Iterable[int]) -> None:
        """Numbers arrived in this order; the certain ones must be among them."""
        self.received += len(numbers)
        self.lost += len(set(certain) - set(numbers))
        last = 0
        for number in numbers:
            self.doubled += number <= last
            last = max(last, number)


@dataclass(slots=True)
class Record:
    """What all clients together saw."""

    outcomes: list[Outcome] = field(default_factory=list)
    messages: Messages = field(default_factory=Messages)
    #: Sessions whose client had to initialize another one.
    sessions_lost: int = 0
    #: Acknowledged calls that a session's state does not know of; of sessions that were lost, none.
    writes_lost: int = 0
    #: Seconds from request to answer of the calls that are answered at once, whatever the answer.
    waited: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if outcome.kind in ("call", "state"):
            self.waited.append(outcome.ended - outcome.sent)

    def failures(self, kinds: Iterable[Kind] | None = None) -> Counter[str]:
        """How many requests of these kinds failed, by reason."""
        wanted = None if kinds is None else set(kinds)
        return Counter(
            each.problem for each in self.outcomes if each.problem and (wanted is None or each.kind in wanted)
        )

    def unexplained(self, faults: Sequence[Fault]) -> list[Outcome]:
        """The failures that no fault explains."""
        return [
            each
            for each in self.outcomes
            if each.problem and not any(fault.explains(each) for fault in faults)
        ]
