"""docs/metrics.md, deploy/grafana-dashboard.json and the code have the same metrics, events and spans."""

import json
import logging
import re
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from prometheus_client.parser import text_string_to_metric_families

from mcp_sessions import counting, ending, metrics
from mcp_sessions.counting import Counts
from mcp_sessions.http import events
from mcp_sessions.records import Session
from mcp_sessions.store.calls import counts, nodes, sessions
from mcp_sessions.store.factory import sync_store_for
from tests.docs import markdown
from tests.support import ROOT
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

TEXT = markdown.read("metrics.md")
TOKEN = "a-token-of-the-tests"
CLUSTER = markdown.table(markdown.section(TEXT, "What all processes counted, and what there is"), "Metric")
PROCESS = markdown.table(markdown.section(TEXT, "What a process does"), "Metric")


@pytest.fixture
def counted(settings: LazySettings, redis_server: RedisServer) -> str:
    """The name of an endpoint at which everything happened that is counted."""
    alias = "measured"
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}}
    settings.MCP_SESSIONS = {alias: {"SERVER": "project.mcp.server", "NAMESPACE": "measured"}}
    numbers = {
        "sessions_opened": 5,
        "sessions_revived": 1,
        "sessions_ended:idle": 2,
        "sessions_refused": 3,
        "requests:tool error": 4,
        "refusals:404": 6,
        "limited:tool a_b per address": 7,
        "limited:tool a b per address": 8,
    }
    every = Counts(dict(numbers))
    for milliseconds in (3, 7, 700_000):
        every.add_call("add", milliseconds, "ok")
    with redis_server.client() as client:
        client.flushdb()
    sync_store_for(alias).run(counts.add(every, by="test", batch="1", now_ms=0))
    about = json.dumps({"host": "web", "pid": 1})
    sync_store_for(alias).run(nodes.beat("n", about=about, forget_after_ms=60_000))
    for name, number in numbers.items():
        counting.count(alias, name, number)
    open_sessions([Opened()], alias)
    return alias


def scraped(view: metrics.View) -> dict[str, Any]:
    """The families by name, as Prometheus reads them."""
    response = view(RequestFactory().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}))
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    return {each.name: each for each in text_string_to_metric_families(response.content.decode())}


def documented(table: list[list[str]]) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric."""
    return {
        name.strip("`").removesuffix("_total"): (kind, set(labels.split(", ")))
        for name, kind, labels, _ in table
    }


def labels_of(family: Any) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


def test_each_metric_of_the_cluster_is_documented_and_the_other_way_round(counted: str) -> None:
    found = scraped(metrics.cluster(token=TOKEN))
    assert {name: (each.type, labels_of(each)) for name, each in found.items()} == documented(CLUSTER)
    sample = {(s.name, *sorted(s.labels.items())): s.value for each in found.values() for s in each.samples}
    at, tool = ("endpoint", counted), ("tool", "add")
    assert sample["mcp_sessions_opened_total", at] == 5
    assert sample["mcp_requests_total", at, ("outcome", "tool_error")] == 4
    assert sample["mcp_tool_call_duration_seconds_bucket", at, ("le", "0.005"), tool] == 1
    assert sample["mcp_tool_call_duration_seconds_bucket", at, ("le", "0.01"), tool] == 2
    assert sample["mcp_tool_call_duration_seconds_count", at, tool] == 3
    assert sample["mcp_tool_call_duration_seconds_sum", at, tool] == pytest.approx(700.01)
    # Two names that would be one if spaces were replaced: Prometheus would take neither.
    assert sample["mcp_limited_total", at, ("limit", "tool a_b per address")] == 7
    assert sample["mcp_limited_total", at, ("limit", "tool a b per address")] == 8
    assert sample["mcp_records", at, ("kind", "session")] == 1
    assert sample["mcp_nodes", at] == 1


def test_each_metric_of_a_process_is_documented_and_the_other_way_round(counted: str) -> None:
    found = scraped(metrics.process(token=TOKEN))
    ours = {name: each for name, each in found.items() if name.startswith("mcp_")}
    assert ours.keys() == documented(PROCESS).keys()
    for name, each in ours.items():
        if each.samples:  # there is no runtime in this process
            assert (each.type, labels_of(each)) == documented(PROCESS)[name]
    assert "process_resident_memory_bytes" in found
    assert not any(sample.labels.get("endpoint") is None for each in ours.values() for sample in each.samples)


def test_names_follow_the_conventions() -> None:
    for name, kind, labels, _ in (*CLUSTER, *PROCESS):
        plain = name.strip("`")
        assert plain.endswith("_total") == (kind == "counter"), plain
        assert re.fullmatch(r"mcp_[a-z_]+", plain)
        assert all(re.fullmatch(r"[a-z]+", label) for label in labels.split(", "))


def test_the_dashboard_uses_only_metrics_and_labels_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    known = documented(CLUSTER) | documented(PROCESS)
    used = set()
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in expressions:
        for name, selector in re.findall(r"(mcp_[a-z_]+)(?:\{([^}]*)\})?", expression):
            plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert plain in known, expression
            used.add(plain)
            assert set(re.findall(r"(\w+)=", selector)) <= known[plain][1], expression
    assert documented(CLUSTER).keys() <= used, "everything of the cluster is shown"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("counted")
def test_a_scrape_needs_the_token() -> None:
    view = metrics.cluster(token=TOKEN)
    for headers in (
        {},
        {"authorization": "Bearer nonsense"},
        {"authorization": TOKEN},
        {"authorization": "Bearer é"},
    ):
        assert view(RequestFactory().get("/metrics", headers=headers)).status_code == 401
    assert metrics.process(token=None)(RequestFactory().get("/metrics")).status_code == 200
    for short in ("", "short"):
        with pytest.raises(ImproperlyConfigured, match="16 characters"):
            metrics.process(token=short)


def test_a_store_that_is_away_is_503(settings: LazySettings) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server"}}
    assert metrics.cluster(token=None)(RequestFactory().get("/metrics")).status_code == 503
    assert metrics.process(token=None)(RequestFactory().get("/metrics")).status_code == 200


def test_each_event_is_logged_as_documented(counted: str, caplog: pytest.LogCaptureFixture) -> None:
    [opened] = open_sessions([Opened(client="in\x1bspector")], counted)
    session = sync_store_for(counted).run(sessions.get(opened.fingerprint))
    assert isinstance(session, Session)
    with caplog.at_level(logging.INFO, "mcp_sessions"):
        log = logging.getLogger("mcp_sessions")
        events.tell(log, "%s %s", event="opened", alias=counted, session=session)
        events.tell(log, "%s %s", event="revived", alias=counted, session=session)
        ending.end_session(counted, opened.fingerprint)
    documented_events = {
        name.strip("`"): (level, set(fields.replace("`", "").split(", ")))
        for name, level, fields, _ in markdown.table(TEXT, "`event`")
    }
    assert [record.event for record in caplog.records if hasattr(record, "event")] == list(documented_events)
    for record in caplog.records:
        if (name := getattr(record, "event", None)) is not None:
            level, fields = documented_events[name]
            assert record.levelname == level
            assert all(getattr(record, field) for field in fields)
            assert record.fingerprint == opened.fingerprint  # type: ignore[attr-defined]
            assert "\x1b" not in record.getMessage()
