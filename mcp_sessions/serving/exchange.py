"""One JSON-RPC request being answered, in one process."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS

from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.authentication.identity import Identity, identity_of
from mcp_sessions.cluster.client_requests import ClientRequest, ClientRequests
from mcp_sessions.conf import Endpoint
from mcp_sessions.current import current_exchange, current_request
from mcp_sessions.errors import SessionGone, StoreUnavailable
from mcp_sessions.records import Handshake, Session
from mcp_sessions.sdk.kernel import Kernel
from mcp_sessions.serving.observing import REQUEST_CANCELLED, TELL, Begun, Ended, next_number
from mcp_sessions.store.calls import revival, sessions, subscriptions
from mcp_sessions.store.calls.reading import CALL_LENGTH
from mcp_sessions.store.drivers import Store
from mcp_sessions.store.drivers.absent import NOT_NOW, WithoutStore
from mcp_sessions.streams.context import Context
from mcp_sessions.streams.open_streams import disconnect
from mcp_sessions.streams.standalone import StandaloneChannel
from mcp_sessions.streams.writer import StreamWriter
from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.event_ids import STANDALONE

#: The message of the JSON-RPC error for a request that the process did not finish.
INTERRUPTED: Final = "The server ended this request before it completed"
#: Bytes of a request that is kept to be run again should its process die.
MAX_KEPT_REQUEST_BYTES: Final = 64 * 1024


@dataclass(eq=False, slots=True, kw_only=True)
class Exchange:
    """Runs the handler of a request, and remembers what the request changes in the session.

    What the handler sends before its response goes to `stream`, which exists from the first message on, or from `open`
    on. `response` is set at the end. Without a stream nothing is logged.
    """

    request: jsonrpc.Request
    #: The HTTP request.
    scope: Mapping[str, Any]
    #: The session as this request found it.
    session: Session
    #: Whether the response may become an event stream.
    may_stream: bool
    context: Context
    kernel: Kernel
    client_requests: ClientRequests
    #: Called when the request has been answered.
    note: Callable[[Ended], None]
    stream: StreamWriter | None = None
    response: dict[str, Any] | None = None
    #: The task that runs the handler; None once it has ended.
    task: "asyncio.Task[None] | None" = None
    #: Whether the client asked for this request to be cancelled.
    cancelled: bool = False
    #: Whether the request keeps its session alive: it has outlasted the grace period.
    keeps_session: bool = False
    #: The number of requests to the client that it waits for.
    waits_for_client: int = 0
    #: What tells it from the other requests of this process.
    number: int = field(default_factory=next_number, init=False)
    #: When it was begun, by `time.monotonic()`.
    began: float = field(default_factory=time.monotonic, init=False)
    _settled: "asyncio.Future[None] | None" = field(default=None, init=False)

    async def run(self) -> None:
        """Run the handler to its end, and set `response`. Cancellation is raised again."""
        current_exchange.set(self)
        current_request.set(self)
        resumable = self._primed and self.session.is_stored
        try:
            response = await self.kernel.answer(
                self.request,
                self.scope,
                self.session,
                channel=self,
                standalone=StandaloneChannel(self.context, self.client_requests, self.session),
                disconnect=self._disconnect if self.may_stream and resumable else None,
                disconnect_standalone=self._disconnect_standalone if resumable else None,
            )
            if self.request.method in _REMEMBERED and "result" in response:
                problem = await _REMEMBERED[self.request.method](self, self.request.params or {})
                response = response if problem is None else self._error(INVALID_PARAMS, problem)
        except StoreUnavailable:
            self.respond(self._error(INTERNAL_ERROR, NOT_NOW))
        except asyncio.CancelledError:
            self.respond(self.interrupted())
            raise
        except BaseException:
            self.respond(self._error(INTERNAL_ERROR, "Internal server error"))
            raise
        else:
            self.respond(response)
        finally:
            if self.stream is not None:
                await self.stream.written()

    def respond(self, response: dict[str, Any]) -> None:
        """Set the response; on a stream it is the last message. Only the first one counts."""
        if self.response is not None:
            return
        self.response = response
        error, result = response.get("error"), response.get("result")
        code, failed = error and error["code"], result is not None and result.get("isError", False)
        self.note(ended := Ended(self.begun, time.monotonic(), code, failed))
        if TELL in self.scope:
            self.scope[TELL](ended, self.address)
        self._settle()
        if self.stream is not None:
            self.stream.put(response, last=True)

    @property
    def begun(self) -> Begun:
        """The request, as observers are told of it."""
        session, handshake = self.session, self.session.handshake
        return Begun(
            self.number,
            "session",
            session.fingerprint,
            jsonrpc.call_name(self.request)[:CALL_LENGTH],
            session.principal,
            handshake.client_name,
            handshake.client_version,
            self.began,
        )

    def interrupted(self) -> dict[str, Any]:
        """The response to a request that was cancelled: by its client, or because the process or session ends."""
        if self.cancelled:
            return self._error(REQUEST_CANCELLED, "Request cancelled")
        return self._error(CONNECTION_CLOSED, INTERRUPTED)

    def _error(self, code: int, message: str) -> dict[str, Any]:
        return jsonrpc.error_response(self.request.id, {"code": code, "message": message})

    def cancel(self) -> None:
        """Cancel the handler on the client's behalf (Utilities → Cancellation)."""
        self.cancelled = True
        self.abort()

    def abort(self) -> None:
        """Cancel the handler: the session or the process ends."""
        if self.task is not None and self.response is None:
            self.task.cancel()

    # The channel of the handler

    @property
    def can_send_request(self) -> bool:
        return self.may_stream and self.response is None

    @property
    def log_level(self) -> str | None:
        return self.session.log_level

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification on this exchange's stream. It is dropped where there may be none, in JSON mode."""
        if self.can_send_request:
            await self._put(jsonrpc.notification(method, params))

    async def send_request(self, request: ClientRequest) -> jsonrpc.Reply:
        if not self.session.is_stored:
            raise WithoutStore
        with self.waiting():
            return await self.client_requests.send(self.session.fingerprint, request, self._put)

    async def _put(self, message: Mapping[str, Any]) -> None:
        if self.response is not None:
            return  # it was answered without its handler, and nothing follows the response
        stream = self.open()
        stream.put(message)
        await stream.room()
        if stream.superseded:
            self.abort()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The handler waits for its client: if the session ends meanwhile, it is cancelled."""
        self.waits_for_client += 1
        try:
            yield
        finally:
            self.waits_for_client -= 1

    # The stream

    def open(self) -> StreamWriter:
        """The stream of this exchange; from now on the answer is an event stream."""
        if self.stream is None:
            self.stream = StreamWriter(
                self.context,
                self.session.fingerprint,
                request=self._request_as_json(),
                primed=self._primed,
                logged=self.session.is_stored,
            )
            if self.response is None:
                self.stream.open()
            else:
                self.stream.put(self.response, last=True)
            self._settle()
        return self.stream

    @property
    def _primed(self) -> bool:
        """Whether the client resumes streams of which it has seen no event with a message."""
        return self.session.handshake.protocol_version >= sse.PRIMED_SINCE

    def _request_as_json(self) -> str:
        """What a process that takes the stream over must know: the request's id, and all of it if it is repeatable."""
        request = {"id": self.request.id}
        if self.context.conf().rerun_lost_calls and self.kernel.is_repeatable(self.request):
            whole = json.dumps({**request, "method": self.request.method, "params": self.request.params})
            if len(whole) <= MAX_KEPT_REQUEST_BYTES:
                return whole
        return json.dumps(request)

    async def _disconnect(self) -> None:
        """Close the connection that waits for the answer. The client may resume; the handler goes on."""
        self.open().disconnect()

    async def _disconnect_standalone(self) -> None:
        """Close the connection on which the client listens, in whichever process. The client may resume."""
        with suppress(StoreUnavailable):  # then it stays open
            await disconnect(self.context, self.session.fingerprint, STANDALONE)

    async def settled(self, seconds: float | None) -> None:
        """Wait until there is a response or a stream, at most that long; None for no limit."""
        if self.response is not None or self.stream is not None:
            return
        loop = asyncio.get_running_loop()
        self._settled = settled = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._settle)
        try:
            await settled
        finally:
            if timer is not None:
                timer.cancel()

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    # What handlers see: `current.CurrentRequest` and `current.CurrentExchange`

    @property
    def conf(self) -> Endpoint:
        return self.context.conf()

    @property
    def principal(self) -> str:
        return self.session.principal

    @property
    def handshake(self) -> Handshake:
        return self.session.handshake

    @property
    def meta(self) -> Mapping[str, Any]:
        meta = (self.request.params or {}).get("_meta")
        return meta if isinstance(meta, Mapping) else {}

    @property
    def identity(self) -> Identity:
        return identity_of(self.scope)

    @property
    def address(self) -> str | None:
        return client_address(self.scope, self.context.conf().trusted_proxies)

    @property
    def store(self) -> Store:
        return self.context.store

    @property
    def state_max_bytes(self) -> int:
        return self.context.conf().state_max_bytes

    @property
    def opt_in_tools(self) -> frozenset[str]:
        return self.kernel.opt_in_tools

    async def change_tools(
        self, *, enable: Iterable[str] = (), disable: Iterable[str] = ()
    ) -> frozenset[str]:
        """Enable or disable opt-in tools, for this request at once, and tell the client."""
        change = sessions.change_tools(self.session.fingerprint, enable=enable, disable=disable)
        tools = await self.context.store.run(change)
        if tools is None:
            raise SessionGone("the session is gone")
        self.session = self.session._replace(tools=tools)
        channel = StandaloneChannel(self.context, self.client_requests, self.session)
        await channel.notify("notifications/tools/list_changed", None)
        return tools

    async def settle_session(self) -> None:
        """A revived session is an ordinary one from now on, for this request at once."""
        if not await self.context.store.run(revival.settle(self.session.fingerprint)):
            raise SessionGone("the session is gone")
        self.session = self.session._replace(revived=False)


async def _remember_log_level(exchange: Exchange, params: Mapping[str, Any]) -> None:
    await exchange.store.run(sessions.set_log_level(exchange.session.fingerprint, params["level"]))


async def _remember_subscription(exchange: Exchange, params: Mapping[str, Any]) -> str | None:
    if not exchange.kernel.keeps_subscriptions:
        return None
    most = exchange.context.conf().max_subscriptions
    kept = await exchange.store.run(
        subscriptions.subscribe(exchange.session.fingerprint, params["uri"], max_subscriptions=most)
    )
    return f"A session subscribes to {most} resources at most" if kept is False else None


async def _forget_subscription(exchange: Exchange, params: Mapping[str, Any]) -> None:
    if exchange.kernel.keeps_subscriptions:
        await exchange.store.run(subscriptions.unsubscribe(exchange.session.fingerprint, params["uri"]))


#: Requests that the session remembers when they succeed. Each function says what is wrong, if anything.
_REMEMBERED: Final[Mapping[str, Callable[[Exchange, Mapping[str, Any]], Awaitable[str | None]]]] = {
    "logging/setLevel": _remember_log_level,
    "resources/subscribe": _remember_subscription,
    "resources/unsubscribe": _forget_subscription,
}
