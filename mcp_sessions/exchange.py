"""One JSON-RPC request being answered, in one process."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mcp_types import INTERNAL_ERROR

from mcp_sessions import wire
from mcp_sessions.binding import REQUEST_CANCELLED
from mcp_sessions.current import current_exchange
from mcp_sessions.database import DatabaseScope
from mcp_sessions.session import Session
from mcp_sessions.streams import Delivery

if TYPE_CHECKING:
    from mcp_sessions.runtime import Runtime

#: Severities of `notifications/message`, ascending (Server → Utilities → Logging).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

#: From this revision on, clients understand an event without data.
PRIMED_SINCE: Final = "2025-11-25"


class Exchange:
    """Runs the handler in a task of its own, so that the work outlives the connection it was asked on.

    What the handler says before its response goes to `delivery`, which exists from the first message on, or from
    `stream()` on. `response` is set at the end.
    """

    __slots__ = (
        "_changed",
        "_json_only",
        "_task",
        "cancelled",
        "delivery",
        "fingerprint",
        "held",
        "request",
        "response",
        "runtime",
        "scope",
        "session",
        "stream_id",
        "user",
    )

    def __init__(
        self,
        request: wire.Request,
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
        self.delivery: Delivery | None = None
        self.response: dict[str, Any] | None = None
        #: Whether the client asked for this request to be cancelled.
        self.cancelled = False
        self._json_only = json_only
        #: Names the stream of this exchange, unlike any other of the session.
        self.stream_id = secrets.token_hex(8)
        #: Whether the runtime keeps the session alive for this exchange.
        self.held = False
        self._changed: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, on_end: Callable[["Exchange"], None]) -> None:
        """Run the handler; `on_end` is called when it is through."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: on_end(self))

    async def _run(self) -> None:
        current_exchange.set(self)
        try:
            async with DatabaseScope():
                response = await self._answer()
        except asyncio.CancelledError:
            self._finish(self._interrupted())
            raise
        except BaseException:
            self._finish(self._failed())
            raise
        self._finish(response)

    async def _answer(self) -> dict[str, Any]:
        session, runtime = self.session, self.runtime
        response = await runtime.binding.answer(
            self.request,
            self.scope,
            self,
            fingerprint=session.fingerprint,
            handshake=session.handshake,
            standalone=runtime.standalone(session),
        )
        if (
            self.request.method == "logging/setLevel"
            and "result" in response
            and self.request.params is not None
        ):
            await runtime.store.set_log_level(session.fingerprint, self.request.params["level"])
        return response

    def _interrupted(self) -> dict[str, Any]:
        """The response of a request that was cancelled: by its client, or because the process or session ends."""
        reason = (
            "Request cancelled" if self.cancelled else "The server ended this request; it may be sent again"
        )
        return wire.error_response(self.request.id, {"code": REQUEST_CANCELLED, "message": reason})

    def _failed(self) -> dict[str, Any]:
        return wire.error_response(
            self.request.id, {"code": INTERNAL_ERROR, "message": "Internal server error"}
        )

    def _finish(self, response: dict[str, Any]) -> None:
        self.response = response
        if self.delivery is not None:
            self.delivery.put(wire.event(response))
            self.delivery.end()
        self._change()

    def tools_changed(self, tools: frozenset[str]) -> None:
        """The session enabled or disabled opt-in tools: it holds at once, and the client is told."""
        self.session = replace(self.session, tools=tools)
        self.runtime.deliver(self.fingerprint, wire.notification("notifications/tools/list_changed", None))

    def cancel(self) -> None:
        """Cancel the handler on the client's behalf (Utilities → Cancellation)."""
        if self._task is not None and self.response is None:
            self.cancelled = True
            self._task.cancel()

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification on this exchange's stream. Without a stream to come, in JSON mode, it is dropped."""
        if self._json_only or self.response is not None or self._below_log_level(method, params):
            return
        self.stream().put(wire.event(wire.notification(method, params)))

    def _below_log_level(self, method: str, params: Mapping[str, Any] | None) -> bool:
        return below_log_level(self.session.log_level, method, params)

    def stream(self) -> Delivery:
        """The delivery of what this exchange sends; from here on the answer is an event stream."""
        if self.delivery is None:
            self.delivery = Delivery()
            if self.response is not None:
                self.delivery.put(wire.event(self.response))
                self.delivery.end()
            self._change()
        return self.delivery

    def priming(self) -> bytes:
        """What opens the event stream: an event without data, for clients that can parse it."""
        if self.session.handshake.protocol_version < PRIMED_SINCE:
            return wire.KEEP_ALIVE
        return wire.priming(f"{self.stream_id}-0")

    async def settled(self, seconds: float | None) -> None:
        """Wait until there is a response or a stream, at most so long; None waits without a limit."""
        if self.response is not None or self.delivery is not None:
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


def below_log_level(level: str | None, method: str, params: Mapping[str, Any] | None) -> bool:
    """Whether a message is a log entry less severe than what the client asked for with `logging/setLevel`."""
    if level is None or method != "notifications/message" or params is None:
        return False
    severity = params.get("level")
    return severity in LOG_LEVELS and LOG_LEVELS.index(severity) < LOG_LEVELS.index(level)
