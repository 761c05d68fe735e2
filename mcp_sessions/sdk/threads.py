"""Sync functions of a server in worker threads, each with a place in the pool until it returns.

The SDK leaves all of that to anyio, which gives a place back as soon as the task that waits is cancelled, unless anyio
itself cancels it. The function runs on, and a client that calls and cancels could have any number of threads.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, WouldBlock, to_thread
from django.db import close_old_connections

P = ParamSpec("P")
R = TypeVar("R")

#: For calls that have a place already.
_UNLIMITED: Final = CapacityLimiter(inf)


def in_thread(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """An async function that runs a sync one in a worker thread of anyio's pool.

    It closes the thread's unusable and outdated database connections before and after. Django does this for views, with
    request_started and request_finished. Without it, a worker thread would keep its connection forever, and use it
    again long after the database has dropped it.
    """

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        loop, limiter = asyncio.get_running_loop(), to_thread.current_default_thread_limiter()
        place, steps = object(), {"begin": True, "end": True}

        def call() -> R:
            if not steps.pop("begin", False):
                raise asyncio.CancelledError  # before it began; nobody waits
            close_old_connections()
            try:
                return function(*args, **kwargs)
            finally:
                close_old_connections()
                if not steps.pop("end", False):
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        loop.call_soon_threadsafe(limiter.release_on_behalf_of, place)

        try:
            limiter.acquire_on_behalf_of_nowait(place)
        except WouldBlock:
            await limiter.acquire_on_behalf_of(place)
        try:
            return await to_thread.run_sync(call, limiter=_UNLIMITED)
        finally:
            # `pop` is atomic: of the thread and this task, the one that comes second gives the place back.
            if steps.pop("begin", False) or not steps.pop("end", False):
                limiter.release_on_behalf_of(place)

    return run
