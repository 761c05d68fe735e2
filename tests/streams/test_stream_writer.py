"""The stream of an exchange while the store is away for long, and when its messages are refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcp_sessions.store.calls import sessions, streams
from mcp_sessions.streams.writer import MAX_UNLOGGED_BYTES
from tests.streams.exchanges import BOUND


async def test_what_cannot_be_logged_is_sent_once_and_logged_when_the_store_is_back(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin()
    exchange.away = True
    exchange.put(2, 3)
    await exchange.stream.written()
    exchange.put(4)
    expected = [(1, 1), (2, 2), (3, 3), (4, 4)]
    await exchange.until(lambda: exchange.events() == expected)
    exchange.away = False
    await exchange.logged()
    exchange.put(5)
    exchange.put(6, last=True)
    await exchange.running
    expected += [(5, 5), (6, 6)]
    assert (exchange.events(), await exchange.log()) == (expected, expected)


async def test_the_connection_ends_with_the_response_although_the_store_is_away(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin()
    exchange.away = True
    exchange.put(2)
    exchange.put(3, last=True)
    await exchange.running
    assert exchange.events() == [(1, 1), (2, 2), (3, 3)]
    exchange.away = False
    await exchange.logged()
    taken = await exchange.harness.claim(exchange.fingerprint, stream=exchange.stream.name, after=2)
    batch = await exchange.harness.read(exchange.fingerprint, taken, stream=exchange.stream.name)
    assert ([event.position for event in batch.events], batch.ended) == ([3], True)


async def test_a_client_that_resumed_the_stream_gets_from_the_log_what_was_sent_meanwhile(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin()
    taken = await exchange.harness.claim(exchange.fingerprint, stream=exchange.stream.name, after=1)
    exchange.stream.event_stream.end()
    exchange.away = True
    exchange.put(2)
    await exchange.stream.written()
    exchange.put(3, last=True)
    exchange.away = False
    await exchange.logged()
    assert {node for node, _ in exchange.notified} == {taken.claim.node}
    batch = await exchange.harness.read(exchange.fingerprint, taken, stream=exchange.stream.name)
    assert ([event.position for event in batch.events], batch.ended) == ([2, 3], True)
    assert exchange.events() == [(1, 1)]


@pytest.mark.parametrize("bound", [{"stream_max_events": 3}, {"stream_max_bytes": 3 * len('{"n":2}')}])
async def test_what_cannot_be_logged_is_kept_up_to_the_bounds_of_a_stream(
    begin: Callable[..., Any], bound: dict[str, int]
) -> None:
    exchange = await begin(**bound)
    exchange.away = True
    exchange.put(2, 3, 4, 5)
    await exchange.stream.written()
    exchange.put(6, 7, 8)
    exchange.put(9, last=True)
    assert len(exchange.stream._unlogged) == 3
    exchange.away = False
    await exchange.logged()
    assert [number for _, number in exchange.events()] == list(range(1, 10))
    assert await exchange.log() == [(7, 7), (8, 8), (9, 9)]


async def test_a_handler_does_not_wait_for_a_store_that_was_given_up(begin: Callable[..., Any]) -> None:
    exchange = await begin(stream_max_bytes=2 * MAX_UNLOGGED_BYTES)
    exchange.away = True
    exchange.stream.put({"n": 2, "long": "x" * (MAX_UNLOGGED_BYTES + 1)})
    async with asyncio.timeout(BOUND):
        await exchange.stream.room()
    await exchange.until(lambda: len(exchange.events()) == 2)
    exchange.away = False
    await exchange.logged()


async def test_a_connection_that_the_handler_closes_is_closed_although_the_store_is_away(
    begin: Callable[..., Any],
) -> None:
    exchange = await begin()
    exchange.away = True
    exchange.put(2)
    await exchange.stream.written()
    exchange.stream.disconnect()
    exchange.put(3)
    await exchange.running
    assert exchange.events() == [(1, 1), (2, 2)]
    exchange.away = False
    await exchange.logged()
    assert await exchange.log() == [(1, 1), (2, 2), (3, 3)]


async def test_what_is_put_while_a_connection_is_closed_is_logged(begin: Callable[..., Any]) -> None:
    exchange = await begin()
    exchange.may_disconnect.clear()
    exchange.stream.disconnect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    exchange.put(2)
    exchange.put(3, last=True)
    exchange.may_disconnect.set()
    await exchange.stream.written()
    assert await exchange.log() == [(1, 1), (2, 2), (3, 3)]
    await exchange.running


async def test_a_session_that_is_gone_is_answered_without_ids(begin: Callable[..., Any]) -> None:
    exchange = await begin()
    await exchange.harness.store.run(sessions.end(exchange.fingerprint, principal=None, reason="deleted"))
    exchange.put(2)
    exchange.put(3, last=True)
    await exchange.running
    assert (exchange.events(), exchange.without_ids()) == ([(1, 1)], 2)
    assert not exchange.stream.superseded


async def test_an_exchange_that_another_node_runs_again_is_superseded(begin: Callable[..., Any]) -> None:
    exchange = await begin()
    taken = await exchange.harness.claim(exchange.fingerprint, stream=exchange.stream.name, node="b")
    rerun = streams.rerun(exchange.fingerprint, exchange.stream.name, dead="a", node="b", most=1)
    await exchange.harness.store.run(rerun)
    exchange.put(2, last=True)
    await exchange.running
    assert exchange.stream.superseded
    assert exchange.events() == [(1, 1)]
    assert await exchange.log() == [(1, 1)]
    assert [node for node, _ in exchange.notified] == [taken.claim.node]
