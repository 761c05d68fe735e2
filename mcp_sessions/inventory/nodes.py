"""The server processes of each endpoint, as their heartbeats tell; for operators."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """One process that serves an endpoint."""

    endpoint: str
    #: What other processes call it.
    node: str
    host: str
    pid: int
    #: Its last heartbeat, by the store's clock.
    seen: datetime


def server_processes(aliases: Iterable[str]) -> Sequence[ServerProcess]:
    """The processes that serve these endpoints: one that dies is forgotten within half a minute.

    Raises: StoreUnavailable.
    """
    return [
        ServerProcess(
            endpoint=alias,
            node=node.id,
            host=about.get("host", "?"),
            pid=about.get("pid", 0),
            seen=datetime.fromtimestamp(node.seen_ms / 1000, UTC),
        )
        for alias in aliases
        for node in sync_store_for(alias).run(nodes.list_nodes())
        for about in [json.loads(node.about)]
    ]
