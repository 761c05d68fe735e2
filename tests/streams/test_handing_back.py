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
from tests.streams.peers import Connection, Service

#: Heartbeats after which a node that is gone is known to be dead.
DEAD: Final = 25
SEEDS: Final = 4
STEPS: Final = 80


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service(embedded_harness(), "a", "b", "c")
    await service.beat()
    yield service
    for peer in service.peers.values():
        for reader in peer.open_streams:
            reader.event_stream.close()
    await service.settle()


async def test_an_older_connection_that_closes_takes_nothing_from_the_newest(service: Service) -> None:
    session = await service.session()
    oldest, older = await service["a"].listen(session), await service["a"].listen(session)
    await service.settle()
    newest = await service["b"].listen(session)
    await service.settle()

    await older.close()
    await service.settle()
    await service.say(session)
    await service.settle()

    assert (newest.heard, oldest.heard) == ([1], [])


@pytest.mark.parametrize("lost", [False, True], ids=["told", "untold"])
async def test_the_newest_of_those_that_are_left_delivers(service: Service, lost: bool) -> None:
    session = await service.session()
    opened = [await service[name].listen(session) for name in "abcab"]
    service.loses = lambda _: lost
    for number, connection in reversed(list(enumerate(opened, 1))):
        await service.say(session)
        await (service.beat() if lost else service.settle())
        assert [len(each.heard) for each in opened] == [*[0] * (number - 1), *[1] * (6 - number)]
        await connection.close()
        await service.settle()


async def test_what_was_delivered_elsewhere_is_not_repeated_when_a_stream_comes_back(
    service: Service,
) -> None:
    session = await service.session()
    staying = await service["a"].listen(session)
    await service.settle()
    leaving = await service["b"].listen(session)
    for _ in range(3):
        await service.say(session)
    await service.settle()
    await leaving.close()
    await service.settle()
    await service.say(session)
    await service.settle()
    assert (leaving.heard, staying.heard) == ([1, 2, 3], [4])


async def test_the_stream_of_a_process_that_died_goes_on_through_another_connection(service: Service) -> None:
    session = await service.session()
    staying, dying = await service["a"].listen(session), await service["b"].listen(session)
    await service.beat(4)
    service["b"].alive = False
    await dying.die()
    await service.say(session)
    await service.beat(DEAD)
    assert staying.heard == [1]


async def test_a_claim_whose_client_left_at_once_holds_the_stream_for_a_heartbeat_at_most(
    service: Service,
) -> None:
    session = await service.session()
    staying = await service["a"].listen(session)
    await service.harness.store.run(
        streams.claim(session.fingerprint, STANDALONE, node="b", after=None, ttl_ms=300_000)
    )
    await service.beat()
    await service.say(session)
    await service.beat(2)
    assert staying.heard == [1]


async def test_a_connection_that_the_store_does_not_know_is_closed_so_that_its_client_comes_back(
    service: Service,
) -> None:
    session = await service.session()
    forgotten, newest = await service["a"].listen(session), await service["b"].listen(session)
    await service.settle()
    await service.harness.store.run(streams.release(session.fingerprint, token=forgotten.reader.claim.token))
    await newest.close()
    await service.settle()
    await service.beat(2)
    assert forgotten.closed_by_server


async def test_a_connection_that_is_being_opened_does_not_lose_the_stream(service: Service) -> None:
    """A heartbeat elsewhere tells its process of a claim that this process does not know yet."""
    session = await service.session()
    await service["a"].listen(session)
    store = service.harness.store

    async def run(work: Any) -> Any:
        """Give the claim, but notifications come before the process gets it."""
        taken = await store.run(work)
        if isinstance(taken, Taken):
            service["b"].open_streams.hear_released(session.fingerprint, taken.claim.token)
            await service.settle()
        return taken

    slow: Any = SimpleNamespace(run=run)
    service["b"].open_streams = OpenStreams(replace(service["b"].context, store=slow))
    connection = await service["b"].listen(session)
    await service.say(session)
    await service.settle()
    assert connection.heard == [1]


@pytest.mark.parametrize("losing", [0.0, 0.5, 1.0], ids=["told", "half-told", "untold"])
async def test_whatever_opens_and_closes_each_message_comes_once_on_the_newest(losing: float) -> None:
    """Connections of three processes that open and close at random, and messages in between."""
    total = 0
    for seed in range(SEEDS):
        service, dice = Service(embedded_harness(), "a", "b", "c"), random.Random(seed)  # noqa: S311
        service.loses = lambda _, dice=dice: dice.random() < losing  # type: ignore[misc]
        session = await service.session()
        open_: list[Connection] = [await service["a"].listen(session)]
        every = list(open_)
        for _ in range(STEPS):
            step = dice.random()
            if step < 0.3 and len(open_) < 8:
                open_.append(await service[dice.choice("abc")].listen(session))
                every.append(open_[-1])
            elif step < 0.6 and len(open_) > 1:
                await open_.pop(dice.randrange(len(open_))).close()
            else:
                newest, before = open_[-1], list(open_[-1].heard)
                said = await service.say(session)
                await (service.beat(3) if losing else service.settle())
                assert newest.heard == [*before, said], (seed, said)
        heard = [number for connection in every for number in connection.heard]
        assert sorted(heard) == list(range(1, service.said + 1))
        total += service.said
        for connection in open_:
            await connection.close()
        await service.settle()
    print(f"standalone streams: {total} of {total} messages once, on the newest connection")  # noqa: T201
