"""What several endpoints come to together, and which of them can be asked."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import overview, reach
from mcp_sessions.inventory.figures import HOUR
from mcp_sessions.inventory.overview import There, overview_of
from mcp_sessions.records import Kind
from mcp_sessions.store.calls import counts
from mcp_sessions.store.calls.counts import Read
from tests.inventory.stores import START
from tests.inventory.test_findings import NODE, SOUND


@pytest.fixture
def three(settings: LazySettings) -> None:
    """Two endpoints in one cache, and one in another."""
    settings.MCP_SESSIONS = {
        "shop": {"SERVER": "unused"},
        "stock": {"SERVER": "unused", "PATH": "stock"},
        "other": {"SERVER": "unused", "PATH": "other", "CACHE": "second"},
    }


def as_read(monkeypatch: pytest.MonkeyPatch, *, away: str = "", ahead_ms: int = 0) -> list[str]:
    """Put answers in the place of stores; returns which endpoints are asked."""
    asked: list[str] = []

    def read(operations: dict[str, Any]) -> dict[str, Any]:
        asked.extend(operations)
        if away in operations:
            raise StoreUnavailable("away")
        counted: dict[Kind, int] = {"session": len(asked), "handle": 1}
        there = {alias: There(counts=counted, nodes=[replace(NODE, endpoint=alias)]) for alias in operations}
        found = Read(HOUR, START + ahead_ms, [{"requests:ok": 1, "memory": 5}], [])
        return {alias: (found, there[alias]) for alias in operations}

    monkeypatch.setattr(overview, "_read", read)
    monkeypatch.setattr("mcp_sessions.store.servers.facts_of", lambda cache: [replace(SOUND, name=cache)])
    monkeypatch.setattr(overview, "time", SimpleNamespace(time=lambda: START / 1000))
    return asked


@pytest.mark.usefixtures("three")
def test_endpoints_are_added_up_and_each_cache_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = as_read(monkeypatch)
    found = overview_of(["shop", "other", "stock"], HOUR)
    assert asked == ["shop", "stock", "other"]
    assert found.counts == {"session": 2 + 2 + 3, "handle": 3}
    assert found.figures is not None
    assert (found.figures.total("requests"), found.figures.measured("memory")) == (3, [10])
    assert [node.endpoint for node in found.nodes] == ["shop", "stock", "other"]
    assert {cache: [each.name for each in some] for cache, some in found.servers.items()} == {
        "default": ["default"],
        "second": ["second"],
    }
    assert found.findings == []


@pytest.mark.usefixtures("three")
def test_a_store_that_is_away_is_a_finding_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = as_read(monkeypatch, away="shop", ahead_ms=2_600)
    found = overview_of(["shop", "stock", "other"], HOUR)
    assert asked == ["shop", "stock", "other"]
    assert [(each.code, each.level) for each in found.findings] == [
        ("redis-unreachable", "error"),
        ("clock-skew", "warning"),
    ]
    assert found.findings[0].what == "The Redis of the cache 'default' does not answer: away."
    assert "3 s behind" in found.findings[1].what
    assert found.counts == {"session": 3, "handle": 1}
    as_read(monkeypatch, away="other")
    alone = overview_of(["other"], HOUR)
    assert (alone.figures, alone.counts, alone.nodes) == (None, {}, [])
    as_read(monkeypatch, ahead_ms=2_600)
    assert [each.code for each in overview_of(["shop", "stock"], HOUR).findings] == ["clock-skew"], (
        "said once"
    )


@pytest.mark.usefixtures("three")
def test_a_process_counts_once_however_many_endpoints_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    as_read(monkeypatch)
    found = overview_of(["shop"], HOUR)
    nodes = [
        replace(NODE, id="a", process="p"),
        replace(NODE, id="b", process="p"),
        replace(NODE, id="c", process="q"),
        replace(NODE, id="d"),
        replace(NODE, id="e"),
        replace(NODE, id="f", process="r", is_silent=True),
    ]
    assert replace(found, nodes=nodes).processes == 4


@pytest.mark.usefixtures("three")
def test_which_endpoints_answer_is_asked_of_one_in_each_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    away: set[str] = set()

    def store(alias: str) -> Any:
        def run(_: Any) -> None:
            asked.append(alias)
            if alias in away:
                raise StoreUnavailable(alias)

        return SimpleNamespace(run=run)

    monkeypatch.setattr(reach, "sync_store_for", store)
    assert reach.reach(["shop", "stock"]) == reach.Reach(there=("shop", "stock"))
    assert reach.reach([]) == reach.Reach(there=())
    assert asked == [], "reading the only store says whether it answers"
    assert reach.reach(iter(["shop", "other", "stock"])) == reach.Reach(there=("shop", "other", "stock"))
    assert asked == ["stock", "other"]
    away = {"stock"}
    assert reach.reach(["shop", "other", "stock"]) == reach.Reach(there=("other",), away=("shop", "stock"))
    away = {"stock", "other"}
    with pytest.raises(StoreUnavailable, match="stock"):
        reach.reach(["shop", "other", "stock"])


@pytest.mark.usefixtures("three")
def test_steps_are_counted_from_now_and_clocks_compared_with_the_middle_of_the_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_read(monkeypatch)
    moments: list[int] = []
    monkeypatch.setattr(counts, "read", lambda _span, *, now_ms: moments.append(now_ms))
    # Whoever reads waits for six seconds, and the clock of Redis was read in between.
    clock = iter([START / 1000 - 3.0004, START / 1000 + 3.0004])
    monkeypatch.setattr(overview, "time", SimpleNamespace(time=lambda: next(clock)))
    assert overview_of(["shop"], HOUR).findings == []
    assert moments == [START - 3_000]
