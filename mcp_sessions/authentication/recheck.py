"""Ends open streams whose credentials are no longer good: a revoked token, a user who has logged out.

Requests need nothing of this, because each is authenticated anew.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from mcp_sessions.authentication.identity import Identity, Source
from mcp_sessions.errors import AuthenticationUnavailable

logger = logging.getLogger(__name__)

#: Ends one stream, so that its client comes back.
End = Callable[[], None]


@contextmanager
def ended_with(identity: Identity, end: End) -> Iterator[None]:
    """Call `end` when the credentials of an identity are found to be no longer good, within the block."""
    source = identity.source
    if source is None or source.recheck_seconds is None:
        yield
        return
    watches = _watches.setdefault(asyncio.get_running_loop(), {})
    watch = watches.get(source)
    if watch is None:
        watch = watches[source] = _Watch(source, source.recheck_seconds)
    stream = watch.add(identity, end)
    try:
        yield
    finally:
        watch.discard(stream)


class _Watch:
    """The open streams of one event loop that one authenticator has let in."""

    def __init__(self, source: Source, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._open: dict[object, tuple[Identity, End]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, identity: Identity, end: End) -> object:
        """Watch a stream. Returns what `discard` knows it by."""
        stream = object()
        self._open[stream] = (identity, end)
        if self._task is None:
            self._task = asyncio.create_task(self._look_again_and_again())
        return stream

    def discard(self, stream: object) -> None:
        """Watch it no longer. Nobody looks while there is none."""
        self._open.pop(stream, None)
        if not self._open and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._look()
            except AuthenticationUnavailable as error:
                logger.info("Whether the credentials of open streams are still good is not known: %s", error)
            except Exception:
                logger.exception("The credentials of open streams could not be checked.")

    async def _look(self) -> None:
        streams = list(self._open.values())
        good = {id(each) for each in await self._source.still_good([identity for identity, _ in streams])}
        for identity, end in streams:
            if id(identity) not in good:
                end()


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Source, _Watch]] = WeakKeyDictionary()
