"""Looks at whether the credentials of open streams are still good, one at a time, as a test has them."""

import asyncio
import logging
from collections.abc import Collection
from types import SimpleNamespace

import pytest

from mcp_sessions.authentication import recheck
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import AuthenticationUnavailable


class Looks:
    """In the place of the pauses between two looks: each ends when a test says so."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self._over.wait()
        self._over.clear()

    async def look(self) -> None:
        """Let all who wait look once."""
        self._over.set()
        for _ in range(5):
            await asyncio.sleep(0)


class Source:
    """Knows whose credentials are bad."""

    def __init__(self, seconds: float | None = 7.0) -> None:
        self.recheck_seconds = seconds
        self.bad: set[str] = set()
        self.failure: Exception | None = None
        self.asked: list[list[str]] = []

    async def still_good(self, identities: Collection[Identity]) -> list[Identity]:
        self.asked.append([each.principal for each in identities])
        if self.failure is not None:
            raise self.failure
        return [each for each in identities if each.principal not in self.bad]


@pytest.fixture
async def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    plays = SimpleNamespace(
        sleep=looks.sleep, create_task=asyncio.create_task, get_running_loop=asyncio.get_running_loop
    )
    monkeypatch.setattr(recheck, "asyncio", plays)
    return looks


def watched(source: Source) -> recheck._Watch | None:
    return recheck._watches.get(asyncio.get_running_loop(), {}).get(source)


async def test_one_task_looks_at_all_streams_of_a_source_for_as_long_as_there_are_any(looks: Looks) -> None:
    source, ended = Source(), list[str]()

    def stream(name: str) -> recheck.End:
        return lambda: ended.append(name)

    ann, bob, eve = (Identity(principal=name, source=source) for name in ("ann", "bob", "eve"))
    with recheck.ended_with(ann, stream("ann")):
        with recheck.ended_with(bob, stream("bob")), recheck.ended_with(ann, stream("ann's other")):
            await looks.look()
            source.bad = {"bob"}
            await looks.look()
        assert ended == ["bob"]
        watch = watched(source)
        assert watch is not None
        task = watch._task
        assert task is not None
        source.bad = {"ann"}
        await looks.look()
    assert (ended, source.asked) == (["bob", "ann"], [["ann", "bob", "ann"]] * 2 + [["ann"]])
    assert set(looks.pauses) == {7.0}
    assert len(looks.pauses) == 4, "there was one task"
    await asyncio.wait([task])
    assert (task.cancelled(), watch._task, watch._open) == (True, None, {})
    with recheck.ended_with(eve, stream("eve")):
        assert watched(source) is watch
        await asyncio.sleep(0)
        source.bad = {"eve"}
        await looks.look()
    assert ended[2:] == ["eve"]


async def test_what_cannot_be_found_out_ends_nothing_and_the_next_look_comes(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    source, ended = Source(), list[str]()
    caplog.set_level(logging.INFO, recheck.__name__)
    with recheck.ended_with(Identity(principal="ann", source=source), lambda: ended.append("ann")):
        await asyncio.sleep(0)
        source.bad = {"ann"}
        for source.failure in (AuthenticationUnavailable("away"), ValueError("a mistake")):
            await looks.look()
        assert ended == []
        source.failure = None
        await looks.look()
    assert (ended, len(source.asked)) == (["ann"], 3)
    said = [(record.levelno, record.exc_info is not None) for record in caplog.records]
    assert said == [(logging.INFO, False), (logging.ERROR, True)]


async def test_nobody_looks_where_there_is_nothing_to_find_out(looks: Looks) -> None:
    for source in (None, Source(None)):
        with recheck.ended_with(Identity(principal="ann", source=source), lambda: None):
            await looks.look()
            assert source is None or watched(source) is None
    assert looks.pauses == []
