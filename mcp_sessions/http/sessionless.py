"""What a handler of the modern era may know of its request: `current.CurrentRequest`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.records import Handshake
from mcp_sessions.sdk.envelope import handshake_of
from mcp_sessions.store.drivers import Store
from mcp_sessions.transport import jsonrpc


class SessionlessRequest:
    """One request or notification. Of its body it holds only `_meta`: tasks of a handler may keep it for long."""

    def __init__(
        self,
        conf: Endpoint,
        store: Store,
        identity: Identity,
        message: jsonrpc.Request | jsonrpc.Notification,
    ) -> None:
        self.conf = conf
        self.store = store
        self.identity = identity
        self.principal = identity.principal
        #: Where the request comes from; None where no limit asks for that.
        self.address: str | None = None
        meta = (message.params or {}).get("_meta")
        self.meta: Mapping[str, Any] = meta if isinstance(meta, dict) else {}

    @cached_property
    def handshake(self) -> Handshake:
        return handshake_of(self.meta)
