"""When a server is doubted, what a probe finds, and what follows: with probes that a test answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections import breaker as breakers
from mcp_sessions.connections.breaker import Breaker

#: Seconds after an answer in which nobody doubts, and until a refusal is slow.
PAUSE, SLOW = 0.5, 0.1
REFUSED = RedisConnectionError("refused")


class Probes:
    """Outcomes of probes, one after the other: an error, None for an answer, or what is called first."""

    def __init__(self, *outcomes: Exception | Callable[[], None] | None) -> None:
        self.outcomes = list(outcomes)
        self.made = 0
        self.states: list[bool] = []
        self.opened = self.answered = 0
        self.breaker = Breaker(self.probe, seconds=2, opened=self.open, answered=self.answer)

    async def probe(self) -> None:
        self.made += 1
        self.states.append(self.breaker.is_open)
        outcome = self.outcomes.pop(0)
        if callable(outcome):
            outcome()
            raise REFUSED
        if outcome is not None:
            raise outcome

    def open(self) -> None:
        self.opened += 1
        assert self.breaker.is_open

    def answer(self) -> None:
        self.answered += 1

    async def over(self) -> None:
        """Wait until it is known."""
        while self.breaker._probing is not None:
            await asyncio.sleep(0)

    def told(self) -> tuple[int, int, int]:
        assert not self.breaker.is_open
        return self.made, self.opened, self.answered


class Clock:
    """The loop's, moved by hand: nothing that waits waits longer for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ahead = 0.0
        self._time = loop.time

    def __call__(self) -> float:
        return self._time() + self.ahead

    def stop_at(self, now: float) -> None:
        self._time = lambda: now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    loop = asyncio.get_running_loop()
    made = Clock(loop)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", made)
        yield made


@pytest.fixture
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers, "PAUSE", 0.0)


@pytest.mark.parametrize("outcome", [None, ResponseError("loading")])
async def test_an_answer_ends_the_doubt_if_only_with_an_error(outcome: Exception | None) -> None:
    probes = Probes(outcome)
    probes.breaker.doubt()
    probes.breaker.doubt()
    await probes.over()
    assert probes.told() == (1, 0, 1)


async def test_a_quick_refusal_is_asked_about_once_more_and_is_as_good_as_an_answer() -> None:
    for outcomes in ((REFUSED, None), (REFUSED, REFUSED)):
        probes = Probes(*outcomes)
        probes.breaker.doubt()
        await probes.over()
        assert probes.told() == (2, 0, 1)


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("late", [TimeoutError("late"), RedisTimeoutError("late")])
async def test_without_an_answer_it_is_open_until_there_is_one(late: Exception) -> None:
    probes = Probes(late, late, REFUSED, None)
    probes.breaker.doubt()
    await probes.over()
    assert probes.told() == (4, 1, 1)
    assert probes.states == [False, True, True, True], "while it is open, a refusal is no answer"


@pytest.mark.usefixtures("_without_pauses")
async def test_a_refusal_that_took_long_is_none(clock: Clock) -> None:
    def slowly() -> None:
        clock.ahead += SLOW + 0.01

    probes = Probes(slowly, None)
    probes.breaker.doubt()
    await probes.over()
    assert probes.told() == (2, 1, 1)
    assert probes.states == [False, True]


@pytest.mark.parametrize("begun", [0.25, 1_000.0])
async def test_after_an_answer_nobody_doubts_for_a_moment(clock: Clock, begun: float) -> None:
    """At any time after the machine has started."""
    clock.stop_at(begun)
    probes = Probes(None, None)
    for ahead, made in ((0.0, 1), (PAUSE - 0.125, 1), (0.125, 2)):
        clock.ahead += ahead
        probes.breaker.doubt()
        await probes.over()
        assert probes.made == made


async def test_a_probe_has_half_a_second_before_nobody_waits_and_so_has_the_next_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.stop_at(1_000.0)
    probes = Probes(TimeoutError("late"), None)
    loop, sleep = asyncio.get_running_loop(), asyncio.sleep
    slept: list[float] = []

    async def pause(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    with mock.patch.object(loop, "call_later") as later, monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", pause)
        probes.breaker.doubt()
        async with asyncio.timeout(10):
            while probes.breaker._probing is not None:
                await sleep(0)
    assert later.call_args_list == [mock.call(0.5, probes.breaker._open)] * 2
    assert later.return_value.cancel.call_count == 2
    assert slept == [0.5]


async def test_a_probe_that_hangs_is_not_waited_for_beyond_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breakers, "PATIENCE", 0.0)
    opened = asyncio.Event()

    async def hang() -> None:
        await asyncio.Event().wait()

    breaker = Breaker(hang, seconds=60, opened=opened.set, answered=opened.clear)
    breaker.doubt()
    async with asyncio.timeout(10):
        await opened.wait()
    states = [breaker.is_open]
    await breaker.aclose()
    assert opened.is_set(), "nothing was answered"
    assert [*states, breaker.is_open] == [True, False]
    await breaker.aclose()


@pytest.mark.usefixtures("_without_pauses")
async def test_a_probe_has_so_many_seconds() -> None:
    made = 0

    async def hang_once() -> None:
        nonlocal made
        made += 1
        if made == 1:
            await asyncio.Event().wait()

    told: list[str] = []
    breaker = Breaker(
        hang_once, seconds=0.01, opened=lambda: told.append("open"), answered=lambda: told.append("answered")
    )
    breaker.doubt()
    async with asyncio.timeout(10):
        while "answered" not in told:
            await asyncio.sleep(0)
    assert (told, made) == (["open", "answered"], 2)
