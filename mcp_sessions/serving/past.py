"""What the last requests of each record did, written in batches, behind the answers: an observer."""

import time
from collections.abc import Sequence
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


class PastRequests:
    """Keeps the last requests of each record until they are written. Nothing is kept of who has no record."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[str, list[Past]] = {}
        self._failed: dict[str, int] = {}
        self._due = time.monotonic() + WRITE_SECONDS

    def hear(self, ended: Sequence[Ended]) -> None:
        if not self._context.conf().recent_requests:
            return
        now_ms, now = self._context.node.validity.now_ms(), time.monotonic()
        node = self._context.node.id[:NODE_DIGITS]
        for each in ended:
            fingerprint = _record_of(each.request)
            if fingerprint not in self._waiting and (not fingerprint or len(self._waiting) >= MOST_RECORDS):
                continue
            outcome, ended_ms = each.outcome, now_ms - round((now - each.ended) * 1000)
            past = Past(ended_ms, round(each.ms), outcome, node, each.request.call)
            self._waiting.setdefault(fingerprint, []).append(past)
            if outcome in recent.FAILURES:
                self._failed[fingerprint] = self._failed.get(fingerprint, 0) + 1

    def writes(self) -> Sequence[Call[Any]]:
        now, most = time.monotonic(), self._context.conf().recent_requests
        if now < self._due or not most:
            return ()
        self._due = now + WRITE_SECONDS
        waiting, self._waiting = self._waiting, {}
        failed, self._failed = self._failed, {}
        return [
            recent.note(fingerprint, requests, failed=failed.get(fingerprint, 0), most=most)
            for fingerprint, requests in waiting.items()
        ]


def _record_of(request: Begun) -> str:
    """The fingerprint of the record that a request counts for; "" if there is none."""
    return "" if request.kind == "caller" and request.principal == ANONYMOUS else request.fingerprint
