"""What the SDK's kernel sees of us: a restored connection, and a dispatch context that leads to our channels."""

import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

import anyio
from mcp.server.connection import Connection
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    REQUEST_TIMEOUT,
    ClientCapabilities,
    ElicitationCapability,
    InitializeRequestParams,
    MissingRequiredClientCapabilityErrorData,
    RootsCapability,
    SamplingCapability,
    SamplingToolsCapability,
)
from starlette.datastructures import Headers
from starlette.requests import Request as HTTPRequest

from mcp_sessions.cluster.client_requests import ClientRequest, OnProgress, SessionEnded, TimedOut
from mcp_sessions.records import Handshake, Session
from mcp_sessions.sdk.channel import Channel
from mcp_sessions.transport import jsonrpc

logger = logging.getLogger(__name__)


#: Severities of `notifications/message`, ascending (Server → Utilities → Logging).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


def _no_connection() -> None:
    """In place of a weak reference."""


class Outbound:
    """The SDK's view of a channel of ours."""

    __slots__ = ("_channel", "connection")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: What the client declared there decides what may be requested of it. A weak reference: a connection owns its
        #: outbound side, and such a cycle with each request would keep the garbage collector busy.
        self.connection: Callable[[], Connection | None] = _no_connection

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        connection = self.connection()
        if not self._channel.can_send_request or connection is None:
            raise NoBackChannelError(method)
        require_capability(connection, method, params)
        options = opts or {}
        request = ClientRequest(
            method=method, params=params, timeout=options.get("timeout"), on_progress=_on_progress(options)
        )
        try:
            reply = await self._channel.send_request(request)
        except TimedOut:
            raise MCPError(code=REQUEST_TIMEOUT, message=f"Request {method!r} timed out") from None
        except SessionEnded:
            raise MCPError(code=CONNECTION_CLOSED, message="The session ended") from None
        return _result_of(reply)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        if not is_below_log_level(self._channel.log_level, method, params):
            await self._channel.notify(method, params)


class DispatchContext(Outbound):
    """The SDK's view of one message being handled: its transport, its id, and its channel."""

    __slots__ = ("_cancel_requested", "_scope", "_token", "message_metadata", "request_id")

    def __init__(
        self,
        request: jsonrpc.Request | jsonrpc.Notification,
        scope: Mapping[str, Any],
        channel: Channel,
        connection: Connection,
        *,
        disconnect: Callable[[], Awaitable[None]] | None = None,
        disconnect_standalone: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(channel)
        self.connection = weakref.ref(connection)
        self.request_id = request.id if isinstance(request, jsonrpc.Request) else None
        self._scope = scope
        self.message_metadata = ServerMessageMetadata(
            request_context=HTTPRequest(cast("Any", scope)),
            close_sse_stream=disconnect,
            close_standalone_sse_stream=disconnect_standalone,
        )
        self._token = progress_token_from_params(request.params)
        self._cancel_requested: anyio.Event | None = None

    @property
    def transport(self) -> TransportContext:
        headers = Headers(scope=cast("Any", self._scope))
        return TransportContext(
            kind="streamable-http", can_send_request=self._channel.can_send_request, headers=headers
        )

    @property
    def can_send_request(self) -> bool:
        return self._channel.can_send_request

    @property
    def cancel_requested(self) -> anyio.Event:
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._token is None:
            return
        params = {"progressToken": self._token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {key: v for key, v in params.items() if v is not None})


def is_below_log_level(level: str | None, method: str, params: Mapping[str, Any] | None) -> bool:
    """Whether a message is a log entry less severe than what the client asked for with `logging/setLevel`."""
    if level is None or method != "notifications/message" or params is None:
        return False
    severity = params.get("level")
    return severity in LOG_LEVELS and LOG_LEVELS.index(severity) < LOG_LEVELS.index(level)


def _on_progress(options: CallOptions) -> OnProgress | None:
    """The SDK's progress callback as one that takes the notification's params."""
    callback = options.get("on_progress")
    if callback is None:
        return None

    async def call(params: Mapping[str, Any]) -> None:
        try:
            await callback(params.get("progress", 0), params.get("total"), params.get("message"))
        except Exception:
            # A handler's own callback: what it raises must not end the wait for the answer.
            logger.exception("A progress callback raised.")

    return call


def _result_of(reply: jsonrpc.Reply) -> dict[str, Any]:
    if reply.error is None:
        return reply.result or {}
    code, message = reply.error.get("code"), reply.error.get("message")
    raise MCPError(
        code=code if isinstance(code, int) else INTERNAL_ERROR,
        message=str(message),
        data=reply.error.get("data"),
    )


def require_capability(connection: Connection, method: str, params: Mapping[str, Any] | None) -> None:
    """Refuse a request that the client did not say it can answer, and before it said that it is ready, all but ping.

    Raises: MCPError with the SDK's code and data for a missing capability.
    """
    if method == "ping":
        return
    if not connection.initialized.is_set():
        raise MCPError(
            code=INVALID_REQUEST, message=f"{method} cannot be sent before the client is initialized"
        )
    required = _required_capability(method, params or {})
    if required is None or connection.check_capability(required):
        return
    data = MissingRequiredClientCapabilityErrorData(required_capabilities=required)
    raise MCPError(
        code=MISSING_REQUIRED_CLIENT_CAPABILITY,
        message=f"The client did not declare the capability that {method} requires",
        data=data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )


def _required_capability(method: str, params: Mapping[str, Any]) -> ClientCapabilities | None:
    if method == "elicitation/create":
        return ClientCapabilities(elicitation=ElicitationCapability())
    if method == "sampling/createMessage":
        tools = SamplingToolsCapability() if params.get("tools") or params.get("toolChoice") else None
        return ClientCapabilities(sampling=SamplingCapability(tools=tools))
    return ClientCapabilities(roots=RootsCapability()) if method == "roots/list" else None


def restored(session: Session, standalone: Channel) -> Connection:
    """The connection as it was after the handshake, whichever process saw that."""
    outbound = Outbound(standalone)
    handshake = session.handshake
    connection = Connection.for_loop(
        outbound, session_id=session.fingerprint, protocol_version_hint=handshake.protocol_version
    )
    outbound.connection = weakref.ref(connection)
    connection.client_params = (
        _kept_client_params(handshake) if handshake.is_kept else _client_params(handshake)
    )
    if session.initialized:
        connection.initialized.set()
    return connection


def _client_params(handshake: Handshake) -> InitializeRequestParams:
    return InitializeRequestParams.model_validate(
        {
            "protocolVersion": handshake.protocol_version,
            "capabilities": handshake.capabilities,
            "clientInfo": handshake.client_info,
        },
        by_name=False,
    )


_kept_client_params = lru_cache(maxsize=1024)(_client_params)
