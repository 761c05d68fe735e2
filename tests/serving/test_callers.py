"""Callers without a session: which requests are counted, how many callers at a time, and when that is written."""

import asyncio
import logging
from typing import Any

import pytest

from mcp_sessions.records import ANONYMOUS, record_fingerprint
from mcp_sessions.serving import callers as serving_callers
from mcp_sessions.serving.callers import Callers
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.reading import CALL_LENGTH
from tests.serving.contexts import Process


def meta(name: str, version: str = "1") -> dict[str, Any]:
    return {"io.modelcontextprotocol/clientInfo": {"name": name, "version": version}}


async def requests_of(process: Process, principal: str, name: str, version: str = "1") -> int | None:
    """How many requests the store has counted of a caller; None if it has no record."""
    fingerprint = record_fingerprint("caller", principal, name, version)
    found = await process.harness.store.run(sessions.get(fingerprint))
    return None if found is None else found.requests


async def test_each_caller_is_counted_with_its_last_call() -> None:
    process = Process()
    callers = Callers(process.context)
    for name, version, call in (("a", "1", "x"), ("a", "1", "y" * 200), ("a", "2", "z"), ("b", "1", "z")):
        callers.count("user:1", meta(name, version), call)
    await callers.write()
    counted = [await requests_of(process, "user:1", *which) for which in (("a", "1"), ("a", "2"), ("b", "1"))]
    assert counted == [2, 1, 1]
    found = await process.harness.store.run(sessions.get(record_fingerprint("caller", "user:1", "a", "1")))
    assert found is not None
    assert (found.last_call, found.handshake.kind, found.principal) == ("y" * CALL_LENGTH, "caller", "user:1")
    await callers.write()
    assert await requests_of(process, "user:1", "a") == 2, "once"
    callers.count("user:1", meta("a"), "x")
    await callers.write()
    assert await requests_of(process, "user:1", "a") == 3


@pytest.mark.parametrize(
    ("principal", "shared", "conf", "counts"),
    [
        ("user:1", True, {}, True),
        (ANONYMOUS, True, {}, False),
        ("user:1", False, {}, False),
        ("user:1", True, {"inventory": False}, False),
    ],
)
async def test_only_those_are_counted_whom_somebody_can_look_up(
    principal: str, shared: bool, conf: dict[str, Any], counts: bool
) -> None:
    process = Process(**conf)
    process.store.shared = shared
    callers = Callers(process.context)
    callers.count(principal, meta("a"), "x")
    await callers.write()
    assert await requests_of(process, principal, "a") == (1 if counts else None)


async def test_one_principal_does_not_take_the_places_of_all_and_known_callers_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_callers, "MOST_CALLERS", 3)
    monkeypatch.setattr(serving_callers, "MOST_CLIENTS", 2)
    process = Process()
    callers = Callers(process.context)
    for principal, name in (("u1", "a"), ("u1", "b"), ("u1", "c"), ("u2", "a"), ("u3", "a"), ("u1", "a")):
        callers.count(principal, meta(name), "x")
    await callers.write()
    counted = {
        who: await requests_of(process, who[:2], who[2]) for who in ("u1a", "u1b", "u1c", "u2a", "u3a")
    }
    assert counted == {"u1a": 2, "u1b": 1, "u1c": None, "u2a": 1, "u3a": None}
    callers.count("u3", meta("a"), "x")
    await callers.write()
    assert await requests_of(process, "u3", "a") == 1, "after each write there is room"


async def test_a_principal_has_a_bounded_number_of_records(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    monkeypatch.setattr(serving_callers, "MOST_CLIENTS", 1)
    process = Process(max_sessions_per_principal=100)
    callers = Callers(process.context)
    for name in "ab":
        callers.count("user:1", meta(name), "x")
        await callers.write()
    assert [await requests_of(process, "user:1", name) for name in "ab"] == [1, None]
    assert "Principal 'user:1' has more than 1 clients." in caplog.text


async def test_they_are_written_a_while_after_the_first_and_dropped_if_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later: list[tuple[float, Any]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda seconds, act, **_: later.append((seconds, act)))
    process = Process()
    callers = Callers(process.context)
    for _ in range(2):
        callers.count("user:1", meta("a"), "x")
    [(seconds, due)] = later
    assert seconds == serving_callers.WRITE_SECONDS
    process.store.away = True
    await callers.write()
    process.store.away = False
    callers.count("user:1", meta("a"), "x")
    assert len(later) == 2
    due()
    await process.settle()
    assert await requests_of(process, "user:1", "a") == 1


async def test_a_caller_that_another_process_records_at_that_moment_is_counted_in_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process()
    here, there = Callers(process.context), Callers(process.context)
    for each in (here, there):
        each.count("user:1", meta("a"), "x")
    await there.write()
    run, asked = process.store.run, []

    async def not_yet_known(work: Any) -> Any:
        asked.append(work)
        return set() if len(asked) == 1 else await run(work)

    monkeypatch.setattr(process.store, "run", not_yet_known)
    await here.write()
    assert len(asked) == 3
    assert await requests_of(process, "user:1", "a") == 2


async def test_a_caller_whose_record_was_ended_is_recorded_again_with_what_it_can_do() -> None:
    process = Process()
    callers = Callers(process.context)
    can: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
    fingerprint = record_fingerprint("caller", "user:1", "a", "1")
    for _ in range(2):
        callers.count("user:1", {**meta("a"), **can}, "x")
        await callers.write()
        found = await process.harness.store.run(sessions.get(fingerprint))
        assert found is not None
        assert (found.requests, found.handshake.capabilities) == (1, {"elicitation": {}})
        await process.store.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
