"""The nodes that serve each endpoint, and what runs in them, as they report it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcp_sessions.cluster.node import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS
from mcp_sessions.inventory.principals import names_of
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import nodes, validity
from mcp_sessions.store.calls.nodes import NodeEntry
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for

#: Seconds without a sign of life after which a node hangs, or is dead: to the other nodes it is dead then.
SILENT_AFTER_SECONDS: Final = DEAD_AFTER_SECONDS
#: The same for one that has reported, but is not registered. Either Redis has lost its data, and it registers again
#: with the next heartbeat; or it was forgotten for its silence, and its last report is nearly two heartbeats old.
UNREGISTERED_SILENT_AFTER_SECONDS: Final = 1.5 * HEARTBEAT_SECONDS
#: Seconds by which clocks may differ.
SKEW_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """A request that runs now, as its node reported it."""

    endpoint: str
    node: str
    #: Tells it from the other requests of its process.
    number: int
    kind: Kind
    #: Of its session, or of the caller in the modern era.
    fingerprint: str
    #: The method, and behind a colon the name of the tool.
    call: str
    principal: str
    #: The principal for people to read.
    principal_name: str
    client: str
    client_version: str
    #: By the store's clock.
    began: datetime
    #: Whether its process has been silent for so long that it hangs, or is dead.
    is_silent: bool

    @property
    def tool(self) -> str:
        """The name of the tool, or the method if none is called."""
        return self.call.removeprefix("tools/call:")

    @property
    def key(self) -> str:
        """What names it to `admin.operating` and to the shell."""
        return f"{self.node}:{self.number}"


class OpenStream(NamedTuple):
    """A stream that a node has open."""

    fingerprint: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingNode:
    """A node, one server process, that serves an endpoint."""

    endpoint: str
    id: str
    host: str
    pid: int
    #: Its last sign of life, by the store's clock.
    seen: datetime
    #: What tells its key to sign session ids with from other keys; empty if that is not known.
    key: str
    #: Whether some node of the same endpoint does not know the sessions that this one opens, or the reverse.
    is_stranger: bool
    #: Whether it has been silent for so long that it hangs, or is dead.
    is_silent: bool
    #: What its process is called: nodes with the same one are the same process. Empty for a node that reports nothing.
    process: str = ""
    #: Of this package; empty for a node that reports nothing, because it is of an older release.
    version: str = ""
    #: When its process began to serve, by the store's clock.
    started: datetime | None = None
    #: The longest that its event loop kept others waiting lately, in milliseconds.
    lag_ms: int = 0
    #: By how many milliseconds the clock of Redis is ahead of that of its machine.
    ahead_ms: int = 0
    #: Bytes; None if that is not known.
    memory: int | None = None
    #: Whether an operator drains it.
    draining: bool = False
    #: How many of each there are; what follows may name fewer.
    calls: int = 0
    streams: int = 0
    listeners: int = 0
    running: Sequence[RunningCall] = ()
    open: Sequence[OpenStream] = ()
    #: Fingerprints of records of which requests failed there lately.
    failing: Sequence[str] = ()

    @property
    def is_skewed(self) -> bool:
        """Whether the clock of its machine differs from that of Redis by more than it may."""
        return not self.is_silent and abs(self.ahead_ms) > SKEW_SECONDS * 1000


def nodes_of(aliases: Iterable[str]) -> Sequence[ServingNode]:
    """The nodes of these endpoints: one round trip for each server.

    A node that stops is not among them any more. One that hangs or was killed stays for ten minutes, silent.
    Raises: StoreUnavailable.
    """
    found = run_together([(sync_store_for(alias), reading(alias)) for alias in aliases])
    return [node for nodes in found for node in nodes]


def running_in(found: Iterable[ServingNode]) -> list[RunningCall]:
    """What runs in these nodes, what has run for longest first, with the names of the principals."""
    calls = sorted((call for node in found for call in node.running), key=lambda call: call.began)
    names = names_of({(call.endpoint, call.principal) for call in calls})
    return [replace(call, principal_name=names[call.endpoint, call.principal].name) for call in calls]


def reading(alias: str) -> Operation[list[ServingNode]]:
    """Read the nodes of one endpoint."""
    beating, reporting, moment = yield [nodes.list_nodes(), nodes.reports(), validity.min_created(0)]
    reports, beats = ({entry.id: entry for entry in entries} for entries in (reporting, beating))
    return [
        _node(alias, beats.get(each), reports.get(each), beating, moment.now_ms)
        for each in sorted(reports.keys() | beats.keys())
    ]


def _node(
    alias: str,
    beat: NodeEntry | None,
    report: NodeEntry | None,
    beating: Sequence[NodeEntry],
    now_ms: int,
) -> ServingNode:
    signs = [sign for sign in (beat, report) if sign is not None]
    # Its event loop may hang in one way and not in the other: whichever sign of life is older counts.
    seen_ms = min(sign.seen_ms for sign in signs)
    entry = signs[0]
    told, keys = entry.told(), entry.keys
    silent_after = UNREGISTERED_SILENT_AFTER_SECONDS if beat is None else SILENT_AFTER_SECONDS
    is_silent = now_ms - seen_ms > silent_after * 1000
    node = ServingNode(
        endpoint=alias,
        id=entry.id,
        host=_text(told.get("host")) or "?",
        pid=_number(told.get("pid")),
        seen=_moment(seen_ms),
        key=keys[0] if keys else "",
        is_stranger=not is_silent and bool(keys) and not all(other.shares_keys(keys) for other in beating),
        is_silent=is_silent,
    )
    return node if report is None else _reported(node, report.told())


def _reported(node: ServingNode, told: Mapping[str, Any]) -> ServingNode:
    """With what it reports. What cannot be read, because another release wrote it, is left out."""
    memory = told.get("memory")
    return replace(
        node,
        process=_text(told.get("process")),
        version=_text(told.get("version")),
        started=_moment(_number(told.get("started"))),
        lag_ms=_number(told.get("lag_ms")),
        ahead_ms=_number(told.get("ahead_ms")),
        memory=memory if isinstance(memory, int) else None,
        draining=told.get("draining") is True,
        calls=_number(told.get("calls")),
        streams=_number(told.get("streams")),
        listeners=_number(told.get("listeners")),
        running=[call for each in _list(told, "running") if (call := _call(node, each))],
        failing=[str(each) for each in failing] if isinstance(failing := told.get("failing"), list) else (),
        open=[OpenStream(str(each[0]), str(each[1])) for each in _list(told, "open") if len(each) == 2],
    )


def _call(node: ServingNode, told: Sequence[Any]) -> RunningCall | None:
    match told:
        case [
            int(number),
            str(kind),
            str(fingerprint),
            str(call),
            str(principal),
            str(client),
            str(version),
            int(began_ms),
        ] if kind in KINDS:
            return RunningCall(
                endpoint=node.endpoint,
                node=node.id,
                number=number,
                kind=kind,
                fingerprint=fingerprint,
                call=call,
                principal=principal,
                principal_name=principal,
                client=client,
                client_version=version,
                began=_moment(began_ms),
                is_silent=node.is_silent,
            )
    return None


def _list(told: Mapping[str, Any], name: str) -> list[list[Any]]:
    values = told.get(name)
    return [each for each in values if isinstance(each, list)] if isinstance(values, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
