"""Cancellations of requests that do not run here: every node hears of real ones, and invented ones flood no node."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from mcp_sessions.cluster.notifications import Cancelled, Notification
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving import cancellations
from mcp_sessions.serving.admission import name_of
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes
from mcp_sessions.testing import http_client, serving
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient

BOUND = 60
#: Invented ids, and how many clients of one session send them at the same time.
UNKNOWN = 2_000
AT_ONCE = 200


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    with endpoint(SERVER="tests.served.everything.server"):
        async with serving(), asyncio.timeout(BOUND), http_client() as http:
            yield http


@pytest.fixture
async def told(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> list[Cancelled]:
    """What the other nodes are told."""
    runtime: Runtime = await runtime_for("default")
    told: list[Cancelled] = []
    broadcast = runtime.context.node.broadcast

    async def listen(message: Notification) -> bool:
        if isinstance(message, Cancelled):
            told.append(message)
        return await broadcast(message)

    monkeypatch.setattr(runtime.context.node, "broadcast", listen)
    return told


def unknown(number: int | str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


async def send_many(http: httpx2.AsyncClient, client: RawClient, count: int) -> list[int]:
    """The statuses of so many cancellations of unknown ids."""
    room = asyncio.Semaphore(AT_ONCE)

    async def send(number: int) -> int:
        async with room:
            return (await post(http, client, unknown(f"unknown {number}"))).status_code

    return await asyncio.gather(*(send(number) for number in range(count)))


async def test_a_session_that_cancels_invented_ids_floods_nobody(
    http: httpx2.AsyncClient, told: list[Cancelled]
) -> None:
    client, other = await opened(http), await opened(http)
    began = asyncio.get_running_loop().time()
    statuses = await send_many(http, client, UNKNOWN)
    seconds = asyncio.get_running_loop().time() - began
    assert statuses.count(202) == 1_000, "as many as a session may run at a time"
    assert statuses.count(503) == UNKNOWN - 1_000
    assert len(told) <= seconds / cancellations.PAUSE_SECONDS + 2
    assert len({name for each in told for name in each.requests}) == 1_000
    refused = await post(http, client, unknown("one more"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    # Another session is not affected.
    assert (await post(http, other, unknown("hers"))).status_code == 202
    assert told[-1].requests == (name_of(other.fingerprint, "hers"),)


async def test_a_minute_later_a_session_may_cancel_again(
    http: httpx2.AsyncClient, told: list[Cancelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "WINDOW_SECONDS", 0.0)
    client = await opened(http)
    assert set(await send_many(http, client, 1_200)) == {202}
    assert told


async def test_many_cancellations_are_told_in_parts_and_reach_what_they_name(
    http: httpx2.AsyncClient, told: list[Cancelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "MOST_NAMED", 3)
    monkeypatch.setattr(cancellations, "PAUSE_SECONDS", 0.01)
    client = await opened(http)
    assert await send_many(http, client, 10) == [202] * 10
    assert {len(each.requests) for each in told} <= {1, 2, 3}
    named = {name for each in told for name in each.requests}
    assert named == {name_of(client.fingerprint, f"unknown {number}") for number in range(10)}


async def test_a_cancellation_that_the_store_did_not_take_gets_503_and_is_told_later(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = await runtime_for("default")
    store, client = runtime.context.store, await opened(http)
    run, away, posted = store.run, True, asyncio.Event()

    async def run_unless_away(work: Any, /) -> Any:
        broadcasts = isinstance(work, Call) and work.script is nodes.BROADCAST
        if broadcasts and away:
            raise StoreUnavailable("the primary of the namespace is away")
        result = await run(work)
        if broadcasts:
            posted.set()
        return result

    monkeypatch.setattr(store, "run", run_unless_away)
    refused = await post(http, client, unknown("elsewhere"))
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert await send_many(http, client, 20) == [503] * 20
    away = False
    await asyncio.wait_for(posted.wait(), 10)
    assert (await post(http, client, unknown("elsewhere"))).status_code == 202


async def test_a_node_that_is_told_cancels_what_it_runs_and_nothing_else(http: httpx2.AsyncClient) -> None:
    runtime = await runtime_for("default")
    client, other = await opened(http), await opened(http)
    calls = [
        one.request("tools/call", {"name": "ask_age", "arguments": {"name": "x"}}) for one in (client, other)
    ]
    answering = [
        asyncio.create_task(post(http, one, {**call, "id": "7"}))
        for one, call in zip((client, other), calls, strict=True)
    ]
    while len(list(runtime.admission)) < 2:
        await asyncio.sleep(0)
    named = (name_of("0" * 64, 7), name_of(client.fingerprint, 8), name_of(client.fingerprint, 7))
    runtime.inbox.hear(Cancelled(requests=named), "a broadcast")
    assert "-32800" in (await answering[0]).text
    assert not answering[1].done()
    runtime.admission.cancel(other.fingerprint, 7)
    await answering[1]
