"""What a task queue, a command or the admin tells the nodes of an endpoint."""

import logging
from collections.abc import Generator
from typing import Any

import pytest

from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import BroadcastsPosted, DrainAsked, decode
from mcp_sessions.engine import Engine
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.drivers.embedded import SyncEmbeddedStore
from mcp_sessions.store.keys import Keys

ASKED = DrainAsked(node="b", drains=True, by="olga")


class Store:
    """A store with two nodes; what was put into which inbox."""

    def __init__(self) -> None:
        self._store = SyncEmbeddedStore(Keys("outside", str), Engine())
        self.away = False
        self.told: list[tuple[str, Any]] = []
        for node in "ab":
            self._store.run(nodes.beat(node, about="{}", forget_after_ms=60_000))

    def run(self, work: Any) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        return self._store.run(self._watched(work)) if not hasattr(work, "script") else self._store.run(work)

    def _watched(self, work: Any) -> Generator[Any, Any, Any]:
        replies = None
        while True:
            try:
                calls = list(work.send(replies))
            except StopIteration as stop:
                return stop.value
            for call in calls:
                if call.script is nodes.NOTIFY:
                    self.told += [
                        (call.arguments[0], decode(each).notification) for each in call.arguments[2:]
                    ]
            replies = yield calls


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(outside, "sync_store_for", lambda alias: {"shop": store}[alias])
    return store


def test_one_node_is_told(store: Store) -> None:
    outside.notify("shop", "b", ASKED)
    assert store.told == [("b", ASKED)]


def test_every_node_is_told(store: Store) -> None:
    outside.notify_all("shop", ASKED)
    assert store.told == [("a", ASKED), ("b", ASKED)]


def test_what_nobody_may_miss_stays_in_the_store_and_the_nodes_are_told_to_look(store: Store) -> None:
    outside.broadcast("shop", ASKED)
    _, [left] = store.run(nodes.broadcasts(after="", age_ms=60_000))
    assert decode(left).notification == ASKED
    assert decode(left).name
    assert store.told == [("a", BroadcastsPosted()), ("b", BroadcastsPosted())]


def test_that_nobody_can_be_told_is_logged_unless_it_must_be_known(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    outside.notify("shop", "a", ASKED)
    outside.notify_all("shop", ASKED)
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [each.getMessage() for each in told] == ["The nodes could not be told at once: away"] * 2
    with pytest.raises(StoreUnavailable):
        outside.broadcast("shop", ASKED)
