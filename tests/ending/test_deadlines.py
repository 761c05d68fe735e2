"""Ends in an event loop that serves the endpoint: by the client, at the maximum age, and those of killed processes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings

from mcp_sessions import conf, ending
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import Notification, SessionsEnded
from mcp_sessions.ending import aend_session, end_sessions, finish_endings
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.session import Session
from mcp_sessions.store.calls import endings
from mcp_sessions.store.calls import sessions as session_calls
from mcp_sessions.store.factory import store_for
from mcp_sessions.sweeping import Deadlines
from tests.support.sessions import Opened

BOUND = 10


class Serving:
    """A node that holds sessions, and what it was told."""

    def __init__(self, *held: str) -> None:
        self.told: list[Notification] = []
        self.held = set(held)
        self.tasks: list[asyncio.Task[None]] = []
        store = store_for("default")
        self.node = Node(store, hear=self._hear, on_beat=self._beat, pause=lambda: 1)
        self.deadlines = Deadlines(
            "default",
            self.node,
            is_held=self.held.__contains__,
            horizon=lambda: 600,
            spawn=lambda work: self.tasks.append(asyncio.create_task(work)),
        )

    def _hear(self, notification: Notification, _: str) -> None:
        self.told.append(notification)

    async def _beat(self) -> None:
        """These nodes do not start."""

    async def end_of(self, session: Session) -> None:
        """Wait until this node is told of it."""
        async with asyncio.timeout(BOUND):
            while SessionsEnded(fingerprints=(session.fingerprint,)) not in self.told:
                await asyncio.sleep(0.01)
            await asyncio.gather(*self.tasks)


async def opened() -> Session:
    """A session as its last touch found it."""
    made, limits, store = Opened(), conf.endpoint("default").limits, store_for("default")
    await store.run(
        session_calls.create(
            made.fingerprint, principal=made.principal, handshake=made.handshake, limits=limits
        )
    )
    session = await store.run(session_calls.touch(made.fingerprint, principal=made.principal, limits=limits))
    assert session is not None
    return session


@pytest.fixture(params=["redis", "memory"])
async def serving(request: pytest.FixtureRequest, settings: LazySettings) -> AsyncIterator[None]:
    """Closes what the endpoint opens in this event loop."""
    if request.param == "memory":
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    yield
    await store_for("default").aclose()


@pytest.fixture
def aging(serving: None, settings: LazySettings) -> None:
    """Sessions live for a moment."""
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "MAX_AGE": 1}}


@pytest.mark.usefixtures("aging")
async def test_exactly_one_of_the_nodes_that_hold_a_session_ends_it_at_its_maximum_age(
    signals: list[Any], log: Callable[[], list[str]]
) -> None:
    session = await opened()
    nodes = [Serving(session.fingerprint) for _ in range(3)]
    for node in nodes:
        node.deadlines.watch(session)

    for node in nodes:
        await node.end_of(session)

    assert time.time_ns() // 1_000_000 >= session.deadline_ms
    assert signals == [(Session, session.fingerprint, "default", "max_age")]
    assert log() == [f"Session {session.fingerprint[:12]} ended: max_age, by 'maximum age'."]
    assert await store_for("default").run(session_calls.get(session.fingerprint)) is None


@pytest.mark.usefixtures("aging")
async def test_a_session_with_nothing_open_expires_silently(signals: list[Any]) -> None:
    idle = await opened()
    held = await opened()
    node = Serving(held.fingerprint)
    for session in (idle, held):
        node.deadlines.watch(session)

    await node.end_of(held)

    assert [fingerprint for _, fingerprint, _, _ in signals] == [held.fingerprint]
    assert await store_for("default").run(session_calls.get(idle.fingerprint)) is None


@pytest.mark.usefixtures("aging")
async def test_a_session_that_its_client_ended_is_not_ended_again(signals: list[Any]) -> None:
    session = await opened()
    node = Serving(session.fingerprint)
    node.deadlines.watch(session)
    assert await aend_session(
        node.node, "default", session.fingerprint, reason="deleted", by="anonymous", principal="anonymous"
    )
    node.told.clear()

    await node.end_of(session)

    assert [reason for _, _, _, reason in signals] == ["deleted"]


@pytest.mark.usefixtures("aging")
async def test_the_deadline_that_the_store_gave_last_counts(signals: list[Any]) -> None:
    session = await opened()
    node = Serving(session.fingerprint)
    node.deadlines.watch(session._replace(last_activity_ms=session.deadline_ms - 300_000))
    node.deadlines.watch(session)
    node.deadlines.watch(session._replace(last_activity_ms=session.deadline_ms - 300_000))

    await node.end_of(session)

    assert len(signals) == 1


@pytest.mark.usefixtures("serving")
async def test_a_stranger_ends_nothing(signals: list[Any], log: Callable[[], list[str]]) -> None:
    session = await opened()
    node = Serving()
    ended = await aend_session(
        node.node, "default", session.fingerprint, reason="deleted", by="user:1", principal="user:1"
    )
    assert (ended, signals, log(), node.told) == (None, [], [], [])


@pytest.mark.usefixtures("serving")
async def test_its_client_ends_a_session(signals: list[Any], log: Callable[[], list[str]]) -> None:
    session = await opened()
    node = Serving()
    assert await aend_session(
        node.node, "default", session.fingerprint, reason="deleted", by="anonymous", principal="anonymous"
    )
    assert node.told == [SessionsEnded(fingerprints=(session.fingerprint,))]
    assert [reason for _, _, _, reason in signals] == ["deleted"]
    assert log() == [f"Session {session.fingerprint[:12]} ended: deleted, by 'anonymous'."]


@pytest.mark.usefixtures("serving")
async def test_an_end_that_is_interrupted_while_it_tells_the_others_has_sent_its_signal(
    signals: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, node, telling = await opened(), Serving(), asyncio.Event()

    async def tell(_: Notification) -> None:
        telling.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(node.node, "notify_others", tell)
    end = asyncio.create_task(
        aend_session(node.node, "default", session.fingerprint, reason="deleted", by="anonymous")
    )
    async with asyncio.timeout(BOUND):
        await telling.wait()
    end.cancel()
    await asyncio.gather(end, return_exceptions=True)

    assert [reason for _, _, _, reason in signals] == ["deleted"]


class Interrupted(BaseException):
    """Like a kill: nothing handles it."""


@pytest.mark.usefixtures("serving")
async def test_what_a_killed_process_began_to_end_is_finished_by_a_node(
    monkeypatch: pytest.MonkeyPatch, signals: list[Any], log: Callable[[], list[str]]
) -> None:
    opened_ = [await opened() for _ in range(3)]
    gone = [session.fingerprint for session in opened_]
    monkeypatch.setattr(endings, "OVERDUE_MS", 1)
    with (
        mock.patch.object(ending, "_log", side_effect=Interrupted),
        pytest.raises(Interrupted),
    ):
        await asyncio.to_thread(end_sessions, "default", gone, by="ann")
    assert signals == []

    node = Serving()
    async with asyncio.timeout(BOUND):
        while not signals:
            await finish_endings(node.node, "default")
    await finish_endings(node.node, "default")

    assert sorted(fingerprint for _, fingerprint, _, _ in signals) == sorted(gone)
    assert sorted(log()) == sorted(
        f"Session {each[:12]} ended: expired_by_operator, by 'ann'." for each in gone
    )
    [told] = node.told
    assert isinstance(told, SessionsEnded)
    assert sorted(told.fingerprints) == sorted(gone)


@pytest.mark.usefixtures("serving")
async def test_an_end_whose_reply_was_lost_is_announced(
    monkeypatch: pytest.MonkeyPatch, signals: list[Any], log: Callable[[], list[str]]
) -> None:
    session, node, tasks = await opened(), Serving(), []
    store = node.node.store
    run, lost = store.run, [True]

    async def lose_the_first(work: Any) -> Any:
        result = await run(work)
        if isinstance(result, Session) and lost.pop():
            lost.append(False)
            raise StoreUnavailable
        return result

    monkeypatch.setattr(node.node, "store", mock.Mock(wraps=store, run=lose_the_first))
    with pytest.raises(StoreUnavailable):
        await aend_session(
            node.node,
            "default",
            session.fingerprint,
            reason="deleted",
            by="anonymous",
            principal="anonymous",
            spawn=lambda work: tasks.append(asyncio.create_task(work)),
        )
    assert signals == []
    await asyncio.wait_for(asyncio.gather(*tasks), BOUND)

    assert [reason for _, _, _, reason in signals] == ["deleted"]
    assert log() == [f"Session {session.fingerprint[:12]} ended: deleted, by 'anonymous'."]
    assert node.told == [SessionsEnded(fingerprints=(session.fingerprint,))]
