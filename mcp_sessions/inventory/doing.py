"""What records do now, as the nodes report it: for the list, whose indexes know nothing of that."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from mcp_sessions.inventory.nodes import RunningCall, ServingNode

#: A call that has run for so long is stuck, as far as anybody can say.
STUCK: Final = timedelta(seconds=30)


@dataclass(slots=True)
class Doing:
    """What one record does."""

    #: What has run for longest first.
    calls: list[RunningCall] = field(default_factory=list)
    streams: int = 0


def doing_of(found: Iterable[ServingNode]) -> dict[str, Doing]:
    """What records do, by fingerprint: those of which a request runs or a stream is open, as far as nodes name them.

    What ran in a node that is silent counts: nobody knows better.
    """
    doing: dict[str, Doing] = {}
    for node in found:
        for call in node.running:
            doing.setdefault(call.fingerprint, Doing()).calls.append(call)
        for stream in node.open:
            doing.setdefault(stream.fingerprint, Doing()).streams += 1
    for each in doing.values():
        each.calls.sort(key=lambda call: call.began)
    return doing


def _calling(found: Iterable[ServingNode], _now_ms: int) -> set[str]:
    return {fingerprint for fingerprint, each in doing_of(found).items() if each.calls}


def _stuck(found: Iterable[ServingNode], now_ms: int) -> set[str]:
    before = datetime.fromtimestamp(now_ms / 1000, UTC) - STUCK
    return {call.fingerprint for node in found for call in node.running if call.began <= before}


def _streaming(found: Iterable[ServingNode], _now_ms: int) -> set[str]:
    return {fingerprint for fingerprint, each in doing_of(found).items() if each.streams}


def _failing(found: Iterable[ServingNode], _now_ms: int) -> set[str]:
    return {fingerprint for node in found for fingerprint in node.failing}


#: What the list can be narrowed to by what nodes report: the word in the address, in words, and which records, by the
#: clock of their store.
NARROWED: Final[Mapping[str, tuple[Promise, Callable[[Iterable[ServingNode], int], set[str]]]]] = {
    "calling": (gettext_lazy("Calling"), _calling),
    "stuck": (gettext_lazy("Calling for more than 30 s"), _stuck),
    "streaming": (gettext_lazy("With an open stream"), _streaming),
    "failing": (gettext_lazy("Failed in the last 5 min"), _failing),
}
