"""Cancellations of requests that do not run in this process: every other node is told.

Only the node that runs a request knows its id, so a cancellation of an id that nobody runs is told to all nodes, too.
What a client can do to them with invented ids is bounded: those of PAUSE_SECONDS are one broadcast, and their number in
a minute is limited by the number of requests that may run.
"""

import asyncio
from collections import Counter
from itertools import islice
from typing import Final

from mcp_sessions.cluster.notifications import Cancelled
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving.admission import name_of
from mcp_sessions.streams.context import Context
from mcp_sessions.transport import jsonrpc

#: Seconds between two broadcasts; what is cancelled meanwhile is one of them.
PAUSE_SECONDS: Final = 0.25
#: Requests that one broadcast names at most.
MOST_NAMED: Final = 1_000
#: Seconds in which as many cancellations are told as requests may run: of a session, and in all.
WINDOW_SECONDS: Final = 60.0


class Cancellations:
    """Tells the other nodes which requests clients cancelled."""

    def __init__(self, context: Context) -> None:
        self._context = context
        #: The names of requests, and what is done when the others were told.
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._sending = False
        self._since = 0.0
        self._told: Counter[str] = Counter()

    async def tell(self, fingerprint: str, request_id: jsonrpc.RequestId) -> bool:
        """Tell the others to cancel a request, and wait until the store has it. False if there were too many.

        Raises: StoreUnavailable; the others may be told all the same.
        """
        name = name_of(fingerprint, request_id)
        told = self._waiting.get(name)
        if told is None:
            if not self._may_tell(fingerprint):
                return False
            told = self._waiting[name] = asyncio.get_running_loop().create_future()
            if not self._sending:
                self._sending = True
                self._context.spawn(self._send())
        await asyncio.shield(told)
        return True

    def _may_tell(self, fingerprint: str) -> bool:
        """Count one more cancellation, unless a limit is reached."""
        now, conf = asyncio.get_running_loop().time(), self._context.conf()
        if now - self._since >= WINDOW_SECONDS:
            self._since = now
            self._told.clear()
        if (
            self._told[fingerprint] >= conf.max_requests_per_session
            or self._told.total() >= conf.max_requests
        ):
            return False
        self._told[fingerprint] += 1
        return True

    async def _send(self) -> None:
        """Send what waits, and what comes until nothing has come for a pause."""
        try:
            while self._waiting:
                names = tuple(islice(self._waiting, MOST_NAMED))
                if await self._context.node.broadcast(Cancelled(requests=names)):
                    for name in names:
                        self._waiting.pop(name).set_result(None)
                else:
                    self._refuse()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._sending = False
            # The process stops: whoever waits was not promised anything.
            for told in self._waiting.values():
                told.cancel()
            self._waiting.clear()

    def _refuse(self) -> None:
        """The store did not take the last ones: who waits behind them does not wait for another attempt."""
        for told in self._waiting.values():
            told.set_exception(StoreUnavailable("the other nodes are told later, if at all"))
        self._waiting.clear()
