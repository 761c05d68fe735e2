"""What a handler of the modern era may know of its request: `current.CurrentRequest`."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from mcp_sessions.conf import Endpoint
from mcp_sessions.http.access import principal_of
from mcp_sessions.records import Handshake
from mcp_sessions.store.drivers import Store
from mcp_sessions.transport.asgi import Message, Receive

#: The members of `_meta` in which a request says what `initialize` says in the handshake era.
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_CLIENT: Final = "io.modelcontextprotocol/clientInfo"
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"


class SessionlessRequest:
    """One request. `receive` is for whoever reads it; its `_meta` is parsed when somebody asks for it.

    After `forget` it holds neither body nor connection: tasks that the handler has started may keep it for long.
    """

    def __init__(self, conf: Endpoint, store: Store, user: Any, receive: Receive) -> None:
        self.conf = conf
        self.store = store
        self.user = user
        self._receive: Receive | None = receive
        self._body: list[bytes] = []

    async def receive(self) -> Message:
        if self._receive is None:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._body.append(message.get("body", b""))
        return message

    def forget(self) -> None:
        """The request is answered."""
        self._receive = None
        self._body.clear()

    @cached_property
    def principal(self) -> str:
        return principal_of(self.user)

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        try:
            message: Any = json.loads(b"".join(self._body))
        except (ValueError, RecursionError):
            return {}
        params = message.get("params") if isinstance(message, dict) else None
        meta = params.get("_meta") if isinstance(params, dict) else None
        return meta if isinstance(meta, dict) else {}

    @cached_property
    def handshake(self) -> Handshake:
        client, capabilities = self.meta.get(_CLIENT), self.meta.get(_CAPABILITIES)
        return Handshake(
            protocol_version=str(self.meta.get(_VERSION, "")),
            client_info=client if isinstance(client, dict) else {},
            capabilities=capabilities if isinstance(capabilities, dict) else {},
        )
