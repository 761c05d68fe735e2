"""What is known of a Redis server that fails: whether it may be waited for, and what the log says about it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.defaults import REDIS_ERRORS, log
from mcp_sessions.errors import StoreUnavailable

#: Seconds that a probe may be without an answer before nobody waits for the server any more.
PATIENCE: Final = 0.5
#: Seconds from one probe to the next, and after an answer until the next doubt.
PAUSE: Final = 0.5
#: Seconds without a failed call after which an outage is over; longer than the pause between heartbeats.
QUIET: Final = 5.0


class Breaker:
    """Whether calls may wait for one server, for one event loop.

    After a call that got no answer in time, a probe follows at once. Without an answer to it the breaker opens:
    `opened` is called, and no call waits for the server until a probe is answered, in whatever way; a server that
    refuses makes nobody wait. `answered` is called after each doubt that proved wrong or is over.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        seconds: float,
        opened: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        """`seconds` is how long one probe may take."""
        self.is_open = False
        self._probe = probe
        self._seconds = seconds
        self._opened = opened
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._probing: asyncio.Task[None] | None = None
        #: When a probe was answered, by the loop's clock.
        self._sure = -PAUSE

    def doubt(self) -> None:
        """A call got no answer in time."""
        if self._probing is None and self._loop.time() - self._sure >= PAUSE:
            self._probing = self._loop.create_task(self._find_out(), context=Context())

    async def aclose(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _find_out(self) -> None:
        """Probe until there is an answer."""
        try:
            while True:
                begun = self._loop.time()
                impatience = self._loop.call_later(PATIENCE, self._open)
                try:
                    answered = await self._is_answered()
                finally:
                    impatience.cancel()
                if answered:
                    break
                self._open()
                await asyncio.sleep(begun + PAUSE - self._loop.time())
            self._sure = self._loop.time()
            self._answered()
        finally:
            self.is_open, self._probing = False, None

    async def _is_answered(self) -> bool:
        try:
            async with asyncio.timeout(self._seconds):
                await self._probe()
        except (TimeoutError, RedisTimeoutError):
            return False
        except REDIS_ERRORS as error:
            log.debug("A probe was refused: %s", error)
        return True

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self._opened()


class Outage:
    """Logs the failures of calls on one server: the first of an outage, and at its end how many there were."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._calls = 0
        self._first = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def count(self, error: StoreUnavailable) -> None:
        """A call failed."""
        self._last = self._loop.time()
        self._calls += 1
        if self._timer is None:
            self._first = self._last
            self._timer = self._loop.call_later(QUIET, self._look)
            does = "refuses calls" if isinstance(error.__cause__, ResponseError) else "cannot be reached"
            log.warning("Redis at %s %s: %s", self._server, does, error)

    def close(self) -> None:
        """Log the end now, if there is one to log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            seconds = self._last - self._first
            log.warning(
                "Redis at %s could not be used for %.1f s; %s.", self._server, seconds, _calls(self._calls)
            )
            self._calls = 0

    def _look(self) -> None:
        over = self._last + QUIET
        if self._loop.time() < over:
            self._timer = self._loop.call_at(over, self._look)
        else:
            self.close()


def _calls(count: int) -> str:
    return "1 call failed" if count == 1 else f"{count:,} calls failed"
