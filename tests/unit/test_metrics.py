"""What the metrics say of one moment, with stand-ins for stores and runtimes."""

import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from pytest_django import Settings

from mcp_sessions import metrics
from mcp_sessions.counting import BUCKETS, Counts
from mcp_sessions.inventory.reach import Reach
from mcp_sessions.metrics import families

Sample = tuple[str, tuple[str, ...]]


def samples(found: Iterable[Any]) -> dict[Sample, float]:
    """The values by name and by the values of their labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in found
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def endpoints(settings: Settings) -> None:
    entry = {"SERVER": "shop.mcp.server", "MAX_SESSIONS": 7}
    settings.MCP_SESSIONS = {
        "shop": {**entry, "MAX_HANDLES": None},
        "desk": {**entry, "CACHE": "other", "MAX_HANDLES": 9},
        "away": entry,
    }


def redis(name: str, *, refusal: str = "") -> Any:
    facts = {"used_memory": 1000, "maxmemory": 2000, "evicted": 3, "seconds": 0.25}
    return SimpleNamespace(name=name, refusal=refusal, **facts)


def test_what_there_is_and_how_redis_does(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [SimpleNamespace(is_silent=silent) for silent in (False, True, False)]
    counts = Counts({"sessions_opened": 5, "requests:tool error": 2, "requests:ok": 3, "limited:tool a b": 1})
    there = SimpleNamespace(counts={"session": 4, "handle": 2}, nodes=nodes)
    asked: list[str] = []

    def facts_of(cache: str) -> list[Any]:
        asked.append(cache)
        return [redis(""), redis("10.0.0.1:6379", refusal="NOAUTH")]

    monkeypatch.setattr(families, "reach", lambda _: Reach(there=("shop", "desk"), away=("away",)))
    monkeypatch.setattr(families, "now_at", lambda aliases: dict.fromkeys(aliases, (counts, there)))
    monkeypatch.setattr("mcp_sessions.store.servers.facts_of", facts_of)
    found = samples(families.of_the_cluster())
    assert asked == ["default", "other"]
    assert {key: value for key, value in found.items() if key[1][0] == "shop"} == {
        ("mcp_store_up", ("shop",)): 1,
        ("mcp_sessions_opened_total", ("shop",)): 5,
        ("mcp_sessions_revived_total", ("shop",)): 0,
        ("mcp_sessions_refused_total", ("shop",)): 0,
        ("mcp_requests_total", ("shop", "tool_error")): 2,
        ("mcp_requests_total", ("shop", "ok")): 3,
        ("mcp_limited_total", ("shop", "tool a b")): 1,
        ("mcp_records", ("shop", "session")): 4,
        ("mcp_records", ("shop", "handle")): 2,
        ("mcp_records_limit", ("shop", "session")): 7,
        ("mcp_nodes", ("shop",)): 2,
    }
    assert found["mcp_records_limit", ("desk", "handle")] == 9
    assert {key: value for key, value in found.items() if key[1][0] == "away"} == {
        ("mcp_store_up", ("away",)): 0
    }
    assert {key: value for key, value in found.items() if key[1][0] == "other"} == {
        ("mcp_redis_memory_bytes", ("other", "")): 1000,
        ("mcp_redis_memory_limit_bytes", ("other", "")): 2000,
        ("mcp_redis_evicted_keys_total", ("other", "")): 3,
        ("mcp_redis_answer_seconds", ("other", "")): 0.25,
        ("mcp_redis_answer_seconds", ("other", "10.0.0.1:6379")): 0.25,
    }


def test_calls_of_tools_by_outcome_and_their_durations_cumulated() -> None:
    counts = Counts()
    for milliseconds in (5, 6, 300_001):
        counts.add_call("add", milliseconds, "tool error")
    counts.add_call("sub", 1, "ok")
    found = samples(families._of_tools({"shop": counts}))
    calls = {key[1]: value for key, value in found.items() if key[0] == "mcp_tool_calls_total"}
    assert calls == {("shop", "add", "tool_error"): 3, ("shop", "sub", "ok"): 1}
    name = "mcp_tool_call_duration_seconds"
    buckets = [found[f"{name}_bucket", ("shop", "add", str(bound))] for bound in BUCKETS]
    assert buckets == [1, *[2] * 13]
    assert found[f"{name}_bucket", ("shop", "add", "+Inf")] == 3
    assert found[f"{name}_count", ("shop", "add")] == 3
    assert found[f"{name}_sum", ("shop", "add")] == 300.012


def test_what_a_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def runtime(requests: int, streams: int, *, in_touch: bool) -> Any:
        return SimpleNamespace(
            running=lambda: iter(range(requests)),
            admission=SimpleNamespace(streams=streams),
            context=SimpleNamespace(node=SimpleNamespace(is_in_touch=in_touch)),
        )

    runtimes = {
        "shop": [runtime(2, 3, in_touch=True), runtime(1, 4, in_touch=False)],
        "desk": [runtime(0, 0, in_touch=True)],
        "away": [],
    }
    monkeypatch.setattr("mcp_sessions.serving.runtime.runtimes_of", runtimes.__getitem__)
    assert samples(families._running()) == {
        ("mcp_process_requests_running", ("shop",)): 3,
        ("mcp_process_requests_running", ("desk",)): 0,
        ("mcp_process_requests_running", ("away",)): 0,
        ("mcp_process_streams_open", ("shop",)): 7,
        ("mcp_process_streams_open", ("desk",)): 0,
        ("mcp_process_streams_open", ("away",)): 0,
        ("mcp_process_in_touch", ("shop",)): 0,
        ("mcp_process_in_touch", ("desk",)): 1,
    }


def test_a_token_has_sixteen_characters_at_least() -> None:
    for make in (metrics.process, metrics.cluster):
        make(token="x" * 16)
        make(token=None)
        with pytest.raises(ImproperlyConfigured, match="needs 16 characters"):
            make(token="x" * 15)


def test_without_the_package_the_project_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "mcp-sessions\[metrics\]"'):
        metrics.process(token=None)


@pytest.mark.parametrize(("given", "status"), [("Bearer " + "x" * 16, 200), ("x" * 16, 401), ("", 401)])
def test_a_view_answers_who_has_the_token_and_nothing_keeps_the_answer(given: str, status: int) -> None:
    answer = metrics.process(token="x" * 16)(RequestFactory().get("/", headers={"authorization": given}))
    assert answer.status_code == status
    assert answer.headers.get("WWW-Authenticate") == (None if status == 200 else "Bearer")
    assert answer.headers.get("Cache-Control") == ("no-store" if status == 200 else None)
