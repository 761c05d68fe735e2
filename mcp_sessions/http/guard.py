"""Ends every HTTP response, whatever the application inside does.

Daphne needs this. There, an exception after the response has started kills the loop that reaps applications; an
exception before it is answered up to a second later, in HTML; and an application that is cancelled, or returns without
a response, leaves its client waiting forever. `mcp_sessions.daphne` patches daphne; the guard is for daphne as it is.
Starlette's ServerErrorMiddleware raises the exception again, ignores cancellation, and sends plain text.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp_sessions.http.responses import reject
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send
from mcp_sessions.transport.rejections import FAILED, STOPPED, Rejection

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another that always ends its HTTP response, and never raises an `Exception`.

    - An exception before the response: 500 with a JSON-RPC error; the traceback is logged.
    - Cancelled before the response: 503 with `Retry-After` and a JSON-RPC error.
    - No response at all: 500 (if the client has left, nobody reads it).
    - Any of these after the response has started: the response ends where it is.

    A cancellation that the server asked for is raised again after the answer; one that only leaked out of the
    application is not, because nobody waits for it. `KeyboardInterrupt` and `SystemExit` pass.
    """

    __slots__ = ("_application", "_refused")

    def __init__(
        self, application: Application, *, refused: Callable[[int], None] = lambda status: None
    ) -> None:
        """`refused` is called with the status of each answer from 400 on, when it starts."""
        self._application = application
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        response = _Response(send, self._refused)
        try:
            await self._application(scope, receive, response.send)
        except asyncio.CancelledError:
            logger.info("Cancelled: %s", _described(scope, response))
            await response.end_with(STOPPED)
            if _is_cancelled_from_outside():
                raise
        except Exception:
            # The edge to the wire: an exception that went further would kill daphne's reaper.
            logger.exception("The application raised: %s", _described(scope, response))
            await response.end_with(FAILED)
        else:
            if not response.ended:
                logger.info("The application left its response open: %s", _described(scope, response))
                await response.end_with(FAILED)


@dataclass(slots=True)
class _Response:
    """What has been sent so far."""

    _send: Send
    _refused: Callable[[int], None]
    started: bool = False
    ended: bool = False

    # Not a coroutine function: the application awaits the server's own awaitable.
    def send(self, message: Message) -> Awaitable[None]:
        match message["type"]:
            case "http.response.body":
                self.ended = not message.get("more_body", False)
            case "http.response.start":
                self.started = True
                if message["status"] >= 400:
                    self._refused(message["status"])
        return self._send(message)

    async def end_with(self, rejection: Rejection) -> None:
        """Send the rejection if nothing was sent yet; else only the end, if that is missing."""
        try:
            if not self.started:
                await reject(self.send, rejection)
            elif not self.ended:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception:
            # The server refuses the answer: nothing can be done for the connection, and the process must go on.
            logger.warning("The response could not be ended.", exc_info=True)


def _is_cancelled_from_outside() -> bool:
    """Whether somebody cancelled this task and did not revoke that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _described(scope: Scope, response: _Response) -> str:
    state = "ended" if response.ended else "started" if response.started else "not started"
    return f"{scope.get('method')} {scope.get('path')}, response {state}"
