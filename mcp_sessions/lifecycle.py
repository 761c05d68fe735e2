"""What happens when this process is told to stop: hooks in two phases, run by whichever server there is.

1. *Drain*: no new connections come; requests in flight may finish. Close what would never end by itself.
2. *Shutdown*: no request is left. Leave what was entered, close connections.

Under our daphne both phases run around the wait for the requests in flight. Under a server that
speaks ASGI lifespan (uvicorn, hypercorn), put `lifespan` into the ProtocolTypeRouter: both run one after the other when
the server says "shutdown", which is after it has waited for the open connections, so give it a bound of its own
(`uvicorn --timeout-graceful-shutdown 10`). Under daphne as it is neither runs: it cancels every request in
flight at once, and connections end with the process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp_sessions.transport.asgi import Receive, Scope, Send

Hook = Callable[[], Awaitable[None]]

#: Seconds that the hooks of one phase may take together, where the server has no say.
HOOK_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class _Phase:
    """The hooks of one phase. They run one after another, the last registered first, as contexts are left."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hooks: dict[Hook, None] = {}

    async def run(self, seconds: float) -> None:
        """Run every hook. Each may take half of the time that is left: one that hangs does not starve the rest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for hook in reversed(self.hooks):
            await self._run_one(hook, max(0.0, (deadline - loop.time()) / 2))

    async def _run_one(self, hook: Hook, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await hook()
        except TimeoutError:
            logger.warning("The %s hook %r was given up after %.1f s.", self.name, hook, seconds)
        except Exception:
            # A fan-out: the other hooks must run, and the process stops anyway.
            logger.exception("The %s hook %r failed.", self.name, hook)


_drain: Final = _Phase("drain")
_shutdown: Final = _Phase("shutdown")
_draining = False


def on_drain(hook: Hook) -> Hook:
    """Have this coroutine function called, in the serving event loop, as soon as the process is told to stop.

    For what would never end by itself: open event streams. Registering it again does nothing. Usable as a decorator.
    """
    _drain.hooks.setdefault(hook)
    return hook


def on_shutdown(hook: Hook) -> Hook:
    """Have this coroutine function called, in the serving event loop, when no request is left.

    For lifespans, tasks and connections. Registering it again does nothing. Usable as a decorator.
    """
    _shutdown.hooks.setdefault(hook)
    return hook


def is_draining() -> bool:
    """Whether this process was told to stop: it should not be given new work."""
    return _draining


async def drain(seconds: float = HOOK_SECONDS) -> None:
    """Run the drain hooks, for at most so many seconds; what they raise is logged. For servers."""
    global _draining
    _draining = True
    await _drain.run(seconds)


async def shutdown(seconds: float = HOOK_SECONDS) -> None:
    """Run the shutdown hooks, for at most so many seconds; what they raise is logged. For servers."""
    await _shutdown.run(seconds)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application for `ProtocolTypeRouter({"lifespan": lifespan, ...})`."""
    global _draining
    while True:
        message: Any = await receive()
        if message["type"] == "lifespan.startup":
            _draining = False
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await drain()
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
