"""One JSON-RPC request being answered, in one process."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR

from mcp_sessions.cluster.client_requests import ClientRequest
from mcp_sessions.current import current_exchange
from mcp_sessions.sdk import REQUEST_CANCELLED
from mcp_sessions.serving.database import DatabaseScope
from mcp_sessions.store.session import Session
from mcp_sessions.streams.writer import ExchangeStream
from mcp_sessions.transport import jsonrpc

if TYPE_CHECKING:
    from mcp_sessions.serving.runtime import Runtime

#: Severities of `notifications/message`, ascending (Server → Utilities → Logging).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
#: Bytes of a request that is kept to be run again should its process die.
MAX_KEPT_REQUEST_BYTES: Final = 64 * 1024
#: From this revision on, clients understand an event without data, and resume from it.
PRIMED_SINCE: Final = "2025-11-25"


class Exchange:
    """Runs the handler in a task of its own, so that the work outlives the connection it was asked on.

    What the handler says before its response goes to `stream`, which exists from the first message on, or from `open`
    on. `response` is set at the end. Without a stream nothing is written to any log.
    """

    __slots__ = (
        "_changed",
        "_json_only",
        "_task",
        "asking",
        "cancelled",
        "fingerprint",
        "held",
        "request",
        "response",
        "runtime",
        "scope",
        "session",
        "stream",
        "user",
    )

    def __init__(
        self,
        request: jsonrpc.Request,
        scope: Mapping[str, Any],
        *,
        runtime: "Runtime",
        session: Session,
        json_only: bool,
    ) -> None:
        self.request = request
        self.scope = scope
        self.runtime = runtime
        #: The session as this request found it.
        self.session = session
        self.fingerprint = session.fingerprint
        self.user = scope.get("user")
        self.stream: ExchangeStream | None = None
        self.response: dict[str, Any] | None = None
        #: Whether the client asked for this request to be cancelled.
        self.cancelled = False
        #: Whether the runtime keeps the session alive for this exchange.
        self.held = False
        #: How many requests to the client it waits for.
        self.asking = 0
        self._json_only = json_only
        self._changed: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def primed(self) -> bool:
        """Whether the client resumes streams that it knows no event of."""
        return self.session.handshake.protocol_version >= PRIMED_SINCE

    @property
    def can_ask(self) -> bool:
        """Whether what is said before the response has a stream to go by."""
        return not self._json_only and self.response is None

    def start(self, on_end: Callable[["Exchange"], None]) -> None:
        """Run the handler; `on_end` is called when it is through."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._ended(on_end))

    def _ended(self, on_end: Callable[["Exchange"], None]) -> None:
        """Let go of the task: its context holds this exchange, and a cycle would wait for the garbage collector.

        A task that is cancelled before its first step has run nothing, not even what would have responded.
        """
        self._task = None
        if self.response is None:
            self._respond(self._interrupted())
        on_end(self)

    async def _run(self) -> None:
        current_exchange.set(self)
        try:
            async with DatabaseScope():
                response = await self.runtime.answer(self)
        except asyncio.CancelledError:
            await self._finish(self._interrupted())
            raise
        except BaseException:
            await self._finish(self._error(INTERNAL_ERROR, "Internal server error"))
            raise
        await self._finish(response)

    def _interrupted(self) -> dict[str, Any]:
        """The response of a request that was cancelled: by its client, or because the process or session ends."""
        if self.cancelled:
            return self._error(REQUEST_CANCELLED, "Request cancelled")
        return self._error(CONNECTION_CLOSED, "The server ended this request before it was through")

    def _error(self, code: int, message: str) -> dict[str, Any]:
        return jsonrpc.error_response(self.request.id, {"code": code, "message": message})

    async def _finish(self, response: dict[str, Any]) -> None:
        self._respond(response)
        if self.stream is not None:
            await self.stream.settled()

    def _respond(self, response: dict[str, Any]) -> None:
        self.response = response
        self._change()
        if self.stream is not None:
            self.stream.put(response, last=True)

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The task that runs the handler, to wait for; None once it is through."""
        return self._task

    def cancel(self) -> None:
        """Cancel the handler on the client's behalf (Utilities → Cancellation)."""
        self.cancelled = True
        self.abort()

    def abort(self) -> None:
        """Cancel the handler: the session or the process ends."""
        if self._task is not None and self.response is None:
            self._task.cancel()

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification on this exchange's stream. Without a stream to come, in JSON mode, it is dropped."""
        if self.can_ask and not below_log_level(self.session.log_level, method, params):
            await self._say(jsonrpc.notification(method, params))

    async def ask(self, request: ClientRequest) -> jsonrpc.Reply:
        """Send a request on this exchange's stream, and wait for the client's response.

        Raises: TimedOut, SessionEnded, StoreUnavailable.
        """
        with self.waiting():
            return await self.runtime.client_requests.send(self.fingerprint, request, self._say)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The handler waits for its client: if the session ends meanwhile, the handler is cancelled."""
        self.asking += 1
        try:
            yield
        finally:
            self.asking -= 1

    async def _say(self, message: Mapping[str, Any]) -> None:
        stream = self.open()
        stream.put(message)
        await stream.room()

    def open(self) -> ExchangeStream:
        """The stream of what this exchange sends; from here on the answer is an event stream."""
        if self.stream is None:
            self.stream = self.runtime.new_stream(self)
            if self.response is None:
                self.stream.open()
            else:
                self.stream.put(self.response, last=True)
            self._change()
        return self.stream

    async def disconnect(self) -> None:
        """Close the connection that waits for the answer; the client may resume, and the handler goes on."""
        self.open().disconnect()

    async def tools_changed(self, tools: frozenset[str]) -> None:
        """The session enabled or disabled opt-in tools: it holds at once, and the client is told."""
        self.session = replace(self.session, tools=tools)
        await self.runtime.standalone(self.session).notify("notifications/tools/list_changed", None)

    async def settled(self, seconds: float | None) -> None:
        """Wait until there is a response or a stream, at most so long; None waits without a limit."""
        if self.response is not None or self.stream is not None:
            return
        loop = asyncio.get_running_loop()
        self._changed = changed = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._change)
        try:
            await changed
        finally:
            if timer is not None:
                timer.cancel()

    def _change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def request_as_json(self) -> str:
        """What a process that takes the stream over must know of the request: its id, and all that may run again."""
        request = {"id": self.request.id}
        if self.runtime.conf.rerun_lost_calls and self.runtime.binding.does_no_harm_twice(self.request):
            whole = json.dumps({**request, "method": self.request.method, "params": self.request.params})
            if len(whole) <= MAX_KEPT_REQUEST_BYTES:
                return whole
        return json.dumps(request)


def below_log_level(level: str | None, method: str, params: Mapping[str, Any] | None) -> bool:
    """Whether a message is a log entry less severe than what the client asked for with `logging/setLevel`."""
    if level is None or method != "notifications/message" or params is None:
        return False
    severity = params.get("level")
    return severity in LOG_LEVELS and LOG_LEVELS.index(severity) < LOG_LEVELS.index(level)
