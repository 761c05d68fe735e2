"""The metrics, with their names, types and labels. `docs/metrics.md` has them in a table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mcp_sessions import counting
from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.counting import BUCKETS, OUTCOMES, Counts
from mcp_sessions.inventory.overview import There, now_at
from mcp_sessions.inventory.reach import Reach, reach
from mcp_sessions.store import servers

#: What is counted: its name, the metric's name, what it is, and the label.
COUNTED: Final = (
    ("sessions_opened", "mcp_sessions_opened", "Sessions that clients opened.", None),
    ("sessions_revived", "mcp_sessions_revived", "Sessions that were opened again by their ids.", None),
    ("sessions_ended", "mcp_sessions_ended", "Sessions that ended.", "reason"),
    ("sessions_refused", "mcp_sessions_refused", "New sessions that were refused at a cap.", None),
    ("requests", "mcp_requests", "JSON-RPC requests that were answered.", "outcome"),
    ("refusals", "mcp_refusals", "HTTP requests that got a status from 400 on.", "status"),
    ("limited", "mcp_limited", "What a limit refused.", "limit"),
)
_CALLS: Final = "mcp_tool_calls"
_DURATION: Final = "mcp_tool_call_duration_seconds"


def of_the_cluster() -> Iterable[Metric]:
    """What all processes counted since the beginning, and what there is.

    Without the endpoints whose stores do not answer. Raises: StoreUnavailable if none does.
    """
    asked = reach(aliases())
    found = now_at(asked.there)
    facts = {cache: servers.facts_of(cache) for cache in dict.fromkeys(endpoint(a).cache for a in found)}
    counted = {alias: totals for alias, (totals, _) in found.items()}
    there = {alias: there for alias, (_, there) in found.items()}
    return [
        _in_reach(asked),
        *_counted(counted, ""),
        *_of_tools(counted),
        *_there_is(there),
        *_of_redis(facts),
    ]


def of_this_process() -> Iterable[Metric]:
    """What this process counted since it started, what it does, and what Python and the system say of it."""
    counted = {alias: counting.since_the_start(alias) for alias in aliases()}
    yield from _counted(counted, "_process")
    yield from _running()
    for collector in (PROCESS_COLLECTOR, GC_COLLECTOR):
        yield from collector.collect()


def _in_reach(asked: Reach) -> Metric:
    up = GaugeMetricFamily("mcp_store_up", "1 if the endpoint's store answered.", labels=["endpoint"])
    for alias in (*asked.there, *asked.away):
        up.add_metric([alias], int(alias in asked.there))
    return up


def _counted(counted: dict[str, Counts], infix: str) -> Iterator[Metric]:
    for name, metric, text, label in COUNTED:
        labels = ["endpoint", *([label] if label else [])]
        first, _, rest = metric.partition("_")
        family = CounterMetricFamily(f"{first}{infix}_{rest}", text, labels=labels)
        for alias, counts in counted.items():
            if label is None:
                family.add_metric([alias], counts.numbers.get(name, 0))
            for full, number in counts.numbers.items():
                head, _, value = full.partition(":")
                if label is not None and head == name:
                    # Limits are called as RATE_LIMITS has them: two of them could become one name.
                    family.add_metric([alias, value if label == "limit" else value.replace(" ", "_")], number)
        yield family


def _of_tools(counted: dict[str, Counts]) -> Iterator[Metric]:
    calls = CounterMetricFamily(_CALLS, "Calls of tools.", labels=["endpoint", "tool", "outcome"])
    took = HistogramMetricFamily(_DURATION, "How long calls of tools took.", labels=["endpoint", "tool"])
    for alias, counts in counted.items():
        for tool, numbers in counts.tools.items():
            for outcome, number in zip(OUTCOMES, numbers, strict=False):
                if number:
                    calls.add_metric([alias, tool, outcome.replace(" ", "_")], number)
            took.add_metric([alias, tool], _buckets(numbers[len(OUTCOMES) : -1]), numbers[-1] / 1000)
    yield calls
    yield took


def _buckets(numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Cumulated, as Prometheus has them."""
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    return [(bound, sum(numbers[: place + 1])) for place, bound in enumerate(bounds)]


def _there_is(found: dict[str, There]) -> Iterator[Metric]:
    records = GaugeMetricFamily(
        "mcp_records", "Sessions and handles that there are.", labels=["endpoint", "kind"]
    )
    caps = GaugeMetricFamily("mcp_records_limit", "How many there may be.", labels=["endpoint", "kind"])
    nodes = GaugeMetricFamily("mcp_nodes", "Processes that serve the endpoint.", labels=["endpoint"])
    for alias, now in found.items():
        conf = endpoint(alias)
        for kind, number in now.counts.items():
            records.add_metric([alias, kind], number)
        for kind, cap in (("session", conf.max_sessions), ("handle", conf.max_handles)):
            if cap is not None:
                caps.add_metric([alias, kind], cap)
        nodes.add_metric([alias], len([node for node in now.nodes if not node.is_silent]))
    yield from (records, caps, nodes)


def _of_redis(facts: dict[str, list[servers.ServerFacts]]) -> Iterator[Metric]:
    labels = ["cache", "server"]
    memory = GaugeMetricFamily("mcp_redis_memory_bytes", "Memory that Redis uses.", labels=labels)
    limit = GaugeMetricFamily("mcp_redis_memory_limit_bytes", "maxmemory; 0: none.", labels=labels)
    evicted = CounterMetricFamily("mcp_redis_evicted_keys", "Keys that Redis evicted.", labels=labels)
    took = GaugeMetricFamily("mcp_redis_answer_seconds", "How long Redis took to answer this.", labels=labels)
    for cache, some in facts.items():
        for server in some:
            if not server.refusal:
                memory.add_metric([cache, server.name], server.used_memory)
                limit.add_metric([cache, server.name], server.maxmemory)
                evicted.add_metric([cache, server.name], server.evicted)
            took.add_metric([cache, server.name], server.seconds)
    yield from (memory, limit, evicted, took)


def _running() -> Iterator[Metric]:
    # Here, because `manage.py` imports URLs and needs no server.
    from mcp_sessions.serving.runtime import runtimes_of

    running = GaugeMetricFamily("mcp_process_requests_running", "Requests that run.", labels=["endpoint"])
    streams = GaugeMetricFamily("mcp_process_streams_open", "Open streams.", labels=["endpoint"])
    touch = GaugeMetricFamily(
        "mcp_process_in_touch", "1 if the last heartbeat reached Redis.", labels=["endpoint"]
    )
    for alias in aliases():
        runtimes = runtimes_of(alias)
        running.add_metric([alias], sum(len(list(each.running())) for each in runtimes))
        streams.add_metric([alias], sum(each.admission.streams for each in runtimes))
        if runtimes:
            touch.add_metric([alias], int(all(each.context.node.is_in_touch for each in runtimes)))
    yield from (running, streams, touch)
