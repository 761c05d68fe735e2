"""What a server announces, to every client that asked for it, on every process.

The SDK's `ctx.notify_tools_changed()` and its sisters reach `subscriptions/listen` streams of the modern era. With this
bus they reach those of all processes, and the standalone streams of the handshake era as well.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakSet

from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

logger = logging.getLogger(__name__)

Listener = Callable[[ServerEvent], None]

_KINDS: Final[dict[str, Callable[..., ServerEvent]]] = {
    "notifications/tools/list_changed": ToolsListChanged,
    "notifications/prompts/list_changed": PromptsListChanged,
    "notifications/resources/list_changed": ResourcesListChanged,
    "notifications/resources/updated": ResourceUpdated,
}
_METHODS: Final = {kind: method for method, kind in _KINDS.items()}

_buses: WeakSet["SharedSubscriptions"] = WeakSet()


class SharedSubscriptions:
    """A `SubscriptionBus` for all processes of an endpoint: `MCPServer("shop", subscriptions=SharedSubscriptions())`.

    Delivery is fire-and-forget, as the specification has it: a client that listens again fetches anew.
    """

    def __init__(self, endpoint: str = "default") -> None:
        """`endpoint` is the key in MCP_SESSIONS of the endpoint that serves the server."""
        self.endpoint = endpoint
        self._listeners: dict[object, Listener] = {}
        _buses.add(self)

    async def publish(self, event: ServerEvent) -> None:
        """Tell every process; later, if the store cannot be asked now."""
        from mcp_sessions.serving.runtime import runtime_for

        runtime = await runtime_for(self.endpoint)
        notice = announcement(_METHODS[type(event)], getattr(event, "uri", None))
        await runtime.context.node.post(notice)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener of this process; returns what unregisters it."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def hear(self, event: ServerEvent) -> None:
        """Tell the listeners of this process."""
        for listener in tuple(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                # A fan-out: one listener must not starve the others.
                logger.exception("A subscription listener raised.")


def are_shared(endpoint: str) -> bool:
    """Whether a server was built with this endpoint's bus."""
    return any(bus.endpoint == endpoint for bus in _buses)


def hear(endpoint: str, method: str, uri: str | None) -> None:
    """An announcement arrived at this process: tell the modern era's listeners."""
    kind = _KINDS[method]
    event = kind(uri=uri) if uri is not None else kind()
    for bus in tuple(_buses):
        if bus.endpoint == endpoint:
            bus.hear(event)


def announcement(method: str, uri: str | None) -> Mapping[str, Any]:
    """The notice by which every process hears of it."""
    return {"t": "announce", "m": method, "u": uri}
