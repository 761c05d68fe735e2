"""Log lines for what happens many times in a row: the first time, and the number when it is over."""

import asyncio
import logging
import time
from typing import Final

#: Seconds without a repetition after which a row is over. Longer than a failing heartbeat and the pause before it.
QUIET_SECONDS: Final = 10.0


class Repeats:
    """Logs the first of a row and, when the row is over, how many there were, at WARNING; the others at DEBUG.

    A row is over after QUIET_SECONDS without a repetition, or when `end` is called.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """`what` happened, for the last line: "Requests refused without the store"."""
        self._logger = logger
        self._what = what
        self._count = 0
        self._first = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def lasts(self) -> bool:
        """Whether there is a row."""
        return bool(self._count)

    def add(self, message: str, *arguments: object, exc_info: bool = False) -> None:
        """It happened; the message is logged at WARNING if it is the first of a row. `exc_info` adds the traceback."""
        now = time.monotonic()
        if self._count and now - self._last >= QUIET_SECONDS:
            self.end()
        self._count += 1
        self._last = now
        level = logging.WARNING if self._count == 1 else logging.DEBUG
        self._logger.log(level, message, *arguments, exc_info=exc_info)
        if self._count == 1:
            self._first = now
            self._look_later(QUIET_SECONDS)

    def end(self) -> None:
        """Log the number now, if there is a row."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._count:
            seconds = self._last - self._first
            self._logger.warning("%s: %d in %.1f s. That is over.", self._what, self._count, seconds)
        self._count = 0

    def _look_later(self, seconds: float) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)
        except RuntimeError:
            """Without an event loop the next row logs the number."""

    def _look(self) -> None:
        left = self._last + QUIET_SECONDS - time.monotonic()
        if left > 0:
            self._look_later(left)
        else:
            self.end()
