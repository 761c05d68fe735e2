"""How long, and how often, a store that is away is asked again."""

import asyncio

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.streams.retry import GIVE_UP_SECONDS, retry_while_unavailable


class Store:
    """Is away for so many attempts; time passes only in pauses."""

    def __init__(self, attempts: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = attempts
        self.asked = 0
        self.pauses: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: sum(self.pauses))
        monkeypatch.setattr("mcp_sessions.streams.retry.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def ask(self) -> int:
        self.asked += 1
        if self.asked <= self.away:
            raise StoreUnavailable("away")
        return self.asked


async def test_the_pauses_grow_up_to_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(7, monkeypatch)
    assert await retry_while_unavailable(store.ask) == 8
    assert store.pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(
    ("seconds", "pauses"), [(0, []), (0.05, [0.05]), (0.149, [0.05]), (0.2, [0.05, 0.1])]
)
async def test_it_is_given_up_when_the_next_attempt_would_be_too_late(
    monkeypatch: pytest.MonkeyPatch, seconds: float, pauses: list[float]
) -> None:
    store = Store(100, monkeypatch)
    with pytest.raises(StoreUnavailable):
        await retry_while_unavailable(store.ask, seconds=seconds)
    assert store.pauses == pauses
    assert store.asked == len(pauses) + 1


async def test_by_default_it_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(1_000, monkeypatch)
    with pytest.raises(StoreUnavailable):
        await retry_while_unavailable(store.ask)
    assert GIVE_UP_SECONDS - 1 <= sum(store.pauses) <= GIVE_UP_SECONDS


async def test_what_is_not_the_stores_absence_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    store = Store(0, monkeypatch)
    with pytest.raises(ZeroDivisionError):
        await retry_while_unavailable(fail)
    assert store.pauses == []
