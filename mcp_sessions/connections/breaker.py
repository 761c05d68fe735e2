"""What is known of a Redis server that fails: whether it may be waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.defaults import REDIS_ERRORS, log

#: Seconds that a probe may be without an answer before nobody waits for the server any more.
PATIENCE: Final = 0.5
#: Seconds from one probe to the next, and after an answer until the next doubt.
PAUSE: Final = 0.5
#: Seconds after which a refusal is no better than no answer: Sentinels, nodes or name servers that hang are waited for.
SLOW: Final = 0.1


class Breaker:
    """Whether calls may wait for one server, for one event loop.

    After a call that got no answer in time, or a refusal that took long, a probe follows at once. Without an answer to
    it the breaker opens: `opened` is called, and no call waits for the server until a probe is answered, if only with
    an error. While it is closed, a server that refuses connections at once makes nobody wait, which is as good.
    `answered` is called after each doubt that proved wrong or is over.
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
        """A call got no answer in time, or waited for a refusal."""
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
        for _ in range(2):  # a quick refusal may be the end of a slow one that had begun before
            begun = self._loop.time()
            try:
                async with asyncio.timeout(self._seconds):
                    await self._probe()
            except (TimeoutError, RedisTimeoutError):
                return False
            except ResponseError:
                return True
            except REDIS_ERRORS as error:
                log.debug("A probe was refused: %s", error)
                if self.is_open or self._loop.time() - begun > SLOW:
                    return False
            else:
                return True
        return True

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self._opened()
