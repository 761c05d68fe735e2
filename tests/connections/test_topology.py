"""Who serves what in a Cluster, as its nodes say it: the newest answer counts, and a node that fails is left out."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from redis.crc import key_slot
from redis.exceptions import AskError
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections import topology
from mcp_sessions.connections.topology import Address, ClusterNodes

ONE, TWO, THREE = ("one", 1), ("two", 2), ("three", 3)
LAST = 16_383
#: What CLUSTER SLOTS has for a node beside host and port.
ID = b"an id"


class Node:
    """A client of a node that knows of the others what it is told here."""

    def __init__(self, epoch: int | None, *ranges: tuple[int, int, Address]) -> None:
        about = b"cluster_state:ok\r\n"
        self.about = about if epoch is None else about + b"cluster_current_epoch:%d\r\n" % epoch
        self.ranges = [[first, last, [host.encode(), port, ID]] for first, last, (host, port) in ranges]
        self.asked = 0

    async def execute_command(self, *words: str) -> Any:
        self.asked += 1
        for _ in range(3):
            await asyncio.sleep(0)  # an answer takes some time
        return self.about if words == ("CLUSTER", "INFO") else self.ranges


class Broken:
    """One that does not answer."""

    asked = 0

    async def execute_command(self, *words: str) -> Any:
        self.asked += 1
        raise RedisConnectionError("refused")


class Nodes(ClusterNodes):
    """Those that a test made, and connections to nobody."""

    def __init__(self, known: dict[Address, Any], **options: Any) -> None:
        super().__init__([ONE, TWO], {}, **options)
        self.known = known

    def client(self, address: Address) -> Any:
        return self.known[address]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look may follow the other."""
    monkeypatch.setattr(topology, "PAUSE", 0.0)


async def primaries(nodes: ClusterNodes) -> set[Address | None]:
    """Who serves any slot, after a look."""
    await nodes.refresh()
    return set(nodes.slots)


async def test_the_answer_of_the_highest_epoch_counts_and_of_equal_ones_that_which_covers_more() -> None:
    old, new = Node(1, (0, LAST, ONE)), Node(2, (0, LAST, TWO))
    assert await primaries(Nodes({ONE: old, TWO: new})) == {TWO}
    part, whole = Node(2, (0, LAST - 1, TWO)), Node(2, (0, LAST, ONE))
    for first, second in ((part, whole), (whole, part)):
        assert await primaries(Nodes({ONE: first, TWO: second})) == {ONE}
    # A node that does not say its epoch knows least.
    nameless, part = Node(None, (0, LAST, ONE)), Node(1, (0, LAST - 1, TWO))
    assert await primaries(Nodes({ONE: nameless, TWO: part})) == {TWO, None}


async def test_a_slot_is_served_by_the_first_node_of_its_range_and_all_of_a_range_are_nodes() -> None:
    node = Node(1, (0, 4, ONE), (6, LAST, TWO))
    node.ranges[1].append([b"three", 3, ID])
    nodes = Nodes({ONE: node, TWO: Broken(), THREE: (replica := Node(1, (0, LAST, THREE)))})
    await nodes.refresh()
    assert [nodes.slots[slot] for slot in (0, 4, 5, 6, LAST)] == [ONE, ONE, None, TWO, TWO]
    assert len(nodes.slots) == LAST + 1
    assert replica.asked == 0
    node.about = node.about.replace(b"1\r\n", b"0\r\n")
    assert await primaries(nodes) == {THREE}, "it is asked from then on"


async def test_a_node_without_a_host_means_its_own_and_addresses_are_mapped() -> None:
    node = Node(1)
    node.ranges = [[0, LAST, [b"", 7, ID]]]
    nodes = Nodes({ONE: node, TWO: Broken()}, remap=lambda address: (address[0] + "!", address[1] + 1))
    await nodes.refresh()
    assert nodes.slots[0] == ("one!", 8)
    assert nodes.redirected(AskError("5 two:9"), ONE) == ("two!", 10)
    assert nodes.redirected(AskError("5 :9"), ONE) == ("one!", 10)
    assert Nodes({}).redirected(AskError("5 two:9"), ONE) == ("two", 9)


async def test_who_asks_for_a_key_waits_for_the_first_look_and_for_no_look_after_one_in_vain() -> None:
    key, known = "a key", {ONE: Broken(), TWO: Broken()}
    nodes = Nodes(known)
    with pytest.raises(RedisConnectionError, match=r"^No node of the cluster answered: refused$"):
        await nodes.address_of(key)
    assert [each.asked for each in known.values()] == [1, 1]
    known[ONE] = Node(1, (0, LAST, TWO))  # type: ignore[assignment]
    with pytest.raises(RedisConnectionError, match="No node"):
        await nodes.address_of(key)
    await nodes.refresh()
    assert await nodes.address_of(key) == TWO


async def test_a_slot_that_nobody_serves_is_looked_for_and_one_that_moved_is_elsewhere_at_once() -> None:
    key = "a key"
    slot = key_slot(key.encode())
    node = Node(1, (0, slot - 1, ONE), (slot + 1, LAST, ONE))
    nodes = Nodes({ONE: node, TWO: Broken()})
    with pytest.raises(RedisConnectionError, match=f"^Nobody serves slot {slot}.$"):
        await nodes.address_of(key)
    node.ranges = [[0, LAST, [b"two", 2, ID]]]
    nodes.moved(slot, THREE)
    assert await nodes.address_of(key) == THREE
    await nodes.refresh()
    assert await nodes.address_of(key) == TWO, "a look was begun"


