"""One HTTP request of the handshake era, whose runtime only remembers what it is asked for."""

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.http import lookup
from mcp_sessions.http.endpoint import _HandshakeRequest
from mcp_sessions.records import Handshake
from mcp_sessions.transport.asgi import Message
from tests.support.mcp_client import ACCEPT

SESSION = "f" * 64


def session(*, is_stored: bool = True) -> Any:
    handshake = Handshake(
        protocol_version="2025-11-25", client_info={"name": "inspector", "version": "1"}, capabilities={}
    )
    return SimpleNamespace(fingerprint=SESSION, is_stored=is_stored, handshake=handshake)


class Asked:
    """A request, the runtime that it comes to, and what was sent. `found` is what the look-up of its session gives."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        *,
        body: Any = b"",
        parts: list[bytes] | None = None,
        headers: dict[bytes, bytes] | None = None,
        found: Any = None,
        identity: Identity | None = None,
        **conf: Any,
    ) -> None:
        whole = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.parts = [whole] if parts is None else parts
        self.read = 0
        self.sent: list[Message] = []
        self.runtime: Any = Mock()
        self.runtime.admission.waiting = 0
        self.runtime.admission.may_wait.return_value = True
        self.runtime.listen.return_value = None
        self.runtime.context.store.run = AsyncMock()
        self.runtime.client_requests.answer = AsyncMock()
        self.runtime.open_streams.take_over = AsyncMock()
        self.touched: list[dict[str, Any]] = []
        self.waiting: list[int] = []
        self.found = session() if found is None else found
        self.scope: dict[str, Any] = {
            "client": ("127.0.0.1", 5),
            "headers": [],
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        usual = {b"content-type": b"application/json", b"accept": ACCEPT.encode(), b"mcp-session-id": b"id"}
        self.request = _HandshakeRequest(
            self.runtime,
            Endpoint(**{"alias": "default", "server": "no.server", **conf}),
            self.scope,
            {**usual, **(headers or {})},
            identity or Identity(principal="user:1"),
            self._receive,
            self._send,
        )
        patch.setattr(lookup, "touch", self._touch)

    async def _touch(self, runtime: Any, header: Any, identity: Any, **more: Any) -> Any:
        assert (runtime, identity) == (self.runtime, self.request.identity)
        self.touched.append({"header": header, **more})
        self.waiting.append(runtime.admission.waiting)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def _receive(self) -> Message:
        self.read += 1
        more = self.read < len(self.parts)
        return {"type": "http.request", "body": self.parts[self.read - 1], "more_body": more}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    def was_refused_with(self, rejection: Any) -> bool:
        """Whether that is the whole answer."""
        return (self.status, self.answer) == (rejection.status, rejection.body)
