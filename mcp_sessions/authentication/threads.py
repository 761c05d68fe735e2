"""Blocking work of authenticators, in threads of their own.

Not in those of sync tools: forty tools that wait for their clients would keep these clients' answers out.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from django.db import Error as DatabaseError
from django.db import close_old_connections

from mcp_sessions.errors import AuthenticationUnavailable
from mcp_sessions.repeats import Repeats

T = TypeVar("T")

logger = logging.getLogger(__name__)

THREADS: Final = 8
#: Seconds after which a request whose authentication waits for the database gets 503.
SECONDS: Final = 5.0
#: Requests that wait for a thread; more get 503 at once.
MOST_WAITING: Final = 1_000

_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="mcp-authentication")
_failures: Final = Repeats(logger, "Failures of the database while requests were authenticated")
_waiting = 0


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function that may use the database, with connections opened and closed as for one of Django's requests.

    Raises: AuthenticationUnavailable if the database fails, does not answer in time, or too many wait for it.
    """
    global _waiting
    if _waiting >= MOST_WAITING:
        raise AuthenticationUnavailable("too many requests wait to be authenticated")
    _waiting += 1
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_pool, _run, function)
    except (DatabaseError, TimeoutError) as error:
        _failures.add("Requests cannot be authenticated: %s: %s", type(error).__name__, error)
        raise AuthenticationUnavailable("the database does not answer") from error
    finally:
        _waiting -= 1


def _run(function: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()
