"""What happens when this process begins to serve, while it does, and when it is told to stop: hooks.

Hooks of the start run when the server listens; the first requests may be faster. A hook that raises
ImproperlyConfigured ends the process. When it stops there are three phases:

1. *Drain*: no new connections are accepted; requests in flight may finish. Close what would never end by itself.
2. *Abort*: the drain time is over. Answer what is left; its connections are still open.
3. *Shutdown*: no request is left. Exit lifespans and close connections.

In between, heartbeat hooks run for each endpoint that the process serves, while its store answers.

Our daphne runs the drain hooks before it waits for the requests in flight, the abort hooks when it no longer does, and
the shutdown hooks after the last connection. For a server that supports ASGI lifespan (uvicorn, hypercorn), put
`lifespan` into the ProtocolTypeRouter. Such a server sends "shutdown" only after it has waited for the open connections
or cancelled them, and then these phases run one after the other. So limit that wait
(`uvicorn --timeout-graceful-shutdown 10`). Plain daphne runs none of them: it cancels every request in flight at once,
and connections end with the process.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from mcp_sessions.transport.asgi import Receive, Scope, Send

Hook = Callable[[], Awaitable[None]]
#: Takes the alias of an endpoint.
HeartbeatHook = Callable[[str], Coroutine[Any, Any, None]]

#: Seconds for all hooks of one phase, unless the server sets its own limit.
HOOK_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class _Phase:
    """The hooks of one phase. What they raise is logged, except for `fatal`, which the phase raises."""

    def __init__(self, name: str, fatal: tuple[type[Exception], ...] = ()) -> None:
        self.name, self.fatal = name, fatal
        self.hooks: dict[Hook, None] = {}

    async def run_together(self, seconds: float) -> None:
        """Run the hooks at the same time: each has all of it."""
        await asyncio.gather(*(self._run_one(hook, seconds, logging.INFO) for hook in self.hooks))

    async def run_in_turn(self, seconds: float) -> None:
        """Run the hooks in reverse order of registration, as context managers exit.

        Each but the last may take half of the remaining time, so that one that hangs leaves time for the rest.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for left, hook in reversed(list(enumerate(self.hooks))):
            remaining = max(0.0, deadline - loop.time())
            await self._run_one(hook, remaining / 2 if left else remaining, logging.WARNING)

    async def _run_one(self, hook: Hook, seconds: float, level: int) -> None:
        """`level` is that of the message that the hook took too long."""
        try:
            async with asyncio.timeout(seconds):
                await hook()
        except TimeoutError:
            logger.log(level, "The %s hook %r was cancelled after %.1f s.", self.name, hook, seconds)
        except self.fatal:
            raise
        except Exception:
            # The other hooks must still run, and the process stops anyway.
            logger.exception("The %s hook %r failed.", self.name, hook)


_start: Final = _Phase("start", fatal=(ImproperlyConfigured,))
_drain: Final = _Phase("drain")
_abort: Final = _Phase("abort")
_shutdown: Final = _Phase("shutdown")
#: Run with each heartbeat of an endpoint that its store has answered.
heartbeat_hooks: Final[dict[HeartbeatHook, None]] = {}
_stopping: Final = threading.Event()
_draining: Final = threading.Event()


def on_start(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, when the server has begun to listen.

    All start hooks run at the same time. ImproperlyConfigured ends the process. Anything else that they raise is
    logged, and the server serves all the same. Registering a hook again does nothing. Also works as a decorator.
    """
    _start.hooks.setdefault(hook)
    return hook


def on_heartbeat(hook: HeartbeatHook) -> HeartbeatHook:
    """Call this coroutine function with an endpoint, every few seconds, while the process serves it.

    Not while the store of the endpoint is away. It runs in a task of its own, and is called again although it may still
    run. What it raises is lost. Registering a hook again does nothing. Also works as a decorator.
    """
    heartbeat_hooks.setdefault(hook)
    return hook


def on_drain(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, as soon as the process is told to stop.

    Use it to close what would never end by itself, such as open event streams, and to wait for work that has no
    connection. All drain hooks run at the same time, and are cancelled when the drain time is over. Registering a hook
    again does nothing. Also works as a decorator.
    """
    _drain.hooks.setdefault(hook)
    return hook


def on_abort(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, when the drain time is over.

    Use it to answer what is left; the server waits a moment for the answers to leave, and then closes the connections.
    It is called also if nothing is left. All abort hooks run at the same time. Registering a hook again does nothing.
    Also works as a decorator.
    """
    _abort.hooks.setdefault(hook)
    return hook


def on_shutdown(hook: Hook) -> Hook:
    """Call this coroutine function, in the serving event loop, when no request is left.

    Use it for lifespans, tasks and connections. Registering a hook again does nothing. Also works as a decorator.
    """
    _shutdown.hooks.setdefault(hook)
    return hook


def stop_soon() -> None:
    """From here on the process is not ready (`health.readyz`). Called by servers, before they stop listening."""
    _stopping.set()


def is_stopping() -> bool:
    """Whether the server has been told to stop."""
    return _stopping.is_set()


def take_on_nothing(drains: bool) -> None:
    """An operator drains this process, or lets it take on something again: see `is_draining`."""
    (_draining.set if drains else _draining.clear)()


def is_draining() -> bool:
    """Whether an operator drains this process: it is not ready, and opens no session and no stream that stays.

    It answers whatever else it gets, and does not stop by itself.
    """
    return _draining.is_set()


async def start(seconds: float = HOOK_SECONDS) -> None:
    """Run the start hooks for at most `seconds`. Exceptions are logged. Called by servers.

    Raises: ImproperlyConfigured if the process cannot serve what the settings say, and should end.
    """
    try:
        await _start.run_together(seconds)
    except ImproperlyConfigured:
        logger.critical("This process cannot serve, and ends.", exc_info=True)
        raise


async def drain(seconds: float = HOOK_SECONDS) -> None:
    """Run the drain hooks for at most `seconds`. Exceptions are logged. Called by servers."""
    await _drain.run_together(seconds)


async def abort(seconds: float = HOOK_SECONDS) -> None:
    """Run the abort hooks for at most `seconds`. Exceptions are logged. Called by servers."""
    await _abort.run_together(seconds)


async def shutdown(seconds: float = HOOK_SECONDS) -> None:
    """Run the shutdown hooks for at most `seconds`. Exceptions are logged. Called by servers."""
    await _shutdown.run_in_turn(seconds)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application for `ProtocolTypeRouter({"lifespan": lifespan, ...})`."""
    while True:
        message: Any = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except ImproperlyConfigured as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            stop_soon()
            await drain()
            await abort()
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
