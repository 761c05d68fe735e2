"""The blocking reader of inboxes, on connections of its own."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.connections.round_trips import unavailable
from mcp_sessions.connections.server import AsyncClient
from mcp_sessions.connections.topology import ClusterNodes

#: Seconds that an answer may take beyond the time that the server was told to wait.
MARGIN: Final = 1.0
#: Notifications that one read returns at most.
BATCH: Final = 1_000
_OLDEST: Final = "0-0"


class Listener:
    """Reads inboxes for one event loop. `make_client` takes the socket timeout in seconds."""

    def __init__(self, make_client: Callable[[float | None], AsyncClient]) -> None:
        self._make_client = make_client
        #: The last one waits longest; it is the one in use.
        self._clients: list[AsyncClient] = []
        self._block_ms = 0
        #: The inboxes that were read without an error since.
        self._known: set[str] = set()

    async def listen(self, inbox: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        """See `drivers.Store.listen`. Raises: StoreUnavailable."""
        try:
            try:
                return await self._listen(inbox, after, block_ms)
            except RedisConnectionError:
                # Reading may be repeated. Redis may have closed the connection between two reads.
                self._known.discard(inbox)
                return await self._listen(inbox, after, block_ms)
        except REDIS_ERRORS as error:
            self._known.discard(inbox)
            if self._clients and isinstance(self._clients[-1], ClusterNodes):
                self._clients[-1].refresh()
            raise unavailable(error) from error

    async def aclose(self) -> None:
        while self._clients:
            await self._clients.pop().aclose()

    async def _listen(self, inbox: str, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        client: Any = self._client(block_ms)
        if isinstance(client, ClusterNodes):
            client = client.client(await client.address_of(inbox))
        if inbox not in self._known:
            after = _resumed(after, await client.xrevrange(inbox, count=1))
            self._known.add(inbox)
        entries = _entries(await client.xread({inbox: after}, count=BATCH, block=max(block_ms, 1)))
        return (entries[-1][0].decode() if entries else after), [fields[b"d"] for _, fields in entries]

    def _client(self, block_ms: int) -> AsyncClient:
        """A client whose socket timeout is longer than the server waits."""
        if not self._clients or block_ms > self._block_ms:
            self._block_ms = block_ms
            self._clients.append(self._make_client(block_ms / 1000 + MARGIN))
        return self._clients[-1]


def _entries(streams: Any) -> list[Any]:
    """What was read from the one stream; with `protocol=3` redis-py gives a dictionary of lists of such lists."""
    if isinstance(streams, dict):
        return [entry for batches in streams.values() for batch in batches for entry in batch]
    return list(streams[0][1]) if streams else []


def _resumed(after: str, newest: Sequence[Any]) -> str:
    """Where to go on after a break: from the oldest if the server went back in time, since it has lost its data."""
    if not newest:
        return _OLDEST
    return after if _id(after) <= _id(newest[0][0].decode()) else _OLDEST


def _id(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)
