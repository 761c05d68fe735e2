"""All that the overview shows: one round trip to each Redis for its endpoints, and one about itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from mcp_sessions.conf import endpoint
from mcp_sessions.counting import Counts
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import counted, findings
from mcp_sessions.inventory.figures import Figures, Span, figures_of
from mcp_sessions.inventory.findings import Finding
from mcp_sessions.inventory.nodes import ServingNode, reading
from mcp_sessions.records import Kind
from mcp_sessions.store import servers
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import counts, indexes
from mcp_sessions.store.calls.counts import Read
from mcp_sessions.store.drivers import SyncStore
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.store.servers import ServerFacts

T = TypeVar("T")
#: Kinds that have a cap of the endpoint.
_CAPPED: Final[tuple[Kind, ...]] = ("session", "handle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Some endpoints at one moment."""

    #: None if no store could be asked.
    figures: Figures | None
    #: How many sessions and handles there are.
    counts: Mapping[Kind, int]
    nodes: Sequence[ServingNode]
    #: The Redis servers, by alias of CACHES.
    servers: Mapping[str, Sequence[ServerFacts]]
    #: What is wrong, the worst first.
    findings: Sequence[Finding]

    @property
    def processes(self) -> int:
        """How many serve these endpoints: each is a node of every endpoint that it serves."""
        return len({node.process or node.id for node in self.nodes if not node.is_silent})


@dataclass(slots=True)
class _Seen:
    #: By cache.
    reads: dict[str, list[Read]] = field(default_factory=dict)
    counts: dict[Kind, int] = field(default_factory=dict)
    nodes: list[ServingNode] = field(default_factory=list)
    servers: dict[str, Sequence[ServerFacts]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def overview_of(aliases: Sequence[str], span: Span) -> Overview:
    """Read it. A store that does not answer is a finding, and is asked once."""
    seen = _Seen()
    for cache in dict.fromkeys(endpoint(alias).cache for alias in aliases):
        try:
            seen.servers[cache] = found = servers.facts_of(cache)
            seen.findings += findings.of_servers(cache, found)
            _look_at([alias for alias in aliases if endpoint(alias).cache == cache], span, seen)
        except StoreUnavailable as error:
            seen.findings.append(findings.unreachable(cache, error))
    figures = figures_of(seen.reads) if seen.reads else None
    if figures is not None:
        seen.findings += counted.of_figures(figures)
    return Overview(
        figures=figures,
        counts=seen.counts,
        nodes=seen.nodes,
        servers=seen.servers,
        findings=findings.most_important_first(list(dict.fromkeys(seen.findings))),
    )


def _look_at(aliases: Sequence[str], span: Span, seen: _Seen) -> None:
    """Look at the endpoints of one cache. Raises: StoreUnavailable."""
    before = time.time()
    reads = {alias: counts.read(span, now_ms=round(before * 1000)) for alias in aliases}
    for alias, (read, there) in _read(reads).items():
        seen.reads.setdefault(endpoint(alias).cache, []).append(read)
        seen.nodes += there.nodes
        for kind, number in there.counts.items():
            seen.counts[kind] = seen.counts.get(kind, 0) + number
        seen.findings += findings.of_clocks(read.now_ms / 1000 - (before + time.time()) / 2)
        seen.findings += findings.of_nodes(alias, there.nodes, now_ms=read.now_ms)
        seen.findings += findings.of_caps(alias, there.counts)


def now_at(aliases: Sequence[str]) -> dict[str, tuple[Counts, "There"]]:
    """All that was counted at each endpoint, and what there is: one round trip to each Redis.

    Raises: StoreUnavailable.
    """
    return _read({alias: _as_operation(counts.totals()) for alias in aliases})


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """What there is at one endpoint."""

    counts: Mapping[Kind, int]
    nodes: Sequence[ServingNode]


def _read(operations: Mapping[str, Operation[T]]) -> dict[str, tuple[T, There]]:
    """The result of one operation for each endpoint, and what there is, in the round trips of one of them."""
    works: list[tuple[SyncStore, Operation[Any]]] = []
    for alias, operation in operations.items():
        limits, store = endpoint(alias).limits, sync_store_for(alias)
        works += [
            (store, operation),
            (store, reading(alias)),
            *((store, indexes.count(limits=limits, kind=kind)) for kind in _CAPPED),
        ]
    results = iter(run_together(works))
    found = {}
    for alias in operations:
        result, nodes_there = next(results), next(results)
        numbers = {kind: next(results) for kind in _CAPPED}
        found[alias] = result, There(counts=numbers, nodes=nodes_there)
    return found


def _as_operation(call: Call[T]) -> Operation[T]:
    [result] = yield [call]
    return cast("T", result)
