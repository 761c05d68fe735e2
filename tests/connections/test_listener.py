"""The reader of inboxes: where it begins and goes on, how long its connections wait, what it does when they break."""

from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.listener import Listener
from mcp_sessions.connections.topology import ClusterNodes
from mcp_sessions.errors import StoreUnavailable

INBOX = "inbox"
#: Notifications of one read, and seconds beyond the time that the server waits.
BATCH, MARGIN = 1_000, 1.0


class Client:
    """Answers XREVRANGE and XREAD with what a test put here, or raises it."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.newest: list[Any] = []
        self.read: list[Any] = []
        self.asked: list[Any] = []
        self.closed = False

    async def xrevrange(self, inbox: str, *, count: int) -> Any:
        self.asked.append((inbox, count))
        return self.newest

    async def xread(self, places: dict[str, str], *, count: int, block: int) -> Any:
        self.asked.append((places[INBOX], count, block))
        reply = self.read.pop(0) if self.read else []
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def aclose(self) -> None:
        self.closed = True


class Clients(list[Client]):
    """Those that a listener has made."""

    def make(self, timeout: float | None) -> Any:
        self.append(Client(timeout))
        return self[-1]


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture
def listener(clients: Clients) -> Listener:
    made = Listener(clients.make)
    made._client(100)
    return made


def entry(name: str, payload: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    return name.encode(), {b"d": payload}


@pytest.mark.parametrize(
    ("newest", "after", "place"),
    [
        (None, "5-0", "0-0"),
        ("5-1", "0-0", "0-0"),
        ("5-1", "5-1", "5-1"),
        ("5-1", "5-0", "5-0"),
        ("5-10", "5-9", "5-9"),
        ("10-0", "9-7", "9-7"),
        ("5-1", "5-2", "0-0"),
        ("5-1", "6-0", "0-0"),
    ],
)
async def test_it_begins_behind_the_newest_and_from_the_oldest_if_the_server_has_lost_data(
    clients: Clients, listener: Listener, newest: str | None, after: str, place: str
) -> None:
    [client] = clients
    client.newest = [] if newest is None else [entry(newest, b"old")]
    assert await listener.listen(INBOX, after=after, block_ms=50) == (place, [])
    assert client.asked == [(INBOX, 1), (place, BATCH, 50)]
    assert await listener.listen(INBOX, after=place, block_ms=0) == (place, [])
    assert client.asked[2:] == [(place, BATCH, 1)], "it knows its place now, and 0 would be for ever"


@pytest.mark.parametrize("as_dict", [True, False])
async def test_what_was_read_comes_with_the_place_after_it(
    clients: Clients, listener: Listener, as_dict: bool
) -> None:
    entries = [entry("7-0", b"one"), entry("7-1", b"two")]
    clients[0].read = [{b"inbox": [entries]} if as_dict else [(b"inbox", entries)]]
    assert await listener.listen(INBOX, after="0-0", block_ms=1) == ("7-1", [b"one", b"two"])


async def test_a_connection_that_broke_once_is_not_noticed_and_the_place_is_looked_at_again(
    clients: Clients, listener: Listener
) -> None:
    [client] = clients
    await listener.listen(INBOX, after="0-0", block_ms=1)
    client.newest = [entry("3-0", b"new")]
    client.read = [RedisConnectionError("broken"), [(b"inbox", [entry("3-0", b"new")])]]
    assert await listener.listen(INBOX, after="9-0", block_ms=1) == ("3-0", [b"new"])
    assert [each[0] for each in client.asked] == [INBOX, "0-0", "9-0", INBOX, "0-0"]


@pytest.mark.parametrize("error", [RedisConnectionError("broken"), RedisTimeoutError("late")])
async def test_a_server_that_is_away_is_unavailable_and_the_place_is_looked_at_again(
    clients: Clients, listener: Listener, error: Exception
) -> None:
    [client] = clients
    await listener.listen(INBOX, after="0-0", block_ms=1)
    client.read = [error, error]
    with pytest.raises(StoreUnavailable, match=str(error)) as raised:
        await listener.listen(INBOX, after="2-0", block_ms=1)
    assert raised.value.__cause__ is error
    client.asked.clear()
    client.read.clear()
    await listener.listen(INBOX, after="2-0", block_ms=1)
    assert client.asked == [(INBOX, 1), ("0-0", BATCH, 1)]


async def test_a_connection_outlasts_the_time_that_the_server_is_told_to_wait(
    clients: Clients, listener: Listener
) -> None:
    for block_ms in (100, 50, 2_000, 2_000, 100):
        await listener.listen(INBOX, after="0-0", block_ms=block_ms)
    assert [client.timeout for client in clients] == [0.1 + MARGIN, 2 + MARGIN]
    assert len(clients[1].asked) == 3, "the one that waits longest serves the others"
    await listener.aclose()
    assert [client.closed for client in clients] == [True, True]


async def test_on_a_cluster_the_node_of_the_inbox_is_asked_and_looked_for_again_if_it_is_away() -> None:
    node = Client(None)
    unused, nodes = (mock.Mock(spec=ClusterNodes) for _ in range(2))
    nodes.address_of = mock.AsyncMock(return_value=("one", 1))
    nodes.client.return_value = node
    made = [unused, nodes]
    listener = Listener(lambda timeout: made.pop(0))
    listener._client(1)
    assert await listener.listen(INBOX, after="0-0", block_ms=2) == ("0-0", [])
    nodes.address_of.assert_awaited_once_with(INBOX)
    nodes.client.assert_called_once_with(("one", 1))
    nodes.refresh.assert_not_called()
    node.read = [RedisTimeoutError("late")]
    with pytest.raises(StoreUnavailable):
        await listener.listen(INBOX, after="0-0", block_ms=1)
    nodes.refresh.assert_called_once_with()
    unused.refresh.assert_not_called()


async def test_where_no_client_can_be_made_the_store_is_unavailable() -> None:
    listener = Listener(mock.Mock(side_effect=RedisConnectionError("no such host")))
    with pytest.raises(StoreUnavailable, match="no such host"):
        await listener.listen(INBOX, after="0-0", block_ms=1)
