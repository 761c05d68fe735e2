"""The blocks as this process knows them: what every request is compared with, without asking anybody.

They are in the database. A process reads them before its first request, when it is told that they have changed, and
every half a minute besides. While it cannot read them, it goes on with what it has read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import router

from mcp_sessions.authentication.addresses import Network, is_within, networks_of, parsed
from mcp_sessions.authentication.threads import in_thread
from mcp_sessions.ids import NAME_CHARS
from mcp_sessions.records import shown
from mcp_sessions.repeats import Repeats
from mcp_sessions.texts import restored

logger = logging.getLogger(__name__)

#: Seconds after which a process reads the blocks again although nobody has told it to. The next heartbeat does so, and
#: that is within half a minute.
REREAD_SECONDS: Final = 25.0


class Asker(NamedTuple):
    """What is known of who sends a request; None for what is not."""

    principal: str | None = None
    client: str | None = None
    address: str | None = None


class Blocks:
    """The blocks of one endpoint in this process."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        #: Whether there are any. Requests look no further where there are none.
        self.any = False
        #: Whether they were read, or that was tried.
        self.known = False
        #: Kind and value -> until when, in seconds since the epoch.
        self._until: dict[tuple[str, str], float] = {}
        self._networks: list[tuple[Network, float]] = []
        #: How often a read was asked for, and up to which of these what was read answers.
        self._asked = self._answered = 0
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._due = 0.0
        self._open: dict[object, tuple[asyncio.AbstractEventLoop, Asker, Callable[[], None]]] = {}
        self._failures = Repeats(logger, f"Times that the blocks of endpoint {alias!r} could not be read")

    def refuse(self, asker: Asker) -> bool:
        """Whether who sends a request is blocked."""
        now, until = time.time(), self._until
        if until.get(("principal", asker.principal or ""), 0) > now:
            return True
        # Where the store is away, a session knows no more of the name of its client.
        if until.get(("client", (asker.client or "")[:NAME_CHARS]), 0) > now:
            return True
        address = parsed(asker.address) if asker.address and self._networks else None
        return address is not None and any(
            until > now and is_within(address, (network,)) for network, until in self._networks
        )

    @contextmanager
    def ending(self, asker: Asker, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, in this event loop, when it is found that `asker` is blocked, within the block of the `with`.

        At once, if that was found since the request was let in.
        """
        stream = object()
        self._open[stream] = asyncio.get_running_loop(), asker, end
        if self.any and self.refuse(asker):
            end()
        try:
            yield
        finally:
            del self._open[stream]

    @property
    def due(self) -> bool:
        """Whether it is time to read them again."""
        return time.monotonic() >= self._due

    async def load(self) -> None:
        """Read them anew. What asks while that is done shares the next read."""
        self._asked += 1
        asked = self._asked
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._answered >= asked:
                return
            begun = self._asked
            try:
                found = await in_thread(partial(_active, self._alias))
            except ImproperlyConfigured as error:
                logger.debug("There is no database, and so no block: %s", error)
            except Exception as error:  # noqa: BLE001 - whatever it is, requests go on with what is known
                self._failures.add("The blocks of endpoint %r cannot be read: %s", self._alias, error)
            else:
                self._failures.end()
                if begun >= self._answered:  # another event loop may have read them later, and been faster
                    self._take(found)
                self._due = time.monotonic() + REREAD_SECONDS
            self._answered, self.known = max(begun, self._answered), True

    def _take(self, found: Iterable[tuple[str, str, float]]) -> None:
        """From here on these are the blocks."""
        until: dict[tuple[str, str], float] = {}
        networks: dict[Network, float] = {}
        for kind, kept, moment in found:
            value = restored(kept)
            key = (kind, value[:NAME_CHARS] if kind == "client" else value)
            until[key] = max(moment, until.get(key, 0))
            if kind == "address":
                try:
                    [network] = networks_of((value,))
                except ValueError:
                    # Written by something else than this app. The others hold all the same.
                    logger.warning("A block of endpoint %r names no address: %s", self._alias, shown(value))
                else:
                    networks[network] = max(until[key], networks.get(network, 0))
        self._until, self._networks = until, list(networks.items())
        self.any = bool(until)
        if until:
            for loop, asker, end in list(self._open.values()):
                if self.refuse(asker):
                    with suppress(RuntimeError):  # the loop is closed, and the stream with it
                        loop.call_soon_threadsafe(end)


_blocks: dict[str, Blocks] = {}


def blocks_of(alias: str) -> Blocks:
    """The blocks of an endpoint in this process."""
    return _blocks.setdefault(alias, Blocks(alias))


def _active(alias: str) -> list[tuple[str, str, float]]:
    """What is blocked, and until when, in the database that is written to: a replica may not know yet.

    Raises: RuntimeError if it cannot be read.
    """
    from mcp_sessions.authentication.blocks import Block  # not before the apps are loaded

    rows = (
        Block.objects.using(router.db_for_write(Block)).active().filter(endpoint__in=("", alias)).order_by()
    )
    try:
        found = list(rows.values_list("kind", "value", "expires"))
    except DatabaseError as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return [(kind, value, inf if expires is None else expires.timestamp()) for kind, value, expires in found]
