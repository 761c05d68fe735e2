"""A client with several standalone streams: the newest that is open delivers, each message once."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Taken
from mcp_sessions.streams.open_streams import OpenStreams
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import embedded_harness
from tests.streams.peers import Connection, World

#: Heartbeats after which a node that is gone is known to be dead.
DEAD: Final = 25
SEEDS: Final = 4
STEPS: Final = 80


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(embedded_harness(), "a", "b", "c")
    await world.beat()
    yield world
    for peer in world.peers.values():
        for reader in peer.open_streams:
            reader.event_stream.close()
    await world.settle()


async def test_an_older_connection_that_closes_takes_nothing_from_the_newest(world: World) -> None:
    session = await world.session()
    oldest, older = await world["a"].listen(session), await world["a"].listen(session)
    await world.settle()
    newest = await world["b"].listen(session)
    await world.settle()

    await older.close()
    await world.settle()
    await world.say(session)
    await world.settle()

    assert (newest.heard, oldest.heard) == ([1], [])


@pytest.mark.parametrize("lost", [False, True], ids=["told", "untold"])
async def test_the_newest_of_those_that_are_left_delivers(world: World, lost: bool) -> None:
    session = await world.session()
    opened = [await world[name].listen(session) for name in "abcab"]
    world.loses = lambda _: lost
    for number, connection in reversed(list(enumerate(opened, 1))):
        await world.say(session)
        await (world.beat() if lost else world.settle())
        assert [len(each.heard) for each in opened] == [*[0] * (number - 1), *[1] * (6 - number)]
        await connection.close()
        await world.settle()


async def test_what_was_delivered_elsewhere_is_not_repeated_when_a_stream_comes_back(world: World) -> None:
    session = await world.session()
    staying = await world["a"].listen(session)
    await world.settle()
    leaving = await world["b"].listen(session)
    for _ in range(3):
        await world.say(session)
    await world.settle()
    await leaving.close()
    await world.settle()
    await world.say(session)
    await world.settle()
    assert (leaving.heard, staying.heard) == ([1, 2, 3], [4])


async def test_the_stream_of_a_process_that_died_goes_on_through_another_connection(world: World) -> None:
    session = await world.session()
    staying, dying = await world["a"].listen(session), await world["b"].listen(session)
    await world.beat(4)
    world["b"].alive = False
    await dying.die()
    await world.say(session)
    await world.beat(DEAD)
    assert staying.heard == [1]


async def test_a_claim_whose_client_left_at_once_holds_the_stream_for_a_heartbeat_at_most(
    world: World,
) -> None:
    session = await world.session()
    staying = await world["a"].listen(session)
    await world.harness.store.run(
        streams.claim(session.fingerprint, STANDALONE, node="b", after=None, ttl_ms=300_000)
    )
    await world.beat()
    await world.say(session)
    await world.beat(2)
    assert staying.heard == [1]


async def test_a_connection_that_the_store_does_not_know_is_closed_so_that_its_client_comes_back(
    world: World,
) -> None:
    session = await world.session()
    forgotten, newest = await world["a"].listen(session), await world["b"].listen(session)
    await world.settle()
    await world.harness.store.run(streams.release(session.fingerprint, token=forgotten.reader.claim.token))
    await newest.close()
    await world.beat(2)
    assert forgotten.closed_by_server


async def test_a_connection_that_is_being_opened_does_not_lose_the_stream(world: World) -> None:
    """A heartbeat elsewhere tells its process of a claim that this process does not know yet."""
    session = await world.session()
    await world["a"].listen(session)
    store = world.harness.store

    async def run(work: Any) -> Any:
        """Give the claim, but notifications come before the process gets it."""
        taken = await store.run(work)
        if isinstance(taken, Taken):
            world["b"].open_streams.hear_released(session.fingerprint, taken.claim.token)
            await world.settle()
        return taken

    slow: Any = SimpleNamespace(run=run)
    world["b"].open_streams = OpenStreams(replace(world["b"].context, store=slow))
    connection = await world["b"].listen(session)
    await world.say(session)
    await world.settle()
    assert connection.heard == [1]


@pytest.mark.parametrize("losing", [0.0, 0.5, 1.0], ids=["told", "half-told", "untold"])
async def test_whatever_opens_and_closes_each_message_comes_once_on_the_newest(losing: float) -> None:
    """Connections of three processes that open and close at random, and messages in between."""
    total = 0
    for seed in range(SEEDS):
        world, dice = World(embedded_harness(), "a", "b", "c"), random.Random(seed)  # noqa: S311
        world.loses = lambda _, dice=dice: dice.random() < losing  # type: ignore[misc]
        session = await world.session()
        open_: list[Connection] = [await world["a"].listen(session)]
        every = list(open_)
        for _ in range(STEPS):
            step = dice.random()
            if step < 0.3 and len(open_) < 8:
                open_.append(await world[dice.choice("abc")].listen(session))
                every.append(open_[-1])
            elif step < 0.6 and len(open_) > 1:
                await open_.pop(dice.randrange(len(open_))).close()
            else:
                newest, before = open_[-1], list(open_[-1].heard)
                said = await world.say(session)
                await (world.beat(3) if losing else world.settle())
                assert newest.heard == [*before, said], (seed, said)
        heard = [number for connection in every for number in connection.heard]
        assert sorted(heard) == list(range(1, world.said + 1))
        total += world.said
        for connection in open_:
            await connection.close()
        await world.settle()
    print(f"standalone streams: {total} of {total} messages once, on the newest connection")  # noqa: T201
