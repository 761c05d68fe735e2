"""Whichever process a client's response arrives at: one wins, it reaches the handler, and the others are refused."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_sessions.cluster.client_requests import ClientRequest, SessionEnded, TimedOut
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import requests, sessions
from mcp_sessions.transport import jsonrpc
from tests.cluster.processes import BOUND, Process, Store
from tests.store.harness import Harness


async def result_of(waiting: "asyncio.Task[jsonrpc.Reply]") -> Any:
    return (await asyncio.wait_for(waiting, BOUND)).result


async def test_a_response_to_a_request_of_the_same_process_is_not_read_back(
    store: Store, one: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    assert await one.receive(session, request_id, ok=1)
    assert await result_of(waiting) == {"ok": 1}
    await one.settle()
    assert store.read_back == 0


async def test_a_response_that_arrives_elsewhere_is_found_by_a_heartbeat(
    one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    assert await other.receive(session, request_id, ok=1)
    await one.requests.look()
    assert await result_of(waiting) == {"ok": 1}


@pytest.mark.parametrize("first", ["here", "elsewhere"])
async def test_a_second_response_is_refused_wherever_it_arrives(
    one: Process, other: Process, session: str, first: str
) -> None:
    request_id, waiting = await one.ask(session)
    order = [one, other] if first == "here" else [other, one]
    assert [await process.receive(session, request_id, by=n) for n, process in enumerate(order)] == [
        True,
        False,
    ]
    await one.requests.look()
    assert await result_of(waiting) == {"by": 0}


@pytest.mark.parametrize("winner", ["here", "elsewhere"])
async def test_the_accepted_one_of_two_responses_at_once_counts(
    store: Store, one: Process, other: Process, session: str, winner: str
) -> None:
    request_id, waiting = await one.ask(session)
    store.holding = asyncio.Event()
    order = (
        [(one, "here"), (other, "elsewhere")] if winner == "here" else [(other, "elsewhere"), (one, "here")]
    )
    # Both are in the store before either process knows what became of its own.
    arriving = [asyncio.create_task(process.receive(session, request_id, at=at)) for process, at in order]
    for _ in range(3):
        await asyncio.sleep(0)
    await one.requests.look()
    store.holding.set()
    assert await asyncio.gather(*arriving) == [True, False]
    assert await result_of(waiting) == {"at": winner}


async def test_a_response_whose_acceptance_was_lost_on_its_way_is_found_by_a_heartbeat(
    store: Store, one: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    store.loses_replies = True
    with pytest.raises(StoreUnavailable):
        await one.receive(session, request_id, ok=1)
    await one.requests.look()
    assert await result_of(waiting) == {"ok": 1}


async def test_a_response_after_the_timeout_is_refused(one: Process, session: str) -> None:
    request_id, waiting = await one.ask(session, timeout=0.001)
    with pytest.raises(TimedOut):
        await waiting
    assert not await one.receive(session, request_id, ok=1)
    assert (await one.said.get())["method"] == "notifications/cancelled"


async def test_a_response_to_a_request_that_was_given_up_a_moment_ago_is_refused(
    one: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert one.tasks, "the store still has the request"
    assert not await one.receive(session, request_id, ok=1)


async def test_a_response_for_a_node_that_is_dead_is_refused_and_does_not_count_should_it_come_back(
    one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    other.dead.add(one.node.id)
    assert not await other.receive(session, request_id, ok=1)
    await one.requests.look()
    with pytest.raises(TimedOut):  # at once: nobody can answer any more
        await asyncio.wait_for(waiting, BOUND)
    assert (await one.said.get())["method"] == "notifications/cancelled"


async def test_a_response_counts_if_the_node_that_seems_dead_wakes_up_and_reads_it_first(
    one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    other.dead.add(one.node.id)
    other.meanwhile = one.requests.look
    assert await other.receive(session, request_id, ok=1)
    assert await result_of(waiting) == {"ok": 1}


async def test_a_response_that_counted_is_not_refused_when_its_request_is_over_at_once(
    one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)

    async def wake_up() -> None:
        await one.requests.look()
        await waiting
        await one.settle()

    other.dead.add(one.node.id)
    other.meanwhile = wake_up
    assert await other.receive(session, request_id, ok=1)
    assert not await other.receive(session, request_id, ok=2)


async def test_a_request_that_the_store_has_lost_is_not_waited_for(
    store: Store, one: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    await store.run(requests.withdraw(session, request_id, kept_ms=60_000))
    await one.requests.look()
    with pytest.raises(TimedOut):
        await asyncio.wait_for(waiting, BOUND)


async def test_a_heartbeat_leaves_alone_a_request_that_is_being_registered(
    store: Store, one: Process, session: str
) -> None:
    store.before_registering = one.requests.look
    request_id, waiting = await one.ask(session)
    assert await one.receive(session, request_id, ok=1)
    assert await result_of(waiting) == {"ok": 1}


async def test_a_response_to_a_request_that_was_cancelled_is_refused_by_every_process(
    one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await one.said.get())["method"] == "notifications/cancelled"
    await one.settle()
    assert not await other.receive(session, request_id, ok=1)


async def test_a_handler_that_asks_after_the_session_ended_does_not_wait(
    harness: Harness, one: Process
) -> None:
    session = await harness.open()
    await harness.store.run(sessions.end(session, principal=None, reason="deleted"))
    asking = one.requests.send(session, ClientRequest(method="ping", params=None), one.said.put)
    with pytest.raises(SessionEnded):
        await asyncio.wait_for(asking, BOUND)
    assert one.said.empty()


async def test_progress_from_elsewhere_is_passed_on_before_the_response(
    store: Store, one: Process, other: Process, session: str
) -> None:
    heard: list[Any] = []

    async def hear(params: Mapping[str, Any]) -> None:
        heard.append((params["progress"], waiting.done()))

    request_id, waiting = await one.ask(session, on_progress=hear)
    await other.requests.progress(session, {"progressToken": request_id, "progress": 1})
    assert await one.receive(session, request_id, ok=1)
    assert await result_of(waiting) == {"ok": 1}
    await one.settle()
    assert heard == [(1, False)]


async def test_the_end_of_a_session_ends_the_waiting(one: Process, session: str) -> None:
    _, waiting = await one.ask(session)
    one.requests.end(session)
    with pytest.raises(SessionEnded):
        await asyncio.wait_for(waiting, BOUND)
