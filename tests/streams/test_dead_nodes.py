"""When a node is taken for dead: after two missed heartbeats, and not if it is only late after an outage."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.streams.orphans import Orphans


class Watch:
    """A node that delivers one stream of another node, and has a heartbeat when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: Sequence[str] = ()
        self.reader: Any = SimpleNamespace(
            origin="other", is_current=True, event_stream=SimpleNamespace(open=True), fingerprint="f" * 64
        )
        self.ended: list[Any] = []
        self.node = SimpleNamespace(id="me", forgotten=0)
        context: Any = SimpleNamespace(
            node=self.node, spawn=self._end, store=SimpleNamespace(run=self._nodes)
        )
        readers: Any = [self.reader]
        #: Who runs the exchange when the list of nodes has come; None for who ran it before.
        self.runs_meanwhile: str | None = None
        self.orphans = Orphans(context, readers, run_again=Mock(), clock=lambda: self.now)

    async def _nodes(self, _: Any) -> list[Any]:
        if self.runs_meanwhile is not None:
            self.reader.origin = self.runs_meanwhile
        return [SimpleNamespace(id=node) for node in self.nodes]

    def _end(self, work: Any) -> None:
        work.close()
        self.ended.append(work)

    async def beats(self, count: int, *nodes: str) -> bool:
        """Have so many heartbeats that find these nodes; whether one of them ended the stream."""
        self.nodes = nodes
        for _ in range(count):
            self.now += HEARTBEAT_SECONDS
            await self.orphans.look()
        return bool(self.ended)


#: Heartbeats after which a node may take others for dead.
SETTLED = round(DEAD_AFTER_SECONDS / HEARTBEAT_SECONDS) + 1


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def test_a_node_that_two_heartbeats_miss_is_dead(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    assert not await watch.beats(1, "me")
    assert await watch.beats(1, "me")


@pytest.mark.parametrize("meanwhile", ["", "a newer one", "the newer one"])
async def test_a_stream_that_another_node_runs_meanwhile_is_not_ended(watch: Watch, meanwhile: str) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    assert not await watch.beats(1, "me")
    watch.runs_meanwhile = meanwhile
    assert not await watch.beats(1, "me")


async def test_a_node_that_one_heartbeat_misses_is_not_dead(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    assert not await watch.beats(1, "me")
    assert not await watch.beats(10, "me", "other")


async def test_a_process_that_has_just_started_takes_nobody_for_dead(watch: Watch) -> None:
    assert not await watch.beats(SETTLED - 1, "me")
    assert await watch.beats(1, "me")


async def test_after_an_outage_a_node_has_time_to_come_back(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    watch.now += HEARTBEAT_SECONDS * 1.5
    assert not await watch.beats(SETTLED - 1, "me")
    assert not await watch.beats(10, "me", "other")


async def test_a_node_that_does_not_come_back_after_an_outage_is_dead(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    watch.now += HEARTBEAT_SECONDS * 1.5
    assert not await watch.beats(SETTLED - 1, "me")
    assert await watch.beats(1, "me")


async def test_when_the_store_has_lost_data_a_node_has_time_to_come_back(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    watch.node.forgotten += 1
    assert not await watch.beats(SETTLED - 1, "me")
    assert not await watch.orphans.is_dead("other")
    assert await watch.beats(1, "me")
    assert await watch.orphans.is_dead("other")


async def test_a_store_that_does_not_know_this_node_says_of_nobody_that_it_is_dead(watch: Watch) -> None:
    await watch.beats(SETTLED, "me", "other")
    assert not await watch.beats(1)
    assert not await watch.orphans.is_dead("other")


async def test_a_heartbeat_that_is_one_late_is_no_outage(watch: Watch) -> None:
    assert not await watch.beats(SETTLED, "me", "other")
    watch.now += HEARTBEAT_SECONDS
    assert not await watch.beats(1, "me")
    assert await watch.beats(1, "me")


async def test_a_dead_node_waits_for_no_answer(watch: Watch) -> None:
    await watch.beats(SETTLED, "me", "other")
    assert not await watch.orphans.is_dead("other")
    await watch.beats(1, "me")
    assert await watch.orphans.is_dead("other")


async def test_a_node_that_came_after_the_last_heartbeat_is_not_dead(watch: Watch) -> None:
    await watch.beats(SETTLED, "me")
    watch.nodes = ("me", "other")
    assert not await watch.orphans.is_dead("other")


async def test_a_node_that_cannot_know_yet_takes_nobody_for_dead(watch: Watch) -> None:
    assert not await watch.orphans.is_dead("other")
    await watch.beats(SETTLED - 1, "me")
    assert not await watch.orphans.is_dead("other")
    await watch.beats(1, "me")
    watch.now += HEARTBEAT_SECONDS * 2.5
    assert not await watch.orphans.is_dead("other")
