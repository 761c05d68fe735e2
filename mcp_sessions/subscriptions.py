"""What a server announces, to every client that asked for it, on every process.

The SDK's `ctx.notify_tools_changed()` and the other notification methods reach `subscriptions/listen` streams of the
modern era. With this bus they reach those of all processes, and the standalone streams of the handshake era as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from asgiref.sync import sync_to_async
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import (
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    TOOLS_CHANGED,
    Announced,
)

logger = logging.getLogger(__name__)

Listener = Callable[[ServerEvent], None]
#: Tells every node of an endpoint.
Publish = Callable[[Announced], Awaitable[object]]

_KINDS: Final[dict[str, Callable[..., ServerEvent]]] = {
    TOOLS_CHANGED: ToolsListChanged,
    PROMPTS_CHANGED: PromptsListChanged,
    RESOURCES_CHANGED: ResourcesListChanged,
    RESOURCE_UPDATED: ResourceUpdated,
}
_METHODS: Final = {kind: method for method, kind in _KINDS.items()}

_buses: WeakSet["SharedSubscriptions"] = WeakSet()
#: Of each event loop, by endpoint.
_publishers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Publish]] = WeakKeyDictionary()


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
        """Tell every process; later, if the store cannot be asked now.

        Raises: StoreUnavailable, in an event loop that does not serve the endpoint: nothing there would try later.
        """
        announced = Announced(method=_METHODS[type(event)], uri=getattr(event, "uri", None))
        publish = _publishers.get(asyncio.get_running_loop(), {}).get(self.endpoint)
        if publish is not None:
            await publish(announced)
        else:
            await sync_to_async(outside.broadcast, thread_sensitive=False)(self.endpoint, announced)

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


def attach(endpoint: str, publish: Publish) -> None:
    """From here on, `publish` tells the nodes of an endpoint what is announced in the running event loop."""
    _publishers.setdefault(asyncio.get_running_loop(), {})[endpoint] = publish


def detach(endpoint: str, publish: Publish) -> None:
    """Undo `attach`, unless another one has taken its place."""
    publishers = _publishers.get(asyncio.get_running_loop(), {})
    if publishers.get(endpoint) == publish:
        del publishers[endpoint]


def are_shared(endpoint: str) -> bool:
    """Whether a server was built with this endpoint's bus."""
    return any(bus.endpoint == endpoint for bus in _buses)


def hear(endpoint: str, announced: Announced) -> None:
    """An announcement arrived at this process: tell the modern era's listeners."""
    kind = _KINDS[announced.method]
    event = kind(uri=announced.uri) if announced.uri is not None else kind()
    for bus in tuple(_buses):
        if bus.endpoint == endpoint:
            bus.hear(event)
