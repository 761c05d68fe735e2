"""Requests of the modern era in flight. The SDK answers them; those that outlast the drain get an error from here."""

import asyncio
import json
from typing import Any, Final

from mcp_types import CONNECTION_CLOSED

from mcp_sessions.transport import jsonrpc, sse
from mcp_sessions.transport.asgi import Message, Receive, Send
from mcp_sessions.transport.rejections import JSON_HEADERS

#: The message of the JSON-RPC error for a request that the process did not finish.
INTERRUPTED: Final = "The server ended this request before it completed"


class ModernRequest:
    """One request: `receive` and `send` are for the SDK, `abort` is for the end of the process."""

    __slots__ = ("_body", "_ended", "_receive", "_send", "_sending", "_started", "_streams", "_task")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body: list[bytes] = []
        self._started = self._streams = self._sending = self._ended = False
        self._task = asyncio.current_task()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body.append(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the SDK sends, until the response has ended."""
        if self._ended:
            return
        if message["type"] == "http.response.start":
            self._started, self._streams = True, sse.STREAM_TYPE in message["headers"]
        else:
            self._ended = not message.get("more_body", False)
        self._sending = True
        await self._send(message)
        self._sending = False

    async def abort(self) -> None:
        """Answer with a JSON-RPC error, as JSON or as the stream's last event, and cancel the handler.

        A response that is being written is left to be cut off, and a request that is none to be rejected.
        """
        request_id = self._request_id()
        if request_id is None or self._ended or self._sending or (self._started and not self._streams):
            return
        error = {"code": CONNECTION_CLOSED, "message": INTERRUPTED}
        payload, self._ended = jsonrpc.encode(jsonrpc.error_response(request_id, error)), True
        if not self._started:
            await self._send({"type": "http.response.start", "status": 200, "headers": list(JSON_HEADERS)})
        body = sse.event(payload) if self._started else payload
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        if self._task is not None:
            self._task.cancel()

    def _request_id(self) -> jsonrpc.RequestId | None:
        try:
            request: Any = json.loads(b"".join(self._body))
        except (ValueError, RecursionError):
            return None
        request_id = request.get("id") if isinstance(request, dict) else None
        return request_id if jsonrpc.is_request_id(request_id) else None
