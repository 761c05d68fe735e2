"""When sessions end by themselves: the timers of one node, and how much a heartbeat sweeps. No store is asked."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from pytest_django import Settings

from mcp_sessions import sweeping
from mcp_sessions.store.calls import endings, sweeps
from mcp_sessions.sweeping import Deadlines

FINGERPRINT = "f" * 64


class Watched:
    """A node's deadlines, of which nothing is ended."""

    def __init__(self, *held: str, horizon: float = 2.5) -> None:
        self.ended: list[Any] = []
        self.deadlines = Deadlines(
            "shop",
            mock.Mock(),
            is_held=held.__contains__,
            horizon=lambda: horizon,
            spawn=self._spawn,
        )

    def _spawn(self, work: Any) -> None:
        work.close()
        self.ended.append(work)

    @property
    def timers(self) -> dict[str, asyncio.TimerHandle]:
        return self.deadlines._timers


def a_session(left_ms: int, fingerprint: str = FINGERPRINT) -> Any:
    return SimpleNamespace(
        fingerprint=fingerprint, deadline_ms=1_000_000 + left_ms, last_activity_ms=1_000_000
    )


async def test_a_session_is_watched_from_the_horizon_on() -> None:
    watched = Watched()
    assert watched.deadlines.horizon_ms == 2500
    watched.deadlines.watch(a_session(2501), touched=100.0)
    assert watched.timers == {}
    watched.deadlines.watch(a_session(2500), touched=100.0)
    assert watched.timers[FINGERPRINT].when() == pytest.approx(102.502)
    now = asyncio.get_running_loop().time()
    watched.deadlines.watch(a_session(2500, "other"))
    assert now + 2.502 <= watched.timers["other"].when() < now + 60


async def test_of_several_looks_at_a_session_the_earliest_end_counts() -> None:
    watched = Watched()
    soon = asyncio.get_running_loop().time() + 100
    watched.deadlines.due_in(FINGERPRINT, 2, since=soon)
    first = watched.timers[FINGERPRINT]
    for later in (2, 3):
        watched.deadlines.due_in(FINGERPRINT, later, since=soon)
        assert watched.timers[FINGERPRINT] is first
    watched.deadlines.due_in(FINGERPRINT, 1, since=soon)
    assert first.cancelled()
    assert watched.timers[FINGERPRINT].when() == pytest.approx(soon + 1.002)


@pytest.mark.parametrize(("held", "ends"), [((FINGERPRINT,), 1), ((), 0)])
async def test_a_session_that_is_held_ends_at_its_deadline_and_no_timer_is_left(
    held: tuple[str, ...], ends: int
) -> None:
    watched = Watched(*held)
    watched.deadlines.due_in(FINGERPRINT, 0, since=0)
    async with asyncio.timeout(10):
        while watched.timers:
            await asyncio.sleep(0)
    assert len(watched.ended) == ends


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a sweep, which take no time."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(sweeping, "asyncio", SimpleNamespace(sleep=sleep))
    return taken


def a_node(*found: Any) -> Any:
    node = mock.Mock(id="n1")
    node.store.run = mock.AsyncMock(side_effect=found)
    return node


async def test_a_heartbeat_sweeps_so_much_of_each_shard_with_pauses(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, sleeps: list[float]
) -> None:
    settings.MCP_SESSIONS = {"shop": {"SERVER": "shop.mcp.server", "INDEX_SHARDS": 2}}
    some = mock.AsyncMock(return_value=True)
    monkeypatch.setattr(sweeping, "_sweep_some", some)
    batches = 20_000 // sweeps.BATCH
    await sweeping.sweep(a_node(*["found"] * batches, None), "shop")
    homes = [call.args[2] for call in some.await_args_list]
    assert homes == homes[:1] * batches, "there was nothing in the second shard"
    assert sleeps == [0.005] * batches
    some.return_value = False
    some.reset_mock()
    await sweeping.sweep(a_node("found", "found"), "shop")
    assert len({call.args[2] for call in some.await_args_list}) == some.await_count == 2


@pytest.mark.parametrize(
    ("size", "lost", "foreign", "complete", "goes_on"),
    [
        (sweeps.BATCH, (), (), True, True),
        (sweeps.BATCH, ("l",), (), True, True),
        (sweeps.BATCH - 1, (), (), True, False),
        (sweeps.BATCH, (), ("f",), True, False),
        (sweeps.BATCH, (), (), False, False),
    ],
)
@pytest.mark.parametrize("kind", ["session", "handle"])
async def test_a_sweep_goes_on_while_batches_are_full_and_can_be_ended(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    size: int,
    lost: Any,
    foreign: Any,
    *,
    complete: bool,
    goes_on: bool,
) -> None:
    swept = SimpleNamespace(lost=lost, foreign=foreign, complete=complete)
    forgotten = mock.AsyncMock()
    monkeypatch.setattr(sweeping, "end_over", mock.AsyncMock(return_value=swept))
    monkeypatch.setattr(sweeping, "forget", forgotten)
    for name in ("drop", "leave"):
        monkeypatch.setattr(sweeps, name, mock.Mock(return_value=name))
    monkeypatch.setattr(endings, "begin", lambda ending: ("begin", ending.reason, len(ending.fingerprints)))
    node = a_node(*[None] * 3)
    found: Any = SimpleNamespace(fingerprints={kind: ["x"] * size}, now_ms=7)
    assert await sweeping._sweep_some(node, "shop", "home", found) is goes_on
    expected: list[Any] = [("begin", "over", size)] if kind == "session" else []
    expected += ["drop"] if lost else []
    expected += ["leave"] if foreign else []
    assert [call.args[0] for call in node.store.run.await_args_list] == expected
    assert forgotten.await_count == int(bool(lost) and kind == "session")
