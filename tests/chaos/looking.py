"""What stands in Redis, for tests that count it."""

import json
from collections.abc import Iterable
from typing import cast

from mcp_sessions.store.keys import Keys
from mcp_sessions.store.session import fingerprint
from mcp_sessions.store.streaming import STANDALONE
from tests.support.mcp_client import RawClient
from tests.support.redis import RedisServer


class Looking:
    """The keys of one namespace, as the demo's cache names them."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._client = server.client(decode_responses=True)
        self._keys = Keys(namespace, lambda key: f":1:{key}")

    def log(self, client: RawClient, stream: str) -> list[str]:
        """The messages in the log of a stream, in order."""
        entries = self._client.xrange(self._keys.stream(fingerprint_of(client), stream))
        return [fields["d"] for _, fields in cast("list[tuple[str, dict[str, str]]]", entries)]

    def delivered(self, client: RawClient) -> int:
        """Up to which position the standalone stream was delivered."""
        info = self._keys.stream_info(fingerprint_of(client), STANDALONE)
        return int(cast("str", self._client.hget(info, "delivered")) or 0)

    def claims(self, client: RawClient) -> int:
        """How often the standalone stream was taken over."""
        info = self._keys.stream_info(fingerprint_of(client), STANDALONE)
        return int(cast("str", self._client.hget(info, "token")) or 0)

    def nodes(self) -> dict[int, str]:
        """The nodes by process id."""
        about = cast("dict[str, str]", self._client.hgetall(self._keys.nodes_about))
        return {json.loads(text)["pid"]: node for node, text in about.items()}

    def heartbeats(self) -> dict[str, float]:
        """When each node was last seen."""
        return dict(
            cast("list[tuple[str, float]]", self._client.zrange(self._keys.nodes, 0, -1, withscores=True))
        )

    def doorbells(self) -> int:
        """How many are in the inboxes of all nodes."""
        inboxes = [self._keys.inbox(node) for node in self.nodes().values()]
        lengths: list[int] = [self._client.xlen(inbox) for inbox in inboxes]
        return sum(lengths)

    def left_of(self, client: RawClient) -> set[str]:
        """Which keys a session has: "session", "state", "ended", "stream:…"."""
        digest = fingerprint_of(client)
        found = cast("Iterable[str]", self._client.scan_iter(match=f"*{digest}*", count=10_000))
        return {key.rpartition(f"{{{digest}}}:")[2] for key in found}


def fingerprint_of(client: RawClient) -> str:
    """The fingerprint of a client's session."""
    digest = fingerprint(client.session_id or "")
    assert digest is not None
    return digest
