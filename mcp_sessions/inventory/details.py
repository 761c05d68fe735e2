"""What the page of one record shows beside the record itself: read together, in one round trip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_sessions import conf
from mcp_sessions.inventory.nodes import ServingNode, reading
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import recent, state, subscriptions
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Of a record."""

    #: The nodes of its endpoint.
    nodes: Sequence[ServingNode]
    #: Its last requests, at most RECENT_REQUESTS.
    recent: recent.Recent
    #: The values of its state, as JSON texts by name.
    state: Mapping[str, str]
    #: The resources that it subscribes to, as far as their URIs are kept.
    resources: Sequence[str]


def details_of(alias: str, fingerprint: str) -> Details:
    """Read them. Those of a record that is gone are empty. Raises: StoreUnavailable."""
    store = sync_store_for(alias)
    works: list[tuple[Any, Operation[Any]]] = [(store, reading(alias)), (store, _own(alias, fingerprint))]
    found, (last, texts, resources) = run_together(works)
    return Details(nodes=found, recent=last, state=texts, resources=resources)


def _own(alias: str, fingerprint: str) -> Operation[Any]:
    """What is beside the record in its slot."""
    most = max(1, conf.endpoint(alias).recent_requests)
    return (
        yield [
            recent.read(fingerprint, wanted=most, most=most),
            state.texts(fingerprint),
            subscriptions.resources(fingerprint),
        ]
    )
