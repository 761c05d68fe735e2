"""Sessions whose time is over: one signal and one line in the log each, whichever nodes die or hang in the middle."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings

from mcp_sessions import conf, ending
from mcp_sessions.cluster.node import Node
from mcp_sessions.ending import finish_endings
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.session import Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import endings, indexes, sessions, sweeps
from mcp_sessions.store.drivers import Store
from mcp_sessions.store.factory import store_for
from mcp_sessions.sweeping import sweep
from tests.ending.test_deadlines import Interrupted, serving
from tests.support.sessions import Opened

__all__ = ["serving"]

BOUND = 10


@pytest.fixture(autouse=True, params=[1, 16])
def shards(request: pytest.FixtureRequest, settings: LazySettings, serving: None) -> None:
    entry = settings.MCP_SESSIONS["default"]
    settings.MCP_SESSIONS = {
        "default": {**entry, "IDLE_TTL": 0.3, "FIRST_TTL": 0.3, "INDEX_SHARDS": request.param}
    }


def a_node(store: Store | None = None) -> Node:
    async def nothing() -> None:
        """These nodes do not start."""

    return Node(store or store_for("default"), hear=lambda *_: None, on_beat=nothing, pause=lambda: 1)


async def open_some(count: int, **settings: Any) -> list[str]:
    limits, store, opened = conf.endpoint("default").limits, store_for("default"), []
    for n in range(count):
        made = Opened(principal=f"user:{n % 2}", **settings)
        create = sessions.create(
            made.fingerprint, principal=made.principal, handshake=made.handshake, limits=limits
        )
        opened.append((await store.run(create)).fingerprint)
    return opened


async def until(done: Callable[[], bool], *nodes: Node) -> None:
    """Let nodes sweep, and finish what others began, until something is the case."""
    async with asyncio.timeout(BOUND):
        while not done():
            for node in nodes:
                await finish_endings(node, "default")
                await sweep(node, "default")
            await asyncio.sleep(0.02)


async def count() -> int:
    return await store_for("default").run(indexes.count(limits=conf.endpoint("default").limits))


async def test_each_session_that_idled_out_is_signalled_once_by_one_of_two_nodes(
    signals: list[Any], log: Callable[[], list[str]]
) -> None:
    opened, nodes = await open_some(12), [a_node(), a_node()]

    async with asyncio.timeout(BOUND):
        while len(signals) < 12:
            await asyncio.gather(*[sweep(node, "default") for node in nodes])
            await asyncio.sleep(0.02)
    await asyncio.gather(*[sweep(node, "default") for node in nodes])

    assert sorted(signals) == sorted((Session, each, "default", "idle") for each in opened)
    assert sorted(log()) == sorted(f"Session {each[:12]} ended: idle, by 'time'." for each in opened)
    assert await count() == 0


async def test_a_session_that_reached_its_maximum_age_with_nothing_open_is_signalled(
    signals: list[Any], settings: LazySettings
) -> None:
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "MAX_AGE": 0.2}}
    [old] = await open_some(1)

    await until(lambda: bool(signals), a_node())

    assert signals == [(Session, old, "default", "max_age")]


async def test_receivers_get_what_the_session_was(signals: list[Any]) -> None:
    received: list[Session] = []

    def receive(session: Session, **_: Any) -> None:
        received.append(session)

    session_ended.connect(receive)
    try:
        [opened] = await open_some(1, client="cursor")
        await until(lambda: bool(received), a_node())
    finally:
        session_ended.disconnect(receive)

    assert [(each.fingerprint, each.principal, each.handshake.client_name) for each in received] == [
        (opened, "user:0", "cursor")
    ]


async def test_other_kinds_end_without_a_signal(signals: list[Any], log: Callable[[], list[str]]) -> None:
    await open_some(1, kind="handle", label="basket")
    node, limits = a_node(), conf.endpoint("default").limits

    async with asyncio.timeout(BOUND):
        while await store_for("default").run(indexes.count(limits=limits, kind="handle")):
            await until(lambda: True)
            await sweep(node, "default")

    assert (signals, log()) == ([], [])


@pytest.mark.parametrize(
    "killed",
    ["before the ends", "after the ends", "before the signals", "before it is forgotten", "at the end"],
)
async def test_what_a_node_was_sweeping_when_it_was_killed_is_finished_by_another(
    killed: str, signals: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "OVERDUE_MS", 1)
    monkeypatch.setattr(sweeps, "LEASE_MS", 100)
    opened, dead = await open_some(3), a_node()
    places = {
        "before the ends": mock.patch.object(sweeps, "sweep", side_effect=Interrupted),
        "after the ends": mock.patch.object(indexes, "unindex_all", side_effect=Interrupted),
        "before the signals": mock.patch.object(ending, "_log", side_effect=Interrupted),
        "before it is forgotten": mock.patch.object(sweeps, "forget", side_effect=Interrupted),
        "at the end": mock.patch.object(endings, "finish", side_effect=Interrupted),
    }
    with places[killed], pytest.raises(Interrupted):
        await until(lambda: False, dead)

    await until(lambda: {each for _, each, _, _ in signals} == set(opened), a_node())

    expected = [(Session, each, "default", "idle") for each in opened]
    if (
        killed == "before it is forgotten"
    ):  # the one that may come twice: it was announced, and nobody wrote that down
        assert set(signals) == set(expected)
    else:
        assert sorted(signals) == sorted(expected)
    async with asyncio.timeout(BOUND):
        while await count():
            await sweep(a_node(), "default")
            await asyncio.sleep(0.05)


async def test_a_sweep_whose_reply_was_lost_signals_each_session_once(
    signals: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "OVERDUE_MS", 1)
    opened, store = await open_some(3), store_for("default")
    lost = [True]

    async def lose_the_first(work: Any) -> Any:
        result = await store.run(work)
        if isinstance(result, sweeps.Swept) and result.ended and lost.pop():
            lost.append(False)
            raise StoreUnavailable
        return result

    node = a_node(mock.Mock(wraps=store, run=lose_the_first))
    with pytest.raises(StoreUnavailable):
        await until(lambda: False, node)
    assert signals == []
    await until(lambda: len(signals) == 3, a_node())

    assert sorted(signals) == sorted((Session, each, "default", "idle") for each in opened)


async def test_nobody_takes_over_what_is_swept_while_receivers_take_their_time(
    said: list[bool], settings: LazySettings
) -> None:
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "INDEX_SHARDS": 1}}
    await open_some(3)
    await until(lambda: len(said) == 2, a_node())
    assert said == [True, True]


async def test_nobody_takes_over_what_is_finished_while_receivers_take_their_time(
    said: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "OVERDUE_MS", 0)
    opened, node = await open_some(3), a_node()
    ending_ = endings.Ending(token="t", fingerprints=opened, reason="expired_by_operator", by="ann")
    await node.store.run(endings.begin(ending_))
    await finish_endings(node, "default")
    assert said == [True, True]
