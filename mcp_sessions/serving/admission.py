"""What this process has admitted: the messages that it handles, and the streams that it may have open."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from mcp_sessions import counting
from mcp_sessions.conf import Endpoint
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.transport import jsonrpc


class Admission:
    """Keeps to MAX_REQUESTS, MAX_REQUESTS_PER_SESSION and MAX_STREAMS, and knows the exchanges in flight.

    What it does not admit is counted: whoever asks and hears no, refuses.
    """

    def __init__(self, conf: Callable[[], Endpoint]) -> None:
        self._conf = conf
        #: By session. Not by request id: a client may use one twice, against the protocol, and each must be found.
        self._exchanges: dict[str, set[Exchange]] = {}
        #: The tasks that handle notifications, and how many there are of each session.
        self.notifications: set[asyncio.Task[None]] = set()
        self._notifications_of: Counter[str] = Counter()
        #: Messages that wait for the store; whoever waits counts itself.
        self.waiting = 0
        self._running = 0
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

    def may_wait(self, *, runs: bool) -> bool:
        """Whether one more message may wait for the store; `runs` if it will run a handler.

        Replies and cancellations run none. They let handlers end, and would otherwise be refused when that is needed
        most.
        """
        conf = self._conf()
        may = self.waiting + (self._running if runs else 0) < conf.max_requests
        if not may:
            counting.count_limited(conf.alias, "MAX_REQUESTS")
        return may

    def may_run(self, fingerprint: str) -> bool:
        """Whether the handler of one more message of a session may run now."""
        conf, own = self._conf(), len(self._exchanges.get(fingerprint, ()))
        own += self._notifications_of[fingerprint]
        if self._running >= conf.max_requests:
            counting.count_limited(conf.alias, "MAX_REQUESTS")
            return False
        if own >= conf.max_requests_per_session:
            counting.count_limited(conf.alias, "MAX_REQUESTS_PER_SESSION")
            return False
        return True

    def run(self, exchange: Exchange) -> None:
        """Run an exchange in a task of its own, so that it outlives the connection that the request came on."""
        self._running += 1
        self._exchanges.setdefault(exchange.session.fingerprint, set()).add(exchange)
        exchange.task = task = asyncio.create_task(exchange.run())
        task.add_done_callback(lambda _: self._ended(exchange))

    def _ended(self, exchange: Exchange) -> None:
        # Let go of the task: its context holds the exchange, and a cycle would wait for the garbage collector.
        exchange.task = None
        if exchange.response is None:
            # The task was cancelled before its first step, so nothing of it has run.
            exchange.respond(exchange.interrupted())
        self._running -= 1
        fingerprint = exchange.session.fingerprint
        self._exchanges[fingerprint].discard(exchange)
        if not self._exchanges[fingerprint]:
            del self._exchanges[fingerprint]

    def run_notification(self, fingerprint: str, work: Coroutine[Any, Any, None]) -> None:
        """Handle a notification of a session in a task of its own."""
        self._running += 1
        self._notifications_of[fingerprint] += 1
        task = asyncio.create_task(work)
        self.notifications.add(task)
        task.add_done_callback(lambda task: self._notification_ended(fingerprint, task))

    def _notification_ended(self, fingerprint: str, task: "asyncio.Task[None]") -> None:
        self.notifications.discard(task)
        self._running -= 1
        self._notifications_of[fingerprint] -= 1
        if not self._notifications_of[fingerprint]:
            del self._notifications_of[fingerprint]

    def cancel(self, fingerprint: str, request_id: jsonrpc.RequestId) -> bool:
        """Cancel a request on its client's behalf. False if it is not answered here."""
        wanted = correlation(request_id)
        found = [e for e in self.of(fingerprint) if correlation(e.request.id) == wanted]
        for exchange in found:
            exchange.cancel()
        return bool(found)

    def cancel_named(self, names: Iterable[str]) -> None:
        """Cancel the requests among those with these names that are answered here."""
        wanted = set(names)
        for fingerprint in {name.partition(":")[0] for name in wanted} & self._exchanges.keys():
            for exchange in self.of(fingerprint):
                if name_of(fingerprint, exchange.request.id) in wanted:
                    exchange.cancel()

    def open_stream(self) -> bool:
        """Count one more stream, or response that may become one, until `close_stream`. False if there are too many."""
        conf = self._conf()
        if self._streams >= conf.max_streams:
            counting.count_limited(conf.alias, "MAX_STREAMS")
            return False
        self._streams += 1
        return True

    @property
    def streams(self) -> int:
        """How many streams are counted."""
        return self._streams

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


def name_of(fingerprint: str, request_id: jsonrpc.RequestId) -> str:
    """What nodes call a request of a session: short, however long its id is."""
    text = str(correlation(request_id)).encode("utf-8", "surrogatepass")
    return f"{fingerprint}:{hashlib.blake2s(text, digest_size=8).hexdigest()}"
