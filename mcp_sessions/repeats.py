"""Log lines for what happens many times in a row: the first time, and the number when it is over."""

import asyncio
import logging
import time
from typing import Final

#: Seconds without a repetition after which a row is over.
QUIET_SECONDS: Final = 10.0


class Repeats:
    """Logs the first of a row at WARNING, and how many there were at INFO, after QUIET_SECONDS without one."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """`what` happened, for the last line: "Requests refused without the store"."""
        self._logger = logger
        self._what = what
        self._count = 0
        self._first = self._last = 0.0

    def add(self, message: str, *arguments: object) -> None:
        """It happened; the message is logged if it is the first of a row."""
        now = time.monotonic()
        if self._count and now - self._last >= QUIET_SECONDS:
            self._finish()
        self._count += 1
        self._last = now
        if self._count == 1:
            self._first = now
            self._logger.warning(message, *arguments)
            self._look_later(QUIET_SECONDS)

    def _look_later(self, seconds: float) -> None:
        try:
            asyncio.get_running_loop().call_later(seconds, self._look)
        except RuntimeError:
            """Without an event loop the next row logs the number."""

    def _look(self) -> None:
        left = self._last + QUIET_SECONDS - time.monotonic()
        if left > 0:
            self._look_later(left)
        elif self._count:
            self._finish()

    def _finish(self) -> None:
        if self._count > 1:
            self._logger.info("%s: %d in %.1f s.", self._what, self._count, self._last - self._first)
        self._count = 0
