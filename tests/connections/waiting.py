"""Waiting for a failover."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from mcp_sessions.errors import StoreUnavailable
from tests.support.processes import wait_until

#: Seconds that a failover with the timeouts of these tests may take on slow cores.
FAILOVER_BOUND: Final = 60.0


async def eventually(attempt: Any) -> Any:
    """Repeat while the store is unavailable; any other error is a failure."""
    deadline = time.monotonic() + FAILOVER_BOUND
    while True:
        try:
            result = attempt()
            return await result if asyncio.iscoroutine(result) else result
        except StoreUnavailable:
            assert time.monotonic() < deadline, "the store stayed unavailable"
            await asyncio.to_thread(threading.Event().wait, 0.05)


async def in_thread(condition: Callable[[], bool], what: str) -> None:
    """Wait, in a thread, until the condition holds."""
    await asyncio.to_thread(wait_until, condition, seconds=FAILOVER_BOUND, what=what)
