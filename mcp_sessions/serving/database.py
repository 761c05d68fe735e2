"""Django's database connections around work that no Django request surrounds."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseScope(ThreadSensitiveContext):
    """One thread for the async ORM calls of one exchange, with connections of its own, closed at the end.

    Outside such a scope all async ORM calls of a process share a single thread (asgiref, Threading Behaviour).
    A scope in which nothing touched the ORM costs no thread.
    """

    async def __aexit__(self, exc: Any, value: Any, tb: Any) -> None:
        if self in SyncToAsync.context_to_thread_executor:
            await sync_to_async(connections.close_all)()
        await super().__aexit__(exc, value, tb)  # type: ignore[no-untyped-call]


def closes_connections(function: Callable[P, R]) -> Callable[P, R]:
    """Close the thread's unusable and outdated database connections before and after a sync function.

    What request_started and request_finished do for views, for functions that run in worker threads: without it a
    thread keeps its connection for ever, and meets it again when the database has long dropped it.
    """

    @functools.wraps(function)
    def closing(*args: P.args, **kwargs: P.kwargs) -> R:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return closing
