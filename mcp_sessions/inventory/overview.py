"""All that the overview shows: one round trip to the store of each endpoint, and one to each Redis server."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions.conf import endpoint
from mcp_sessions.counting import Counts
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import findings
from mcp_sessions.inventory.figures import Figures, Span, figures_of
from mcp_sessions.inventory.findings import Finding
from mcp_sessions.inventory.lookups import together
from mcp_sessions.inventory.nodes import ServingNode, serving
from mcp_sessions.records import Kind
from mcp_sessions.store import servers
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import counts, indexes, nodes
from mcp_sessions.store.calls.counts import Read
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.store.servers import ServerFacts

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


@dataclass(slots=True)
class _Seen:
    reads: list[Read] = field(default_factory=list)
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
            for alias in aliases:
                if endpoint(alias).cache == cache:
                    _look_at(alias, span, seen)
        except StoreUnavailable as error:
            seen.findings.append(findings.unreachable(cache, error))
    figures = figures_of(seen.reads) if seen.reads else None
    if figures is not None:
        seen.findings += findings.of_figures(figures)
    return Overview(
        figures=figures,
        counts=seen.counts,
        nodes=seen.nodes,
        servers=seen.servers,
        findings=findings.most_important_first(list(dict.fromkeys(seen.findings))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """One endpoint at this moment."""

    #: All that was counted.
    totals: Counts
    counts: Mapping[Kind, int]
    nodes: Sequence[ServingNode]


def now_at(alias: str) -> Now:
    """One round trip. Raises: StoreUnavailable."""
    limits = endpoint(alias).limits
    totals, entries, *numbers = sync_store_for(alias).run(
        together(
            [
                _as_operation(counts.totals()),
                _as_operation(nodes.list_nodes()),
                *(indexes.count(limits=limits, kind=kind) for kind in _CAPPED),
            ]
        )
    )
    return Now(
        totals=totals,
        counts=dict(zip(_CAPPED, numbers, strict=True)),
        nodes=serving(alias, entries),
    )


def _look_at(alias: str, span: Span, seen: _Seen) -> None:
    """Raises: StoreUnavailable."""
    limits, before = endpoint(alias).limits, time.time()
    read, entries, *numbers = sync_store_for(alias).run(
        together(
            [
                counts.read(span, now_ms=round(before * 1000)),
                _as_operation(nodes.list_nodes()),
                *(indexes.count(limits=limits, kind=kind) for kind in _CAPPED),
            ]
        )
    )
    by_kind = dict(zip(_CAPPED, numbers, strict=True))
    found = serving(alias, entries)
    seen.reads.append(read)
    seen.nodes += found
    for kind, number in by_kind.items():
        seen.counts[kind] = seen.counts.get(kind, 0) + number
    seen.findings += findings.of_clocks(read.now_ms / 1000 - (before + time.time()) / 2)
    seen.findings += findings.of_nodes(alias, found, now_ms=read.now_ms)
    seen.findings += findings.of_caps(alias, by_kind)


def _as_operation(call: Call[Any]) -> Operation[Any]:
    [result] = yield [call]
    return result
