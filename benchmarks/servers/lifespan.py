"""A lifespan entered by hand: daphne never sends `lifespan` events, so the first request starts the application."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

ASGI = Callable[[Any, Any, Any], Awaitable[None]]


class WithLifespan:
    """Serve `app` inside `lifespan()`, which is entered in a task of its own on the first request."""

    def __init__(self, app: ASGI, lifespan: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._app = app
        self._lifespan = lifespan
        self._ready: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if self._ready is None:
            self._ready = asyncio.Event()
            self._task = asyncio.create_task(self._stay_inside(self._ready))
        if not self._ready.is_set():
            await self._ready.wait()
        await self._app(scope, receive, send)

    async def _stay_inside(self, ready: asyncio.Event) -> None:
        async with self._lifespan():
            ready.set()
            await asyncio.Event().wait()
