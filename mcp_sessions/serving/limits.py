"""RATE_LIMITS: which requests are refused because there were too many, on all processes together."""

import logging
import time
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, Final

from mcp_sessions import counting
from mcp_sessions.conf.rates import INITIALIZE, REQUESTS, STREAMS, TOOL
from mcp_sessions.records import shown
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk.listening import LISTEN
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import rates
from mcp_sessions.store.calls.rates import Bucket, Lacking, Who
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.rejections import Rejection

logger = logging.getLogger(__name__)

#: Buckets of which a process remembers that they are empty: a flood costs the store nothing while they are.
MOST_REMEMBERED: Final = 10_000


def counted_as(message: jsonrpc.Message) -> Sequence[str]:
    """Under which names of RATE_LIMITS a message counts."""
    if not isinstance(message, jsonrpc.Request):
        return (REQUESTS,)
    if message.method == "initialize":
        return REQUESTS, INITIALIZE
    if message.method == LISTEN:
        return REQUESTS, STREAMS
    if message.method == "tools/call":
        return REQUESTS, f"{TOOL}{(message.params or {}).get('name')}"
    return (REQUESTS,)


class RateLimits:
    """The limits of one endpoint, as one process asks for them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        #: By the key of a bucket that is empty: until when, in seconds of the monotonic clock.
        self._empty: dict[str, float] = {}
        #: How many requests were refused since the process started.
        self.refused = 0
        alias = context.conf().alias
        self._row = Repeats(logger, f"Requests to endpoint {alias!r} beyond RATE_LIMITS")

    async def refusal(self, whats: Iterable[str], who: Who) -> Rejection | None:
        """Take a token for a request from each of its buckets; why it is refused, if one is empty."""
        calls = self.calls(whats, who)
        if isinstance(calls, Rejection):
            return calls
        return self.judge(await self._context.store.run_all(calls)) if calls else None

    def calls(self, whats: Iterable[str], who: Who) -> "list[Call[Lacking | None]] | Rejection":
        """The calls that take a token for a request; a rejection if it is known that a bucket is empty."""
        conf, now = self._context.conf(), time.monotonic()
        wanted = rates.buckets(conf.rates, whats, who, shards=conf.limits.shards)
        for bucket in wanted:
            until = self._empty.get(bucket.part, 0)
            if until > now:
                return self._rejection(bucket, until - now)
        return rates.spend(wanted)

    def judge(self, verdicts: Sequence[Any]) -> Rejection | None:
        """What the results of these calls mean."""
        lacking = [verdict for verdict in verdicts if isinstance(verdict, Lacking)]
        if not lacking:
            return None
        now = time.monotonic()
        if len(self._empty) >= MOST_REMEMBERED:
            self._empty = {part: until for part, until in self._empty.items() if until > now}
        for verdict in lacking:
            if len(self._empty) < MOST_REMEMBERED:
                self._empty[verdict.bucket.part] = now + verdict.wait_ms / 1000
        longest = max(lacking, key=lambda verdict: verdict.wait_ms)
        return self._rejection(longest.bucket, longest.wait_ms / 1000)

    def _rejection(self, bucket: Bucket, seconds: float) -> Rejection:
        self.refused += 1
        counting.count_limited(self._context.conf().alias, str(bucket.limit))
        self._row.add("Refused a request beyond RATE_LIMITS: %s.", shown(str(bucket.limit)))
        wait = max(1, ceil(seconds))
        return Rejection(
            status=429,
            message=f"Too Many Requests: the limit of {bucket.limit} is reached. Try again in {wait} s.",
            extra=((b"retry-after", b"%d" % wait),),
        )
