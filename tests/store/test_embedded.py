"""Listening without Redis: who is woken by what, how much one call returns, and what is kept of who listened."""

import asyncio

import pytest

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers import embedded
from mcp_sessions.store.drivers.embedded import EmbeddedStore
from tests.store.harness import MINUTE, START, Harness, embedded_harness


@pytest.fixture
async def harness() -> Harness:
    made = embedded_harness()
    for node in "ab":
        await made.store.run(nodes.beat(node, about="{}", forget_after_ms=MINUTE))
    return made


def waiting(harness: Harness) -> list[int]:
    """How many wait for each inbox for which anybody waits."""
    assert isinstance(harness.store, EmbeddedStore)
    return sorted(map(len, harness.store._waiters.values()))


def listen(harness: Harness, node: str, *, block_ms: int = 20_000) -> "asyncio.Task[tuple[str, list[bytes]]]":
    work = harness.store.listen(node, after="0-0", block_ms=block_ms)
    return asyncio.create_task(work)  # type: ignore[arg-type] # a coroutine, there


async def test_all_who_wait_for_an_inbox_are_woken_and_nobody_else(harness: Harness) -> None:
    of_a, of_b = [listen(harness, "a") for _ in range(2)], listen(harness, "b")
    await asyncio.sleep(0)
    assert waiting(harness) == [1, 2]

    await harness.store.run(nodes.notify({"a": [b"ding"]}))

    async with asyncio.timeout(10):
        assert await asyncio.gather(*of_a) == [(f"{START}-0", [b"ding"])] * 2
    assert not of_b.done()
    assert waiting(harness) == [1]
    of_b.cancel()
    await asyncio.wait([of_b])
    assert waiting(harness) == []


async def test_whoever_waits_in_vain_goes_on_where_it_was(harness: Harness) -> None:
    assert await listen(harness, "a", block_ms=0) == ("0-0", [])
    await harness.store.run(nodes.notify({"a": [b"ding"]}))
    assert await harness.store.listen("a", after=f"{START}-0", block_ms=0) == (f"{START}-0", [])
    assert waiting(harness) == []


async def test_one_call_returns_so_many(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "BATCH", 2)
    await harness.store.run(nodes.notify({"a": [b"1", b"2", b"3"]}))
    after, found = await harness.store.listen("a", after="0-0", block_ms=0)
    assert (after, list(found)) == (f"{START}-1", [b"1", b"2"])
    assert await harness.store.listen("a", after=after, block_ms=0) == (f"{START}-2", [b"3"])


def test_a_listener_whose_loop_is_closed_is_passed_over() -> None:
    async def begin() -> Harness:
        made = embedded_harness()
        await made.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
        assert isinstance(made.store, EmbeddedStore)
        made.store._waiters[made.store.sync.inbox("a")] = [embedded._Waiter()]
        return made

    harness = asyncio.run(begin())
    harness.sync.run(nodes.notify({"a": [b"ding"]}))
    assert waiting(harness) == [1]
