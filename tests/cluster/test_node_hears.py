"""What a node asks of the store, and what it hears in which order."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from mcp_sessions.cluster import node as cluster_node
from mcp_sessions.cluster.node import BLOCK_MS, DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.cluster.notifications import encode
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.embedded import EmbeddedStore
from tests.cluster.hearing import Hearing, Store, announced, started
from tests.docs import markdown

#: Seconds between heartbeats of a node that has none while a test runs.
SILENT = 3_600
NOW = 1_800_000_000_000


def test_heartbeats_are_as_often_as_the_documentation_says() -> None:
    guarantees, tools = (" ".join(markdown.read(page).split()) for page in ("guarantees.md", "tools.md"))
    often = {4.0: "four"}[HEARTBEAT_SECONDS]
    assert f"with its next heartbeat, at most {often} seconds later" in guarantees
    assert f"for more than {DEAD_AFTER_SECONDS:g} seconds sends no heartbeat" in tools


async def test_an_inbox_is_read_on_from_where_it_was_read_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_node, "PAUSE_SECONDS", 0)
    store = Store()
    store.inbox = [[encode(announced("first"))], StoreUnavailable("away"), [], [encode(announced("second"))]]
    async with started(store, pause=SILENT) as hearing:
        await hearing.until(lambda: len(store.listened) == 5)
        assert (hearing.heard, hearing.names) == (["first", "second"], ["", ""])
        own = hearing.node.id
    assert store.listened == [(own, after, BLOCK_MS) for after in ("0-0", "1", "1", "3", "4")]


async def test_what_comes_before_a_new_node_first_reads_its_inbox_is_heard() -> None:
    store = Store()
    hearing = Hearing(store, pause=SILENT)
    await hearing.node.start()  # its tasks have not begun yet
    store.sync.run(nodes.notify({hearing.node.id: [encode(announced("first"))]}))
    store.listen = partial(EmbeddedStore.listen, store)  # type: ignore[method-assign]
    await hearing.until(lambda: hearing.heard == ["first"])
    await hearing.node.stop()


async def test_a_node_reads_until_it_has_all_broadcasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "BROADCASTS_READ", 2)
    store = Store(lambda: NOW)
    for method in "abcde":
        await store.run(nodes.broadcast(encode(announced(method), name=f"name of {method}")))
    async with started(store, pause=SILENT) as hearing:
        await hearing.until(lambda: len(hearing.heard) == 5)
        assert hearing.heard == list("abcde")
        assert hearing.names == [f"name of {method}" for method in "abcde"]


async def test_broadcasts_that_cannot_be_read_are_read_with_the_next_heartbeat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions")
    store, failures = Store(lambda: NOW), [StoreUnavailable("away")]

    async def fail_once() -> None:
        if failures:
            raise failures.pop()

    before: Callable[[], Awaitable[None]] = fail_once
    store.before_reading = before
    await store.run(nodes.broadcast(encode(announced("said"), name="1")))
    async with started(store) as hearing:
        await hearing.until(lambda: hearing.heard)
    assert hearing.heard == ["said"]
    assert caplog.text.count("The broadcasts are read later: away") == 1


async def test_a_node_is_known_until_its_heartbeats_have_been_missing_for_long_enough() -> None:
    now = NOW
    store = Store(lambda: now)
    async with started(store, pause=SILENT) as hearing:
        for after, known in (
            (0, True),
            (DEAD_AFTER_SECONDS - 0.001, True),
            (DEAD_AFTER_SECONDS + 0.001, False),
        ):
            now = NOW + round(after * 1000)
            assert [each.id for each in await store.run(nodes.list_nodes())] == [hearing.node.id] * known


async def test_a_node_says_on_which_machine_and_in_which_process_it_runs() -> None:
    store = Store()
    async with started(store, pause=SILENT):
        [known] = await store.run(nodes.list_nodes())
    said = known.told()
    assert (said["host"], said["pid"]) == (socket.gethostname(), os.getpid())


async def test_of_many_nodes_with_another_secret_key_three_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    for name in "edcba":
        about = json.dumps({"host": "h", "pid": 1, "keys": ["0" * 8]})
        await store.run(nodes.beat(name, about=about, forget_after_ms=60_000))
    async with started(store, pause=SILENT) as hearing:
        own = hearing.node.id
    [said] = [record.getMessage() for record in caplog.records if "SECRET_KEY" in record.getMessage()]
    assert "another SECRET_KEY than 5 of 5 others (" in said
    named = said.partition("others (")[2].partition(")")[0].split(", ")
    assert len(named) == 3
    assert set(named) < set("abcde")
    assert own not in said


async def test_a_node_that_has_stopped_leaves_nothing_running() -> None:
    before, store = asyncio.all_tasks(), Store()
    async with started(store) as hearing:
        await hearing.until(lambda: hearing.looked_after > 1)
        beats = store.beats
    assert asyncio.all_tasks() == before
    assert beats > 1
