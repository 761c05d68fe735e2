"""Listening to Sentinels: one that refuses is not asked all the time, and it ends when it is told to."""

import asyncio
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.connections import sentinel as sentinels
from mcp_sessions.connections.sentinel import Watch

BOUND = 10


class Channel:
    """A subscription whose first message is awaited as redis-py sends: with `asyncio.wait_for`."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.comes = asyncio.Event()
        self.messages = 0

    async def subscribe(self, *_: str) -> None:
        """Nothing is sent."""

    async def get_message(self, **_: Any) -> dict[str, str]:
        self.messages += 1
        if self.messages > 1:
            await asyncio.Event().wait()
        self.waits.set()
        await asyncio.wait_for(self.comes.wait(), BOUND)
        return {"type": "pong"}

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_it_ends_although_wait_for_loses_a_cancellation() -> None:
    channel, sentinel = Channel(), mock.AsyncMock()
    sentinel.pubsub = lambda: channel
    watch = Watch(mock.Mock(sentinels=[sentinel]), "sessions", mock.AsyncMock())
    with mock.patch.object(watch, "_ask_again"):
        watch.start()
        async with asyncio.timeout(BOUND):
            await channel.waits.wait()
            await asyncio.sleep(0)  # it waits for the message
            channel.comes.set()
            await asyncio.sleep(0)  # the message is there, and `wait_for` does not know it yet
            await watch.aclose()
    sentinel.aclose.assert_awaited_once()


async def test_a_sentinel_that_refuses_connections_is_asked_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twice = asyncio.Event()
    told: list[Any] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        told.append(seconds)
        await sleep(0)

    def refuse() -> None:
        told.append("refused")
        if told.count("refused") == 2:
            twice.set()
        raise RedisConnectionError("refused")

    monkeypatch.setattr(asyncio, "sleep", pause)
    sentinel = mock.AsyncMock()
    sentinel.pubsub = refuse
    watch = Watch(mock.Mock(sentinels=[sentinel]), "sessions", mock.AsyncMock())
    watch.start()
    watch.start()
    async with asyncio.timeout(BOUND):
        await twice.wait()
    await watch.aclose()
    assert told[:3] == ["refused", 0.5, "refused"]


STATE = {"config-epoch": "7", "port": "6379", "flags": "master", "is_sdown": False, "is_odown": False}


class Sentinel:
    """Answers after so many ticks; None: never."""

    def __init__(self, host: str, ticks: int | None) -> None:
        self.host, self.ticks = host, ticks
        self.given_up = False

    async def execute_command(self, *words: str) -> dict[str, Any]:
        assert words == ("SENTINEL MASTER", "sessions")
        try:
            if self.ticks is None:
                await asyncio.Event().wait()
            for _ in range(self.ticks or 0):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return STATE | {"ip": self.host}


async def answers_of(*asked: Sentinel) -> list[str]:
    """The hosts that they name."""
    watch = Watch(mock.Mock(sentinels=asked), "sessions", mock.AsyncMock())
    async with asyncio.timeout(BOUND):
        return sorted(answer.address[0] for answer in await watch._ask_all())


async def test_the_first_answer_is_waited_for_and_the_others_only_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sentinels, "GRACE", 0.0)
    asked = [Sentinel("hung", None), Sentinel("slow", 20), Sentinel("as slow", 20), Sentinel("slower", 200)]
    assert await answers_of(*asked) == ["as slow", "slow"]
    await asyncio.sleep(0)
    assert [each.given_up for each in asked] == [True, False, False, True]
    monkeypatch.setattr(sentinels, "GRACE", BOUND)
    assert await answers_of(*asked[1:]) == ["as slow", "slow", "slower"]


async def test_no_answer_is_waited_for_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinels, "TIMEOUT", 0.0)
    hung = Sentinel("hung", None)
    assert await answers_of(hung) == []
    assert hung.given_up


async def test_a_sentinel_has_half_a_second_and_a_tenth_once_another_has_answered() -> None:
    timeout, wait = asyncio.timeout, asyncio.wait
    each, together = mock.Mock(side_effect=timeout), mock.Mock(side_effect=wait)
    with mock.patch.object(asyncio, "timeout", each), mock.patch.object(asyncio, "wait", together):
        watch = Watch(mock.Mock(sentinels=[Sentinel("a", 1), Sentinel("b", 9)]), "sessions", mock.AsyncMock())
        assert len(await watch._ask_all()) == 2
    assert [call.args for call in each.mock_calls] == [(0.5,)] * 2
    assert [call.kwargs["timeout"] for call in together.mock_calls] == [None, 0.1]
