"""Who is the primary, as Sentinels say it: what they announce, how long a failover is waited for, who is believed."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from mcp_sessions.connections import sentinel as sentinels
from mcp_sessions.connections.sentinel import (
    PROMOTING,
    SWITCHED,
    Named,
    PrimaryConnection,
    PrimaryPool,
    Watch,
    named,
    newest,
)

OLD, NEW = ("old", 1), ("new", 2)
#: Seconds: after which every Sentinel has heard of a failover, of silence, and for a sign of life.
SETTLED, SILENCE, TIMEOUT = 10.0, 2.0, 0.5
STATE = {
    "config-epoch": "7",
    "ip": "old",
    "port": "6379",
    "flags": "master",
    "is_sdown": False,
    "is_odown": False,
}


def says(epoch: int, address: tuple[str, int], *, down: bool = False, failing: bool = False) -> Named:
    return Named(epoch, address, is_down=down, is_failing_over=failing)


class Asked:
    """A Sentinel that gives one answer after the other, the last one again and again."""

    def __init__(self, *answers: Named | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Named:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Watched(Watch):
    """A watch of Sentinels that a test made."""

    def __init__(self, *asked: Asked) -> None:
        self.changes = mock.AsyncMock()
        super().__init__(mock.Mock(sentinels=asked), "sessions", self.changes)

    async def _ask(self, sentinel: Any) -> Named:
        return sentinel()  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinels, "LOOK", 0.0)


def test_what_a_sentinel_replies_is_read() -> None:
    assert named(STATE) == says(7, ("old", 6379))
    for down in ("is_sdown", "is_odown"):
        assert named(STATE | {down: True}).is_down
    assert named(STATE | {"flags": "master,failover_in_progress"}).is_failing_over


@pytest.mark.parametrize(
    ("answers", "since", "asked", "believed"),
    [
        ([says(1, OLD)] * 2, SETTLED + 0.1, 3, True),
        ([says(1, OLD)] * 2, SETTLED, 3, False),
        ([says(1, OLD)] * 2, SETTLED + 0.1, 4, False),
        ([says(1, OLD)] * 3, SETTLED + 0.1, 4, True),
        ([says(1, OLD)], SETTLED + 0.1, 5, False),
    ],
)
def test_an_older_answer_counts_if_most_give_it_and_all_had_time(
    answers: Sequence[Named], since: float, asked: int, believed: bool
) -> None:
    found = newest(answers, known=says(2, NEW), since=since, asked=asked)
    assert found == (answers[0] if believed else None)


def test_of_answers_of_one_epoch_that_which_takes_it_for_alive_counts() -> None:
    answers = [says(1, OLD, down=True), says(1, NEW), says(1, OLD, down=True)]
    best = newest(answers, known=None, since=0, asked=3)
    assert best is not None
    assert best.address == NEW


async def test_another_primary_is_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mcp_sessions.store")
    host, port = OLD
    watch = Watched(Asked(says(1, OLD), says(2, (host, port)), says(3, NEW)))
    assert [await watch.primary() for _ in range(2)] == [OLD, OLD]
    watch.changes.assert_not_called()
    assert [await watch.primary() for _ in range(2)] == [NEW, NEW]
    watch.changes.assert_awaited_once_with()
    assert [record.getMessage() for record in caplog.records] == ["The primary of 'sessions' is new:2 now."]


async def test_callers_of_one_moment_share_a_look() -> None:
    asked = Asked(says(1, OLD))
    watch = Watched(asked)
    assert await asyncio.gather(*[watch.primary() for _ in range(5)]) == [OLD] * 5
    assert asked.asked == 1


async def test_a_look_that_fails_when_its_caller_has_gone_is_no_news() -> None:
    watch, logged = Watched(Asked(RedisConnectionError("refused"))), mock.Mock()
    asyncio.get_running_loop().set_exception_handler(logged)
    calling = asyncio.create_task(watch.primary())
    await asyncio.sleep(0)
    calling.cancel()
    assert watch._finding is not None
    await asyncio.wait([calling, watch._finding])
    watch._finding = None
    gc.collect()
    logged.assert_not_called()


async def test_a_sentinel_that_does_not_answer_leaves_it_to_the_others() -> None:
    refused = RedisConnectionError("refused")
    assert await Watched(Asked(refused), Asked(says(1, OLD))).primary() == OLD
    with pytest.raises(MasterNotFoundError, match="No Sentinel knows 'sessions'"):
        await Watched(Asked(refused)).primary()
    watch = Watched(Asked(says(1, OLD), refused))
    await watch.primary()
    with pytest.raises(MasterNotFoundError, match="No Sentinel knows"):
        await watch.primary()


async def test_a_primary_is_down_if_all_say_so_that_name_it() -> None:
    down, up, another = says(2, OLD, down=True), says(2, OLD), says(1, NEW)
    assert await Watched(Asked(down), Asked(up)).primary() == OLD
    for named_last, named_before in ((down, another), (says(2, NEW, down=True), says(1, OLD))):
        with pytest.raises(MasterNotFoundError, match="The primary of 'sessions' is down"):
            await Watched(Asked(named_last), Asked(named_before)).primary()


async def test_a_primary_that_is_known_stays_if_only_sentinels_answer_that_are_behind() -> None:
    watch = Watched(Asked(says(2, NEW), RedisConnectionError("refused")), Asked(says(1, OLD)))
    assert [await watch.primary() for _ in range(2)] == [NEW, NEW]


async def test_a_failover_is_waited_for_and_not_for_ever() -> None:
    """Three seconds, and again for the next one. Asking takes one here."""
    failing, over = says(1, OLD, failing=True), says(2, NEW)
    loop, asked, ahead = asyncio.get_running_loop(), Asked(failing, failing, over), 0.0
    watch = Watched(asked, Asked(says(1, OLD)))
    now = loop.time()

    async def ask(sentinel: Any) -> Named:
        nonlocal ahead
        ahead += sentinel is asked
        return sentinel()  # type: ignore[no-any-return]

    with (
        mock.patch.object(loop, "time", side_effect=lambda: now + ahead),
        mock.patch.object(watch, "_ask", ask),
    ):
        assert await watch.primary() == NEW
        assert asked.asked == 3
        again = says(2, NEW, failing=True)
        for answer, times in ((again, 5), (again, 1), (over, 1), (again, 5)):
            asked.asked, asked.answers = 0, [answer]
            assert await watch.primary() == NEW
            assert asked.asked == times


async def test_what_is_announced_of_the_service_is_heard_and_of_another_is_not() -> None:
    asked = Asked(says(1, OLD))
    watch = Watched(asked)
    await watch.primary()
    for channel, words in (
        (SWITCHED, "another old 1 new 2"),
        (PROMOTING, "slave new:2 new 2 @ another old 1"),
        (PROMOTING, "sessions"),
        (SWITCHED, "slave new:2 new 2 @ sessions old 1"),
        ("+tilt", "sessions old 1 new 2"),
    ):
        await watch._announced(asked, channel, words.split())  # type: ignore[arg-type]
    assert asked.asked == 1
    watch.changes.assert_not_called()
    await watch._announced(asked, PROMOTING, ["slave", "new:2", "new", "2", "@", "sessions", "old", "1"])  # type: ignore[arg-type]
    watch.changes.assert_awaited_once_with()
    for epoch, address, changes in ((1, NEW, 1), (2, NEW, 2), (2, OLD, 2), (3, NEW, 2)):
        asked.answers = [says(epoch, address)]
        await watch._announced(asked, SWITCHED, ["sessions", "old", "1", "new", "2"])  # type: ignore[arg-type]
        assert watch.changes.await_count == changes, "an answer that is no newer changes nothing"


class Channel:
    """A subscription with messages that a test put here; then it is silent."""

    def __init__(self, *messages: dict[str, Any] | None) -> None:
        self.messages = list(messages)
        self.waited: list[float] = []
        self.subscribed: tuple[str, ...] = ()
        self.pings = self.closed = 0

    async def subscribe(self, *channels: str) -> None:
        self.subscribed = channels

    async def get_message(self, **options: float) -> dict[str, Any] | None:
        self.waited.append(options["timeout"])
        return self.messages.pop(0) if self.messages else None

    async def ping(self) -> None:
        self.pings += 1

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_sentinel_is_heard_until_it_hangs() -> None:
    switched = {"type": "message", "channel": SWITCHED.encode(), "data": b"sessions old 1 new 2"}
    channel = Channel({"type": "subscribe", "channel": b"x", "data": 1}, switched, None, {"type": "pong"})
    asked: Any = Asked(says(1, OLD), says(2, NEW))
    asked.pubsub = lambda: channel
    watch = Watched(asked)
    with pytest.raises(TimeoutError, match="hangs"):
        await watch._hear(asked)
    assert channel.subscribed == (SWITCHED, PROMOTING)
    assert asked.asked == 2, "what was announced before it listened, and what is announced"
    watch.changes.assert_awaited_once_with()
    assert channel.waited == [SILENCE] * 3 + [TIMEOUT] + [SILENCE, TIMEOUT]
    assert (channel.pings, channel.closed) == (2, 1)


async def test_all_connections_to_the_primary_of_before_are_closed_also_those_in_use() -> None:
    pool = PrimaryPool("sessions", Sentinel([("127.0.0.1", 1)]))  # type: ignore[no-untyped-call] # redis-py's own
    with mock.patch.object(pool, "disconnect") as closed:
        await pool._watch._changed()
    closed.assert_awaited_once_with(inuse_connections=True)
    await pool.aclose()


@pytest.mark.parametrize(
    ("role", "is_primary"),
    [(b"master", True), ("master", True), (b"slave", False), (NoPermissionError("may not ask"), True)],
)
async def test_a_connection_stays_if_its_server_is_the_primary_or_may_not_be_asked(
    role: Any, is_primary: bool
) -> None:
    connection: Any = PrimaryConnection(connection_pool=mock.Mock())  # type: ignore[no-untyped-call]
    read = mock.AsyncMock(side_effect=[role] if isinstance(role, Exception) else [[role, 0]])
    with (
        mock.patch.object(SentinelManagedConnection, "connect_to") as connect,
        mock.patch.object(connection, "send_command") as send,
        mock.patch.object(connection, "read_response", read),
        mock.patch.object(connection, "disconnect") as disconnect,
        contextlib.nullcontext() if is_primary else pytest.raises(RedisConnectionError, match="old:1 is not"),
    ):
        await connection.connect_to(OLD)
    connect.assert_awaited_once_with(OLD)
    send.assert_awaited_once_with("ROLE")
    assert disconnect.await_count == (not is_primary)


async def test_what_most_sentinels_say_counts_long_after_the_last_failover() -> None:
    """They were set up anew. That they said the same meanwhile makes the failover no younger."""
    loop, asked = asyncio.get_running_loop(), Asked(says(3, NEW))
    watch, ahead, now = Watched(asked), 0.0, loop.time
    with mock.patch.object(loop, "time", side_effect=lambda: now() + ahead):
        for passed, answer, primary in (
            (0, says(3, NEW), NEW),
            (9, says(3, NEW), NEW),
            (2, says(2, OLD), OLD),
        ):
            ahead += passed
            asked.answers = [answer]
            assert await watch.primary() == primary
