"""What requests did: noted when they end, and told to observers once a second, behind the answers.

A request leaves a note when it is answered. That costs it an entry in memory, and it waits for nothing. What has begun
and not ended is not noted anywhere: `Runtime.running` asks the exchanges themselves.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.counting import Outcome
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import SHOWN_CHARS, Kind, record_fingerprint
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.call import Call
from mcp_sessions.streams.context import Context

logger = logging.getLogger(__name__)

#: Seconds between two times that the observers are told.
TELL_SECONDS: Final = 1.0
#: Requests that are noted until then. A process answers a few thousand a second.
MOST_NOTED: Final = 100_000
#: Calls that are written at once: Redis serves nobody else until it has done them.
WRITTEN_TOGETHER: Final = 50
#: JSON-RPC error code that the SDK answers cancelled requests with.
REQUEST_CANCELLED: Final = -32800
#: Where middleware leaves a function in the ASGI scope of a request: it is called with each `Ended` of it, and with the
#: address of the client as TRUSTED_PROXIES tell it, or None.
TELL: Final = "mcp_sessions.tell"
_OUTCOMES: Final[dict[int, Outcome]] = {REQUEST_CANCELLED: "cancelled", CONNECTION_CLOSED: "interrupted"}
#: Gives the requests of this process their numbers.
next_number: Final = count(1).__next__


class Begun(NamedTuple):
    """A request, and whose it is."""

    #: Tells it from the others of this process; no other one ever has the same.
    number: int
    #: "session", or "caller" in the modern era.
    kind: Kind
    #: The fingerprint of the session; "" in the modern era: see `fingerprint`.
    session: str
    #: The method, and behind a colon the name of the tool: "tools/call:remember". It is cut off.
    call: str
    principal: str
    client: str
    client_version: str
    #: When the handler started, by `time.monotonic()`.
    began: float

    @property
    def tool(self) -> str:
        """The name of the tool; "" if none is called."""
        return self.call.partition(":")[2] if self.call.startswith("tools/call:") else ""

    @property
    def fingerprint(self) -> str:
        """That of the session, or of the caller as `serving.callers` records it."""
        if self.kind == "session":
            return self.session
        client, version = self.client[:SHOWN_CHARS], self.client_version[:SHOWN_CHARS]
        return record_fingerprint("caller", self.principal, client, version)


class Ended(NamedTuple):
    """A request that has been answered, or whose client left before."""

    request: Begun
    #: When, by `time.monotonic()`.
    ended: float
    #: The code of the JSON-RPC error; None if the request succeeded.
    code: int | None
    #: Whether the result says that the tool failed.
    failed: bool

    @property
    def outcome(self) -> Outcome:
        if self.code is None:
            return "tool error" if self.failed else "ok"
        return _OUTCOMES.get(self.code, "error")

    @property
    def ms(self) -> float:
        """How long it took, without the time that it waited for the store before its handler started."""
        return (self.ended - self.request.began) * 1000


class Observer(Protocol):
    """Wants to know what requests did. Both methods are called in the event loop, one after the other, and return at
    once: what an observer knows is in memory until the store has it.
    """

    def hear(self, ended: Sequence[Ended]) -> None:
        """What ended since the last time, in that order; perhaps nothing."""
        ...

    def writes(self) -> Sequence[Call[Any]]:
        """What to write to the store now. The observer forgets it: what the store does not take is lost."""
        ...


class Observing:
    """Tells the observers of one endpoint in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.observers: list[Observer] = []
        self._lag = 0.0
        #: By the class of the observer.
        self._failures: dict[str, Repeats] = {}
        self._noted: deque[Ended] = deque(maxlen=MOST_NOTED)
        #: Called with each request that ends. Not a method of ours: this is on the path of every request.
        self.note: Callable[[Ended], None] = self._noted.append

    async def run(self) -> None:
        """Tell them once a second, until this is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + TELL_SECONDS
            await asyncio.sleep(TELL_SECONDS)
            self._lag = max(self._lag, clock() - due)
            await self.tell()

    def take_lag(self) -> float:
        """The longest that the event loop has kept this waiting since the last call, in seconds."""
        lag, self._lag = self._lag, 0.0
        return lag

    async def tell(self) -> None:
        """Tell them now, and write what all of them have to write together."""
        ended = tuple(self._noted)
        self._noted.clear()
        writes: list[Call[Any]] = []
        for observer in self.observers:
            try:
                observer.hear(ended)
                writes += observer.writes()
            except Exception:  # noqa: BLE001 - a fan-out: one that fails must not silence the others
                self._failed(observer)
        for start in range(0, len(writes), WRITTEN_TOGETHER):
            try:
                await self._context.store.run_all(writes[start : start + WRITTEN_TOGETHER])
            except StoreUnavailable as error:  # on a Cluster, perhaps only a part of it
                logger.debug("What %d requests did is not recorded: %s", len(ended), error)

    def _failed(self, observer: Observer) -> None:
        """Log the exception that is being handled: once, if the observer fails every second."""
        what = type(observer).__name__
        if what not in self._failures:
            self._failures[what] = Repeats(logger, f"Times that the observer {what} of requests failed")
        self._failures[what].add("The observer %s of requests failed.", what, exc_info=True)
