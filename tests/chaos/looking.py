"""What stands in Redis, for tests that count it."""

import json
from collections.abc import Iterable
from typing import cast

from mcp_sessions.store.keys import Keys
from mcp_sessions.store.session import fingerprint
from mcp_sessions.transport.event_ids import STANDALONE
from tests.raw import RawClient
from tests.servers import RedisServer


class Looking:
    """The keys of one namespace, as the demo's cache names them."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._client = server.client(decode_responses=True)
        self._keys = Keys(namespace, lambda key: f":1:{key}")

    def _key(self, part: str, client: RawClient | None = None) -> str:
        """A key of a client's session, or of the namespace."""
        return self._keys.resolve("" if client is None else fingerprint_of(client), [part])[0]

    def log(self, client: RawClient, stream: str) -> list[str]:
        """The messages in the log of a stream, in order."""
        entries = self._client.xrange(self._key("stream:" + stream, client))
        return [fields["d"] for _, fields in cast("list[tuple[str, dict[str, str]]]", entries)]

    def delivered(self, client: RawClient) -> int:
        """Up to which position the standalone stream was delivered."""
        info = self._key("stream-info:" + STANDALONE, client)
        return int(cast("str", self._client.hget(info, "delivered")) or 0)

    def claims(self, client: RawClient) -> int:
        """How often the standalone stream was taken over."""
        info = self._key("stream-info:" + STANDALONE, client)
        return int(cast("str", self._client.hget(info, "token")) or 0)

    def nodes(self) -> dict[int, str]:
        """The nodes by process id."""
        about = cast("dict[str, str]", self._client.hgetall(self._key("nodes:about")))
        return {json.loads(text)["pid"]: node for node, text in about.items()}

    def heartbeats(self) -> dict[str, float]:
        """When each node was last seen."""
        return dict(
            cast("list[tuple[str, float]]", self._client.zrange(self._key("nodes"), 0, -1, withscores=True))
        )

    def doorbells(self) -> int:
        """How many are in the inboxes of all nodes."""
        inboxes = [self._key("inbox:" + node) for node in self.nodes().values()]
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
