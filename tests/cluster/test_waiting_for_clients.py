"""How long a request to a client is waited for, and how what the client says reaches the process that waits."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_sessions.cluster.client_requests import SessionEnded, TimedOut
from mcp_sessions.cluster.notifications import ReplyArrived
from mcp_sessions.store.calls import requests
from tests.cluster.processes import BOUND, Process, Store


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_request_waits_as_long_as_the_endpoint_says_unless_the_handler_says_it(
    store: Store, session: str
) -> None:
    options: dict[str, Any]
    for default, options in ((0, {}), (1_000, {"timeout": 0})):
        _, waiting = await Process(store, request_timeout=default).ask(session, **options)
        with pytest.raises(TimedOut):
            await asyncio.wait_for(waiting, BOUND)
    patient = Process(store, request_timeout=1_000)
    request_id, waiting = await patient.ask(session)
    await turns()
    assert not waiting.done()
    assert await patient.receive(session, request_id, ok=1)
    assert (await waiting).result == {"ok": 1}
    await patient.settle()


async def test_the_store_keeps_a_request_as_long_as_a_stream(store: Store, session: str) -> None:
    one = Process(store, stream_ttl=40)
    request_id, waiting = await one.ask(session)
    await one.requests.look()
    assert await one.receive(session, request_id, ok=1)
    await waiting
    await one.settle()
    kept = [
        (call.script, call.arguments[-1])
        for call in store.calls
        if call.script in (requests.REGISTER, requests.REPLIES, requests.WITHDRAW)
    ]
    assert kept == [(each, 40_000) for each in (requests.REGISTER, requests.REPLIES, requests.WITHDRAW)]


async def test_a_response_of_a_session_that_has_just_ended_is_refused(one: Process, session: str) -> None:
    request_id, waiting = await one.ask(session)
    one.requests.end(session)
    assert not await one.receive(session, request_id, ok=1)
    with pytest.raises(SessionEnded):
        await asyncio.wait_for(waiting, BOUND)


async def test_the_process_that_waits_is_told_of_a_response_and_reads_it(
    one: Process, other: Process, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(other.node, "notify", lambda *what: told.append(what))
    request_id, waiting = await one.ask(session)
    assert await other.receive(session, request_id, ok=1)
    assert told == [(one.node.id, ReplyArrived(fingerprint=session, request_id=request_id))]
    one.requests.hear(session, "q" + 16 * "0")
    one.requests.hear("e" * 64, request_id)
    assert not one.tasks, "nobody waits for those"
    one.requests.hear(session, request_id)
    assert (await asyncio.wait_for(waiting, BOUND)).result == {"ok": 1}
    assert not await other.receive(session, request_id, ok=2)
    assert len(told) == 1


@pytest.mark.parametrize("newer", [False, True], ids=["the same", "an older one"])
async def test_progress_that_is_read_twice_at_once_is_passed_on_once(
    store: Store, one: Process, session: str, newer: bool
) -> None:
    heard: list[Any] = []

    async def hear(params: Mapping[str, Any]) -> None:
        heard.append(params["progress"])

    request_id, waiting = await one.ask(session, on_progress=hear)
    await one.requests.progress(session, {"progressToken": request_id, "progress": 1})
    store.slow_readers = [asyncio.Event(), asyncio.Event()]
    first_read, second_read = store.slow_readers
    first = asyncio.create_task(one.requests.look())
    await turns()
    if newer:
        await one.requests.progress(session, {"progressToken": request_id, "progress": 2})
    second = asyncio.create_task(one.requests.look())
    await turns()
    assert store.slow_readers == []
    second_read.set()
    await second
    first_read.set()
    await first
    await one.requests.look()
    await turns()
    assert heard == ([1, 2] if newer else [1])
    assert await one.receive(session, request_id, ok=1)
    await waiting
    await one.settle()
    assert heard == ([1, 2] if newer else [1])
