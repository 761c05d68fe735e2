"""What the last requests of each record did, written in batches, behind the answers: an observer."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.records import ANONYMOUS
from mcp_sessions.serving.observing import Begun, Ended
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import recent
from mcp_sessions.store.calls.recent import Past
from mcp_sessions.streams.context import Context

#: Seconds between two times that they are written: requests of one record in that time are one call on the store.
WRITE_SECONDS: Final = 3.0
#: Records whose requests may wait to be written; those of further ones are dropped.
MOST_RECORDS: Final = 20_000
#: Digits of a node's id that are written.
NODE_DIGITS: Final = 8
#: For how long a record counts as one that fails after a request of it has failed, and how many are known.
FAILING_SECONDS: Final = 300.0
MOST_FAILING: Final = 200


@dataclass(slots=True)
class _Waiting:
    """The requests of one record that wait to be written."""

    #: Those that will be kept.
    last: deque[Ended]
    #: How many there are, and how many of them failed.
    ended: int = 0
    failed: int = 0


class PastRequests:
    """Keeps the last requests of each record until they are written. Nothing is kept of who has no record."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[str, _Waiting] = {}
        #: When a request of a record failed last, by `time.monotonic()`; the last one that did is the last.
        self._failing: dict[str, float] = {}
        self._due = time.monotonic() + WRITE_SECONDS

    def hear(self, ended: Sequence[Ended]) -> None:
        most = self._context.conf().recent_requests
        if not most:
            return
        for each in ended:
            fingerprint = _record_of(each.request)
            waiting = self._waiting.get(fingerprint)
            if waiting is None:
                if not fingerprint or len(self._waiting) >= MOST_RECORDS:
                    continue
                waiting = self._waiting[fingerprint] = _Waiting(deque(maxlen=most))
            waiting.last.append(each)
            waiting.ended += 1
            if (each.failed or each.code is not None) and each.outcome in recent.FAILURES:
                waiting.failed += 1
                self._failing.pop(fingerprint, None)
                self._failing[fingerprint] = each.ended

    def failing(self) -> list[str]:
        """The records of which requests failed lately, the newest MOST_FAILING."""
        since = time.monotonic() - FAILING_SECONDS
        last = [each for each in self._failing.items() if each[1] >= since][-MOST_FAILING:]
        self._failing = dict(last)
        return list(self._failing)

    def hurry(self) -> None:
        """Write with the next observation whatever waits: the process stops."""
        self._due = 0.0

    def writes(self) -> Sequence[Call[Any]]:
        now, most = time.monotonic(), self._context.conf().recent_requests
        if now < self._due or not most:
            return ()
        self._due = now + WRITE_SECONDS
        waiting, self._waiting = self._waiting, {}
        return [
            recent.note(fingerprint, self._past(each.last), ended=each.ended, failed=each.failed, most=most)
            for fingerprint, each in waiting.items()
        ]

    def _past(self, last: Iterable[Ended]) -> list[Past]:
        now_ms, now = self._context.node.validity.now_ms(), time.monotonic()
        node = self._context.node.id[:NODE_DIGITS]
        return [
            Past(
                now_ms - round((now - each.ended) * 1000),
                round(each.ms),
                each.outcome,
                node,
                each.request.call,
            )
            for each in last
        ]


def _record_of(request: Begun) -> str:
    """The fingerprint of the record that a request counts for; "" if there is none."""
    return "" if request.kind == "caller" and request.principal == ANONYMOUS else request.fingerprint
