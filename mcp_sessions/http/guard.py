"""What stands outermost around the endpoint: whatever the application does, its client gets an answer that ends.

daphne needs it. There, an exception after the response has started kills the loop that reaps applications; one before
it is answered up to a second later, in HTML; and an application that ends cancelled, or without a word, leaves its
client waiting for ever. `mcp_sessions.daphne` mends daphne itself; the guard holds under daphne as it is.
"""

import asyncio
import logging
from collections.abc import Awaitable

from mcp_sessions.http.responses import reject
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send
from mcp_sessions.transport.rejections import FAILED, STOPPED, Rejection

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another that always ends its HTTP response, and never raises an `Exception`.

    - An exception before the response: 500 with a JSON-RPC error; the log has the traceback.
    - Cancelled before the response: 503 with `Retry-After` and a JSON-RPC error.
    - No response at all: 500 (nobody is there to read it if the client had left).
    - Any of these after the response has started: the response is ended where it stands.

    A cancellation that the server asked for is raised again after the answer; one that merely leaked out of the
    application is not, for nobody waits for it. `KeyboardInterrupt` and `SystemExit` pass.
    """

    __slots__ = ("_application",)

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        response = _Response(send)
        try:
            await self._application(scope, receive, response.send)
        except asyncio.CancelledError:
            logger.info("Cancelled: %s", _described(scope, response))
            await response.end_with(STOPPED)
            if _is_cancelled_from_outside():
                raise
        except Exception:
            # The wire: whatever the application did not expect ends here, or daphne's reaper dies of it.
            logger.exception("The application raised: %s", _described(scope, response))
            await response.end_with(FAILED)
        else:
            if not response.ended:
                logger.info("The application left its response open: %s", _described(scope, response))
                await response.end_with(FAILED)


class _Response:
    """What has been sent so far. `send` is no coroutine function: the application awaits the server's own awaitable."""

    __slots__ = ("_send", "ended", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.ended = False

    def send(self, message: Message) -> Awaitable[None]:
        match message["type"]:
            case "http.response.body":
                self.ended = not message.get("more_body", False)
            case "http.response.start":
                self.started = True
        return self._send(message)

    async def end_with(self, rejection: Rejection) -> None:
        """Send the rejection if nothing was sent yet; else only the end, if that is missing."""
        try:
            if not self.started:
                await reject(self._send, rejection)
            elif not self.ended:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception:
            # The server refuses the answer: its connection is beyond help, and the process must go on.
            logger.warning("The response could not be ended.", exc_info=True)


def _is_cancelled_from_outside() -> bool:
    """Whether somebody cancelled this task, and did not take it back."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _described(scope: Scope, response: _Response) -> str:
    state = "ended" if response.ended else "started" if response.started else "not started"
    return f"{scope.get('method')} {scope.get('path')}, response {state}"
