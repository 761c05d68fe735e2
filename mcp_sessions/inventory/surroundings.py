"""What a page of the list says beside its rows: how many records there are, recent clients, and what runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mcp_sessions import conf
from mcp_sessions.inventory.lookups import together
from mcp_sessions.inventory.nodes import ServingNode, reading
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes, ranges, validity
from mcp_sessions.store.calls.queries import Query, stretches
from mcp_sessions.store.calls.validity import Moment
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is at an endpoint."""

    #: Records of each kind, as the indexes know it.
    counts: Mapping[Kind, int]
    #: Names of clients, those seen last first.
    clients: Sequence[str]
    #: What runs there.
    nodes: Sequence[ServingNode]
    #: The clock of its store, milliseconds since the epoch.
    now_ms: int


def surroundings(aliases: Sequence[str]) -> dict[str, Surroundings]:
    """Of each endpoint; one round trip for each server. Raises: StoreUnavailable."""
    limits = {alias: conf.endpoint(alias).limits for alias in aliases}
    found = run_together(
        [(sync_store_for(alias), _of_endpoint(alias, limits[alias])) for alias in aliases],
    )
    return dict(zip(aliases, found, strict=True))


def _of_endpoint(alias: str, limits: conf.Limits) -> Operation[Surroundings]:
    everything = [stretches(Query(kind=kind), limits)[0] for kind in KINDS]
    asked: list[Operation[Any]] = [
        ranges.sizes(everything),
        indexes.clients(limits=limits),
        reading(alias),
        now(),
    ]
    counts, names, nodes, now_ms = yield from together(asked)
    totals = {kind: sum(each.values()) for kind, each in zip(KINDS, counts, strict=True)}
    return Surroundings(counts=totals, clients=names, nodes=nodes, now_ms=now_ms)


def now() -> Operation[int]:
    """What the clock of a store shows, by which records are used: that of this machine may be wrong."""
    [moment] = yield [validity.min_created(0)]
    return cast("Moment", moment).now_ms
