"""What this process has admitted: the requests that it answers, and the streams that it may have open."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from mcp_sessions.conf import Endpoint
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.transport import jsonrpc


class Admission:
    """Keeps to MAX_REQUESTS, MAX_REQUESTS_PER_SESSION and MAX_STREAMS, and knows the exchanges in flight."""

    def __init__(self, conf: Callable[[], Endpoint]) -> None:
        self._conf = conf
        #: By session. Not by request id: a client may use one twice, against the protocol, and each must be found.
        self._exchanges: dict[str, set[Exchange]] = {}
        #: The tasks that handle notifications.
        self.notifications: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._streams = 0

    def __iter__(self) -> Iterator[Exchange]:
        """The exchanges in flight; they may change while the caller goes through them."""
        return iter([exchange for exchanges in self._exchanges.values() for exchange in exchanges])

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """What runs: the handlers of requests and of notifications."""
        return [exchange.task for exchange in self if exchange.task is not None] + list(self.notifications)

    def of(self, fingerprint: str) -> list[Exchange]:
        """The exchanges in flight of one session."""
        return list(self._exchanges.get(fingerprint, ()))

    def may_run(self, fingerprint: str) -> bool:
        """Whether one more request of a session may be answered now."""
        conf, own = self._conf(), self._exchanges.get(fingerprint, ())
        return self._requests < conf.max_requests and len(own) < conf.max_requests_per_session

    def run(self, exchange: Exchange) -> None:
        """Run an exchange in a task of its own, so that it outlives the connection that the request came on."""
        self._requests += 1
        self._exchanges.setdefault(exchange.session.fingerprint, set()).add(exchange)
        exchange.task = task = asyncio.create_task(exchange.run())
        task.add_done_callback(lambda _: self._ended(exchange))

    def _ended(self, exchange: Exchange) -> None:
        # Let go of the task: its context holds the exchange, and a cycle would wait for the garbage collector.
        exchange.task = None
        if exchange.response is None:
            # The task was cancelled before its first step, so nothing of it has run.
            exchange.respond(exchange.interrupted())
        self._requests -= 1
        fingerprint = exchange.session.fingerprint
        self._exchanges[fingerprint].discard(exchange)
        if not self._exchanges[fingerprint]:
            del self._exchanges[fingerprint]

    def run_notification(self, work: Coroutine[Any, Any, None]) -> None:
        """Handle a notification in a task of its own."""
        task = asyncio.create_task(work)
        self.notifications.add(task)
        task.add_done_callback(self.notifications.discard)

    def cancel(self, fingerprint: str, request_id: jsonrpc.RequestId) -> bool:
        """Cancel a request on its client's behalf. False if it is not answered here."""
        wanted = correlation(request_id)
        found = [e for e in self.of(fingerprint) if correlation(e.request.id) == wanted]
        for exchange in found:
            exchange.cancel()
        return bool(found)

    def open_stream(self) -> bool:
        """Count one more stream, or response that may become one, until `close_stream`. False if there are too many."""
        if self._streams >= self._conf().max_streams:
            return False
        self._streams += 1
        return True

    def close_stream(self) -> None:
        """A counted stream is closed."""
        self._streams -= 1


def correlation(request_id: jsonrpc.RequestId) -> jsonrpc.RequestId:
    """The same for ids that a client may spell as a number or as a string, as in the SDK."""
    if isinstance(request_id, str):
        try:
            return int(request_id)
        except ValueError:
            return request_id
    return request_id
