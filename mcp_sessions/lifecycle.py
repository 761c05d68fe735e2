"""What happens when this process is told to stop: hooks in two phases, which the server runs.

1. *Drain*: no new connections are accepted; requests in flight may finish. Close what would never end by itself.
2. *Shutdown*: no request is left. Exit lifespans and close connections.

Our daphne runs the drain hooks before it waits for the requests in flight, and the shutdown hooks after. For a server
that supports ASGI lifespan (uvicorn, hypercorn), put `lifespan` into the ProtocolTypeRouter. Such a server sends
"shutdown" only after it has waited for the open connections, and then both phases run one after the other. So limit
that wait (`uvicorn --timeout-graceful-shutdown 10`). Plain daphne runs neither phase: it cancels every request in
flight at once, and connections end with the process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp_sessions.transport.asgi import Receive, Scope, Send

Hook = Callable[[], Awaitable[None]]

#: Seconds for all hooks of one phase, unless the server sets its own limit.
HOOK_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class _Phase:
    """The hooks of one phase. They run one after another in reverse order of registration, as context managers exit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hooks: dict[Hook, None] = {}

    async def run(self, seconds: float) -> None:
        """Run every hook. Each may take half of the remaining time, so that one that hangs leaves time for the rest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for hook in reversed(self.hooks):
            await self._run_one(hook, max(0.0, (deadline - loop.time()) / 2))

    async def _run_one(self, hook: Hook, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await hook()
        except TimeoutError:
            logger.warning("The %s hook %r was cancelled after %.1f s.", self.name, hook, seconds)
        except Exception:
            # The other hooks must still run, and the process stops anyway.
            logger.exception("The %s hook %r failed.", self.name, hook)


_drain: Final = _Phase("drain")
_shutdown: Final = _Phase("shutdown")


def on_drain(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, as soon as the process is told to stop.

    Use it to close what would never end by itself, such as open event streams. Registering a hook again does nothing.
    Also works as a decorator.
    """
    _drain.hooks.setdefault(hook)
    return hook


def on_shutdown(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, when no request is left.

    Use it for lifespans, tasks and connections. Registering a hook again does nothing. Also works as a decorator.
    """
    _shutdown.hooks.setdefault(hook)
    return hook


async def drain(seconds: float = HOOK_SECONDS) -> None:
    """Run the drain hooks for at most `seconds`. Exceptions are logged. Called by servers."""
    await _drain.run(seconds)


async def shutdown(seconds: float = HOOK_SECONDS) -> None:
    """Run the shutdown hooks for at most `seconds`. Exceptions are logged. Called by servers."""
    await _shutdown.run(seconds)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application for `ProtocolTypeRouter({"lifespan": lifespan, ...})`."""
    while True:
        message: Any = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await drain()
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
