"""The nodes that serve each endpoint, as their heartbeats report them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.calls.nodes import NodeEntry
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
    #: What tells its key to sign session ids with from other keys; empty if that is not known.
    key: str
    #: Whether some node of the same endpoint does not know the sessions that this one opens, or the reverse.
    is_stranger: bool


def nodes_of(aliases: Iterable[str]) -> Sequence[ServingNode]:
    """The nodes of these endpoints. A node that dies is forgotten within half a minute.

    Raises: StoreUnavailable.
    """
    return [
        node for alias in aliases for node in serving(alias, sync_store_for(alias).run(nodes.list_nodes()))
    ]


def serving(alias: str, entries: Sequence[NodeEntry]) -> list[ServingNode]:
    """What the store knows of the nodes of an endpoint, for people."""
    found = []
    for node in entries:
        told, keys = node.told(), node.keys
        found.append(
            ServingNode(
                endpoint=alias,
                id=node.id,
                host=told.get("host", "?"),
                pid=told.get("pid", 0),
                seen=datetime.fromtimestamp(node.seen_ms / 1000, UTC),
                key=keys[0] if keys else "",
                is_stranger=bool(keys) and not all(other.shares_keys(keys) for other in entries),
            )
        )
    return found
