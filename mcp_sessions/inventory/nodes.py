"""The nodes that serve each endpoint, as their heartbeats report them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingNode:
    """A node, one server process, that serves an endpoint."""

    endpoint: str
    id: str
    host: str
    pid: int
    #: Its last heartbeat, by the store's clock.
    seen: datetime


def nodes_of(aliases: Iterable[str]) -> Sequence[ServingNode]:
    """The nodes of these endpoints. A node that dies is forgotten within half a minute.

    Raises: StoreUnavailable.
    """
    return [
        ServingNode(
            endpoint=alias,
            id=node.id,
            host=about.get("host", "?"),
            pid=about.get("pid", 0),
            seen=datetime.fromtimestamp(node.seen_ms / 1000, UTC),
        )
        for alias in aliases
        for node in sync_store_for(alias).run(nodes.list_nodes())
        for about in [json.loads(node.about)]
    ]
