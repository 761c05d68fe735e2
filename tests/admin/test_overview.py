"""The overview page: what is wrong, figures, charts and tools."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.test import Client

from mcp_sessions.connections import sync_connections
from mcp_sessions.counting import UNKNOWN, Counts
from mcp_sessions.inventory import counted
from mcp_sessions.inventory.figures import HOUR, Figures, figures_of
from mcp_sessions.inventory.overview import overview_of
from mcp_sessions.store.calls import counts, nodes
from mcp_sessions.store.calls.counts import Read
from mcp_sessions.store.drivers import synchronous
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import HOSTILE, LIST, body, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

OVERVIEW = f"{LIST}overview/"
_batches = itertools.count()


@pytest.fixture
def round_trips() -> Iterator[list[int]]:
    """How many commands each round trip carried that asked a store."""
    made: list[int] = []
    execute = sync_connections.execute

    def counted(client: Any, commands: Sequence[Any]) -> list[Any]:
        made.append(len(commands))
        return execute(client, commands)

    with mock.patch.object(synchronous, "execute", counted):
        yield made


def count(
    alias: str = "default",
    *,
    tools: Mapping[str, Sequence[tuple[float, Any]]] | None = None,
    numbers: Mapping[str, int] | None = None,
) -> None:
    """What a process counts at an endpoint."""
    counted = Counts(dict(numbers or {}))
    for tool, calls in (tools or {}).items():
        for milliseconds, outcome in calls:
            counted.add_call(tool, milliseconds, outcome)
    for number, part in enumerate(counts.parts_of(counted)):
        sync_store_for(alias).run(counts.add(part, by="test", batch=f"{next(_batches)} {number}", now_ms=0))


@pytest.mark.usefixtures("one_endpoint")
def test_a_person_without_the_permission_sees_nothing() -> None:
    assert staff(name="nobody").get(OVERVIEW).status_code == 403


@pytest.mark.usefixtures("one_endpoint")
def test_it_shows_what_was_counted_and_names_what_is_wrong(viewer: Client) -> None:
    open_sessions([Opened(), Opened()])
    sync_store_for("default").run(nodes.beat("n", about='{"host": "web", "pid": 7}', forget_after_ms=60_000))
    count(
        tools={"add": [(20, "ok")] * 95 + [(900, "ok")] * 5, "fetch": [(5, "tool error")] * 7 + [(5, "ok")]},
        numbers={
            "sessions_opened": 2,
            "requests:ok": 101,
            "requests:tool error": 7,
            "sessions_ended:idle": 3_456,
            "refusals:404": 4_567,
            "limited:requests per principal": 1_200,
            "limited:tool add per address": 3,
            "limited:MAX_SESSIONS": 2,
        },
    )
    page = body(viewer.get(OVERVIEW))
    assert "The tool fetch fails: 7 of 8 calls in the last hour." in page
    assert "Set appendonly to yes." in page, "the Redis of the tests keeps nothing"
    assert re.search(r"add</th><td>100</td><td>0</td><td>0</td><td>1\d ms</td><td>25 ms</td>", page), page
    assert "fetch</th><td>8</td><td>7 (87.5 %)</td>" in page
    assert "idle</th><td>3,456</td>" in page
    assert "404</th><td>4,567</td>" in page
    assert "requests per principal<br><small>up to 1,200 a minute</small></th><td>1,200</td>" in page
    assert "MAX_SESSIONS<br><small>up to 2 a minute</small></th><td>2</td>" in page
    said = "Refused by limits in the last hour: requests per principal 1,200 (up to 1,200 a minute), "
    assert said + "tool add per address 3 (up to 3 a minute)." in page
    assert "MAX_SESSIONS 2" not in page, "that is a finding of its own"
    assert re.search(r"<dt>Open sessions</dt><dd>2</dd>", page)
    assert "108 <small>7 failed</small>" in page
    assert page.count('role="img"') == 6
    charts = re.findall(
        r'(<svg class="mcp-chart".*?</svg>).*?(<p class="mcp-legend">|</section>)', page, re.DOTALL
    )
    assert [chart.count("<path") > 1 for chart, _ in charts] == ["legend" in end for _, end in charts]
    assert {chart.count("<path") > 1 for chart, _ in charts} == {True, False}
    assert "opened: 0 at last, 0 at most, at " in page, (
        "the minute that has not ended is no fall, and not drawn"
    )
    assert not re.search(r"\sstyle=|<style|<script(?![^>]*src=)|\son\w+=", page), (
        "strict policies forbid these"
    )
    for span in ("day", "week"):
        assert "add</th><td>100</td>" in body(viewer.get(OVERVIEW, {"span": span}))


@pytest.mark.usefixtures("two_endpoints")
def test_endpoints_are_shown_together_or_one_by_one(viewer: Client, round_trips: list[int]) -> None:
    count("shop", tools={"add": [(1, "ok")]}, numbers={"requests:ok": 1})
    count("stock", tools={"add": [(1, "ok")] * 2, HOSTILE: [(1, "ok")]}, numbers={"requests:ok": 3})
    round_trips.clear()
    page = body(viewer.get(OVERVIEW))
    assert len(round_trips) + 1 <= 5, "and one that asks Redis about itself"
    assert "add</th><td>3</td>" in page
    assert "<script>alert" not in page
    assert "add</th><td>2</td>" in body(viewer.get(OVERVIEW, {"endpoint": "stock"}))
    assert "There is no endpoint “nonsense”" in body(viewer.get(OVERVIEW, {"endpoint": "nonsense"}))


def test_a_redis_that_does_not_answer_is_said_on_the_page(settings: LazySettings, viewer: Client) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server"}}
    response = viewer.get(OVERVIEW)
    assert response.status_code == 200
    assert "The Redis of the cache &#x27;default&#x27; does not answer" in body(response)


def test_sessions_in_memory_have_an_overview_too(settings: LazySettings, viewer: Client) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server", "NAMESPACE": "overview-in-memory"}}
    count(tools={"add": [(1, "ok")]})
    assert "add</th><td>1</td>" in body(viewer.get(OVERVIEW))


@pytest.mark.usefixtures("one_endpoint")
def test_names_that_no_tool_has_are_no_failing_tool(viewer: Client) -> None:
    count(tools={UNKNOWN: [(1, "tool error")] * 6, "add": [(1, "ok")]})
    page = body(viewer.get(OVERVIEW))
    assert "6 calls in the last hour named tools that the server is not known to have." in page
    assert "The tool (unknown) fails" not in page
    found = [each for each in counted.of_figures(_figures()) if each.code == "unknown-tools"]
    assert [each.level for each in found] == ["note"], (
        "whoever calls a client's inventions does not fail the doctor"
    )


def _figures() -> Figures:
    figures = overview_of(["default"], HOUR).figures
    assert figures is not None
    return figures


@pytest.mark.parametrize(
    ("by_cache", "evicted"),
    [
        ({"default": [[1_000, 1_000, 1_000]]}, 0),
        ({"default": [[1_000, 1_000, 1_000]], "other": [[0, 5, 9]]}, 9),
        ({"default": [[1_000, 1_002, 0], [1_000, 1_002, 0]]}, 2),
        ({"default": [[1_000, 0, 7]]}, 7),
        ({"default": [[]]}, 0),
    ],
    ids=["long ago", "one of two servers", "seen by two endpoints", "after a restart", "not measured"],
)
def test_every_eviction_counts_once(by_cache: Mapping[str, Sequence[Sequence[int]]], evicted: int) -> None:
    reads = {
        cache: [Read(HOUR, 0, [{"evicted": number} for number in numbers], []) for numbers in some]
        for cache, some in by_cache.items()
    }
    assert figures_of(reads).evicted == evicted


def test_the_memory_of_several_servers_is_added_up_where_all_have_told() -> None:
    def read(*steps: Mapping[str, int]) -> Read:
        return Read(HOUR, 0, steps, [])

    shared = read({"memory": 10, "latency_us": 3}, {"memory": 10}, {"memory": 11})
    figures = figures_of(
        {
            "default": [shared, shared],
            "other": [read({"memory": 5, "latency_us": 9}, {}, {"memory": 6})],
            "none of them a Redis": [read({}, {}, {})],
        }
    )
    assert figures.measured("memory") == [15, None, 17]
    assert figures.measured("latency_us") == [9, None, None]
