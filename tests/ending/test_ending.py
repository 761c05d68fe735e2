"""The one way in which sessions end: what it costs, what is signalled and logged, and which nodes are notified."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ReadOnlyError

from mcp_sessions import conf, ending
from mcp_sessions.cluster.notifications import Notification, SessionsEnded, decode
from mcp_sessions.connections import sync_connections
from mcp_sessions.ending import end_session, end_sessions
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.session import Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import nodes as node_calls
from mcp_sessions.store.calls import queries
from mcp_sessions.store.calls import sessions as session_calls
from mcp_sessions.store.drivers import synchronous
from mcp_sessions.store.factory import store_for, sync_store_for
from tests.support.redis import RedisServer, run_server
from tests.support.sessions import Opened, open_sessions


def alive(session: Opened) -> bool:
    return sync_store_for("default").run(session_calls.get(session.fingerprint)) is not None


class Listening:
    """Nodes of this endpoint that hear through their inboxes."""

    def __init__(self, *nodes: str) -> None:
        self._nodes = nodes

    async def heard(self, act: Callable[[], Any]) -> dict[str, list[Notification]]:
        """What each node hears of an act, which runs in a thread, as in the admin."""
        streams = store_for("default")
        try:
            for node in self._nodes:
                await streams.run(node_calls.beat(node, about="{}", forget_after_ms=60_000))
            places = {node: (await streams.listen(node, after="0-0", block_ms=1))[0] for node in self._nodes}
            await asyncio.to_thread(act)
            return {node: await self._read(node, after) for node, after in places.items()}
        finally:
            await streams.aclose()

    async def _read(self, node: str, after: str) -> list[Notification]:
        _, encoded = await store_for("default").listen(node, after=after, block_ms=1)
        return [decode(each).notification for each in encoded]


@pytest.fixture
def round_trips() -> Iterator[list[int]]:
    """How many commands each round trip of the sync driver carried."""
    made: list[int] = []

    def counted(client: Any, commands: Sequence[Any]) -> list[Any]:
        made.append(len(commands))
        return sync_connections.execute(client, commands)

    with mock.patch.object(synchronous, "execute", counted):
        yield made


def test_a_hundred_sessions_cost_a_handful_of_round_trips(round_trips: list[int]) -> None:
    kept, first, *sessions = open_sessions([Opened(client=f"client {n % 3}") for n in range(102)])
    asyncio.run(streams_beat("a", "b"))
    end_sessions("default", [first.fingerprint])  # Redis knows the scripts from here on
    round_trips.clear()

    ended = end_sessions("default", [session.fingerprint for session in sessions])

    assert ended == {session.fingerprint for session in sessions}
    # The intention; the ends, six at a time; the indexes, ten at a time; the nodes; a notification for each; that
    # it is done, and how many they were.
    assert round_trips == [1, 17, 10, 1, 2, 2]
    assert not any(alive(session) for session in sessions)
    assert alive(kept)
    limits = conf.endpoint("default").limits
    assert (
        sync_store_for("default").run(queries.page(queries.Query(), offset=0, limit=1, limits=limits)).total
        == 1
    )


async def streams_beat(*nodes: str) -> None:
    streams = store_for("default")
    for node in nodes:
        await streams.run(node_calls.beat(node, about="{}", forget_after_ms=60_000))
    await streams.aclose()


def test_more_than_a_batch_is_several_batches(
    monkeypatch: pytest.MonkeyPatch, round_trips: list[int]
) -> None:
    monkeypatch.setattr(ending, "BATCH", 4)
    sessions = open_sessions([Opened() for _ in range(10)])
    assert len(end_sessions("default", [session.fingerprint for session in sessions])) == 10
    assert not any(alive(session) for session in sessions)


def test_every_node_hears_once_of_a_batch() -> None:
    sessions = open_sessions([Opened() for _ in range(3)])
    fingerprints = tuple(session.fingerprint for session in sessions)
    gone = Opened().fingerprint
    told = asyncio.run(Listening("a", "b").heard(lambda: end_sessions("default", (*fingerprints, gone))))
    assert told == {
        "a": [SessionsEnded(fingerprints=fingerprints)],
        "b": [SessionsEnded(fingerprints=fingerprints)],
    }


def test_nobody_hears_of_an_end_that_did_not_happen(signals: list[Any], log: Callable[[], list[str]]) -> None:
    fingerprint = Opened().fingerprint
    told = asyncio.run(Listening("a").heard(lambda: end_session("default", fingerprint)))
    assert (told, signals, log()) == ({"a": []}, [], [])


def test_each_end_of_a_batch_is_signalled_and_logged_once(
    signals: list[Any], log: Callable[[], list[str]]
) -> None:
    one, two, gone = open_sessions([Opened(), Opened(), Opened()])
    end_session("default", gone.fingerprint, by="somebody else")
    fingerprints = [each.fingerprint for each in (one, gone, two, one)]

    assert end_sessions("default", fingerprints, by="ada") == {one.fingerprint, two.fingerprint}

    assert signals[1:] == [
        (Session, each.fingerprint, "default", "expired_by_operator") for each in (one, two)
    ]
    assert log()[1:] == [
        f"Session {each.fingerprint[:12]} ended: expired_by_operator, by 'ada'." for each in (one, two)
    ]


def test_an_end_says_by_whom_and_why(log: Callable[[], list[str]]) -> None:
    [session] = open_sessions([Opened()])
    ended = end_session("default", session.fingerprint, reason="deleted", by="new\nline")
    assert ended is not None
    assert ended.fingerprint == session.fingerprint
    assert log() == [rf"Session {session.fingerprint[:12]} ended: deleted, by 'new\nline'."]


def test_one_that_fails_in_a_batch_hides_no_other(signals: list[Any], log: Callable[[], list[str]]) -> None:
    """As on a cluster, where one of the nodes refuses."""
    sessions = open_sessions([Opened() for _ in range(3)])

    def second_fails(client: Any, commands: Sequence[Any]) -> list[Any]:
        replies = sync_connections.execute(client, commands)
        if isinstance(replies[0], list) and len(replies[0]) == len(sessions):
            replies[0][1] = ReadOnlyError("You can't write against a read only replica.")
        return replies

    with mock.patch.object(synchronous, "execute", second_fails), pytest.raises(NotAllEnded) as raised:
        end_sessions("default", [session.fingerprint for session in sessions])

    ended = {sessions[0].fingerprint, sessions[2].fingerprint}
    assert raised.value.ended == ended
    assert {fingerprint for _, fingerprint, _, _ in signals} == ended
    assert len(log()) == 2


def test_what_ended_before_the_store_went_away_is_known(
    use: Callable[[RedisServer], None], monkeypatch: pytest.MonkeyPatch, signals: list[Any]
) -> None:
    monkeypatch.setattr(ending, "BATCH", 2)
    with run_server() as server:
        use(server)
        sessions = open_sessions([Opened() for _ in range(4)])
        session_ended.connect(stop := lambda **_: server.stop(), weak=False)
        try:
            with pytest.raises(NotAllEnded) as raised:
                end_sessions("default", [session.fingerprint for session in sessions])
        finally:
            session_ended.disconnect(stop)
    assert raised.value.ended == {session.fingerprint for session in sessions[:2]}
    assert [fingerprint for _, fingerprint, _, _ in signals] == [each.fingerprint for each in sessions[:2]]


def test_with_the_store_away_one_end_raises_and_says_nothing(
    use: Callable[[RedisServer], None], signals: list[Any]
) -> None:
    with run_server() as server:
        use(server)
        server.stop()
        with pytest.raises(StoreUnavailable):
            end_session("default", Opened().fingerprint)
    assert signals == []


def test_nobody_takes_over_what_is_ended_while_receivers_take_their_time(said: list[bool]) -> None:
    opened, going_on = open_sessions(Opened() for _ in range(3)), mock.Mock()
    ending.end_batch("default", [each.fingerprint for each in opened], by="ann", going_on=going_on)
    assert said == [True, True]
    assert going_on.call_count == 3