async def test_a_look_that_has_begun_is_shared_and_a_slow_node_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "GRACE", 0.01)

    class Hung(Broken):
        async def execute_command(self, *words: str) -> Any:
            self.asked += 1
            await asyncio.Event().wait()

    node = Node(1, (0, LAST, ONE))
    nodes = Nodes({ONE: node, TWO: Hung()})
    first = nodes.refresh()
    assert nodes.refresh() is first
    assert await nodes.address_of("a key") == ONE
    assert node.asked == 2
    assert nodes.refresh() is not first
    await nodes.aclose()


async def test_of_a_node_that_left_only_what_was_named_at_first_is_kept() -> None:
    made: list[str] = []

    class Client(Node):
        def __init__(self, name: str, *ranges: tuple[int, int, Address]) -> None:
            super().__init__(1, *ranges)
            self.name, self.connection_pool = name, self

        async def disconnect(self, *, inuse_connections: bool) -> None:
            assert not inuse_connections
            made.append(self.name)

        async def aclose(self) -> None:
            made.append(f"{self.name} closed")

    for told in (True, False):
        nodes = ClusterNodes([ONE], {})
        clients: dict[Address, Any] = {
            ONE: Client("one", (0, LAST, TWO)),
            TWO: Client("two"),
            THREE: Client("three"),
        }
        nodes._clients = dict(clients)
        left: list[Address] = []
        tell: Callable[[Address], None] | None = left.append if told else None
        nodes.left = tell
        made.clear()
        await nodes.refresh()
        assert (made, left) == (["three"], [THREE] if told else [])
        await nodes.aclose()
        assert ("three closed" in made) == (not told)


async def test_it_is_closed_before_and_in_the_middle_of_a_look() -> None:
    await Nodes({}).aclose()

    class Hung(Broken):
        async def execute_command(self, *words: str) -> Any:
            await asyncio.Event().wait()

    nodes = Nodes({ONE: Hung(), TWO: Hung()})
    looking = nodes.refresh()
    await asyncio.sleep(0)
    await nodes.aclose()
    assert looking.cancelled()


async def test_two_looks_are_a_moment_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    nodes = Nodes({ONE: Broken(), TWO: Broken()})
    slept: list[float] = []
    sleep = asyncio.sleep

    async def sleeps(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleeps)
    await nodes.refresh()
    assert slept == []
    await nodes.refresh()
    [seconds] = slept
    assert 0.1 < seconds <= 0.2


async def test_a_node_has_a_second_and_a_tenth_once_another_has_answered() -> None:
    class Slow(Node):
        async def execute_command(self, *words: str) -> Any:
            for _ in range(9):
                await asyncio.sleep(0)
            return await super().execute_command(*words)

    each, together = mock.Mock(side_effect=asyncio.timeout), mock.Mock(side_effect=asyncio.wait)
    nodes = Nodes({ONE: Node(1, (0, LAST, ONE)), TWO: Slow(2, (0, LAST, TWO))})
    with mock.patch.object(asyncio, "timeout", each), mock.patch.object(asyncio, "wait", together):
        await nodes.refresh()
    assert nodes.slots[0] == TWO
    assert [call.args for call in each.mock_calls] == [(1.0,)] * 2
    assert [call.kwargs["timeout"] for call in together.mock_calls] == [None, 0.1]


async def test_a_node_that_hangs_is_given_up_when_another_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "GRACE", 0.0)
    monkeypatch.setattr(topology, "ASK_TIMEOUT", 60.0)
    given_up = asyncio.Event()

    class Hung(Broken):
        async def execute_command(self, *words: str) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

    nodes = Nodes({ONE: Node(1, (0, LAST, ONE)), TWO: Hung()})
    async with asyncio.timeout(10):
        await nodes.refresh()
        await given_up.wait()
    assert nodes.slots[0] == ONE


async def test_each_node_has_a_client_of_its_own() -> None:
    nodes = ClusterNodes([ONE], {"max_connections": 3, "username": "a user"})
    one, two = nodes.client(ONE), nodes.client(TWO)
    assert nodes.client(ONE) is one
    for client, (host, port) in ((one, ONE), (two, TWO)):
        options = client.connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["username"]) == (host, port, "a user")
        assert client.connection_pool.max_connections == 3
    await nodes.aclose()


@pytest.mark.parametrize(("ago", "waits"), [(None, True), (2.25, False), (2.5, True)])
async def test_a_look_in_vain_counts_for_more_than_two_seconds(
    monkeypatch: pytest.MonkeyPatch, ago: float | None, waits: bool
) -> None:
    nodes, loop = Nodes({}), asyncio.get_running_loop()
    nodes._looked_at = None if ago is None else 1_000 - ago

    async def look() -> None:
        nodes.slots = [THREE] * (LAST + 1)

    looking = loop.create_task(look())
    monkeypatch.setattr(nodes, "refresh", lambda: looking)
    with mock.patch.object(loop, "time", return_value=1_000.0):
        if waits:
            assert await nodes.address_of("a key") == THREE
        else:
            with pytest.raises(RedisConnectionError):
                await nodes.address_of("a key")
    await looking
