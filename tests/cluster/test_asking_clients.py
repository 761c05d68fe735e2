"""What a request to a client says, and which of its answers and of its progress count."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_sessions.cluster.client_requests import ClientRequest, SessionEnded, TimedOut
from mcp_sessions.cluster.notifications import ReplyArrived
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import requests
from mcp_sessions.transport import jsonrpc
from tests.cluster.processes import BOUND, Process, Store
from tests.store.harness import Harness

#: Of the message of a client's progress.
KEPT_CHARS = 1_000


async def hear_nothing(_: Mapping[str, Any]) -> None:
    """A callback for progress."""


@pytest.mark.parametrize(
    ("params", "progress", "sent"),
    [
        (None, False, None),
        ({}, False, None),
        ({"x": 1}, False, {"x": 1}),
        (None, True, {"_meta": {"progressToken": "ID"}}),
        ({"x": 1, "_meta": None}, True, {"x": 1, "_meta": {"progressToken": "ID"}}),
        ({"_meta": {"a": 1}}, True, {"_meta": {"a": 1, "progressToken": "ID"}}),
        ({"_meta": {"a": 1}}, False, {"_meta": {"a": 1}}),
    ],
)
async def test_a_request_says_what_its_handler_wants_and_where_progress_goes(
    one: Process, session: str, params: Any, progress: bool, sent: Any
) -> None:
    given = json.dumps(params)
    request = ClientRequest(
        method="sampling/createMessage", params=params, on_progress=hear_nothing if progress else None
    )
    waiting = asyncio.create_task(one.requests.send(session, request, one.said.put))
    message = dict(await asyncio.wait_for(one.said.get(), BOUND))
    request_id = message.pop("id")
    expected = {"jsonrpc": "2.0", "method": "sampling/createMessage"}
    if sent is not None:
        expected["params"] = json.loads(json.dumps(sent).replace("ID", request_id))
    assert message == expected
    assert json.dumps(params) == given, "the handler's own object stays as it is"
    assert await one.receive(session, request_id)
    await waiting
    await one.settle()


async def test_a_client_that_answers_too_late_is_told_that_nobody_waits(one: Process, session: str) -> None:
    request_id, waiting = await one.ask(session, timeout=0.0)
    with pytest.raises(TimedOut):
        await asyncio.wait_for(waiting, BOUND)
    assert await one.said.get() == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": request_id, "reason": "nobody waits any more"},
    }


async def test_an_error_of_the_client_is_its_answer(one: Process, session: str) -> None:
    request_id, waiting = await one.ask(session)
    error = {"code": -1, "message": "no"}
    assert await one.requests.answer(session, jsonrpc.Reply(id=request_id, result=None, error=error))
    assert await waiting == jsonrpc.Reply(id=request_id, result=None, error=error)
    assert not one.requests._open, "nobody waits any more"


async def test_the_process_that_waits_is_told_of_progress(
    one: Process, other: Process, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, waiting = await one.ask(session, on_progress=hear_nothing)
    told: list[Any] = []
    monkeypatch.setattr(other.node, "notify", lambda *what: told.append(what))
    await other.requests.progress(session, {"progressToken": request_id, "progress": 1})
    assert told == [(one.node.id, ReplyArrived(fingerprint=session, request_id=request_id))]
    assert await one.receive(session, request_id)
    await waiting
    await one.settle()
    await other.requests.progress(session, {"progressToken": request_id, "progress": 2})
    assert len(told) == 1


async def test_a_request_of_another_session_is_not_answered_and_does_not_end(
    harness: Harness, one: Process, session: str
) -> None:
    another = await harness.open()
    request_id, waiting = await one.ask(session)
    assert not await one.receive(another, request_id, ok=1)
    for each in (another, "0" * 64, "f" * 64):
        one.requests.end(each)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await one.receive(session, request_id, ok=2)
    one.requests.end(session)
    assert (await waiting).result == {"ok": 2}, "it was answered before the session ended"


@pytest.mark.parametrize(
    "request_id", [1, "q", "q0123456789abcdef0", "x0123456789abcdef", "q0123456789abcdeg"]
)
async def test_what_is_no_id_of_ours_never_reaches_the_store(
    store: Store, one: Process, session: str, request_id: Any
) -> None:
    async def refuse(work: Any) -> Any:
        raise AssertionError(work)

    store.run = refuse  # type: ignore[method-assign]
    assert not await one.receive(session, request_id)
    await one.requests.progress(session, {"progressToken": request_id, "progress": 1})


async def test_each_progress_is_passed_on_once_and_in_order(
    one: Process, other: Process, session: str
) -> None:
    heard: list[Any] = []

    async def hear(params: Mapping[str, Any]) -> None:
        heard.append(params["progress"])

    request_id, waiting = await one.ask(session, on_progress=hear)
    for first, last in ((1, 2), (3, 3)):
        for number in range(first, last + 1):
            await other.requests.progress(session, {"progressToken": request_id, "progress": number})
        for _ in range(2):
            await one.requests.look()
            await one.settle()
        assert heard == list(range(1, last + 1))
    assert await one.receive(session, request_id, ok=1)
    assert (await waiting).result == {"ok": 1}
    await one.settle()
    assert heard == [1, 2, 3]


async def test_of_progress_only_what_the_protocol_has_is_kept_and_bounded(
    store: Store, one: Process, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    async def hear(params: Mapping[str, Any]) -> None:
        heard.append(params)

    request_id, waiting = await one.ask(session, on_progress=hear)
    said: list[dict[str, Any]] = [
        {"progress": 1, "total": 2.5, "message": "x" * (KEPT_CHARS + 1), "more": 1},
        {"progress": 2**63 - 1, "total": 2**63, "message": 7},
        {"progress": True, "total": None},
        {"progress": -(2**63), "message": "y"},
    ]
    for params in said:
        await one.requests.progress(session, {"progressToken": request_id, **params})
    await one.requests.look()
    await one.settle()
    assert heard == [
        {"progress": 1, "total": 2.5, "message": "x" * KEPT_CHARS},
        {"progress": 2**63 - 1},
        {},
        {"message": "y"},
    ]
    waiting.cancel()


async def test_an_outage_while_answers_are_looked_for_ends_no_waiting(
    store: Store, one: Process, other: Process, session: str
) -> None:
    request_id, waiting = await one.ask(session)
    assert await other.receive(session, request_id, ok=1)
    run = store.run

    async def away(work: Any) -> Any:
        raise StoreUnavailable("away")

    store.run = away  # type: ignore[method-assign]
    await one.requests.look()
    assert not waiting.done()
    store.run = run  # type: ignore[method-assign]
    await one.requests.look()
    assert (await waiting).result == {"ok": 1}


async def test_a_request_that_cannot_be_withdrawn_is_left_to_its_end(
    store: Store, one: Process, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    request_id, waiting = await one.ask(session)
    run = store.run

    async def away(work: Any) -> Any:
        if work.script is requests.WITHDRAW:
            raise StoreUnavailable("away")
        return await run(work)

    store.run = away  # type: ignore[method-assign]
    assert await one.receive(session, request_id, ok=1)
    assert (await waiting).result == {"ok": 1}
    await one.settle()
    assert "A request to a client is left to its timeout: away" in caplog.text


async def test_a_session_that_ends_refuses_all_who_wait_for_its_client(one: Process, session: str) -> None:
    asked = [(await one.ask(session))[1] for _ in range(2)]
    one.requests.end(session)
    one.requests.end(session)
    for waiting in asked:
        with pytest.raises(SessionEnded):
            await asyncio.wait_for(waiting, BOUND)
    assert one.said.empty(), "there is nobody to tell"
