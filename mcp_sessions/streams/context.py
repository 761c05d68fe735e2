"""What the parts that serve one endpoint in one event loop share."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mcp_sessions.cluster.node import Node
from mcp_sessions.conf import Endpoint
from mcp_sessions.store.drivers import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The store, this process as a node, the settings, and a way to run something in the background."""

    store: Store
    node: Node
    #: Reads the settings anew: a change holds from the next request on.
    conf: Callable[[], Endpoint]
    #: Runs a coroutine in a task that is cancelled when the process stops.
    spawn: Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]
