"""What records do now, and did last: for the list, whose indexes know nothing of that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mcp_sessions import conf
from mcp_sessions.inventory.lookups import together
from mcp_sessions.inventory.nodes import RunningCall, ServingNode, nodes_of, reading
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import recent
from mcp_sessions.store.calls.recent import Past
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for

#: A call that has run for so long is stuck, as far as anybody can say.
STUCK: Final = timedelta(seconds=30)


@dataclass(slots=True)
class Doing:
    """What one record does."""

    #: What has run for longest first.
    calls: list[RunningCall] = field(default_factory=list)
    streams: int = 0
    #: The last request that has ended.
    last: Past | None = None
    #: How many requests failed.
    failed: int = 0


def doing_of(records: Iterable[tuple[str, str]]) -> dict[str, Doing]:
    """What records do, by fingerprint; each is given with its endpoint. One round trip for each server.

    Raises: StoreUnavailable.
    """
    by_alias: dict[str, list[str]] = {}
    for alias, fingerprint in records:
        by_alias.setdefault(alias, []).append(fingerprint)
    found = run_together([(sync_store_for(alias), _read(alias, some)) for alias, some in by_alias.items()])
    return {fingerprint: doing for some in found for fingerprint, doing in some.items()}


def _read(alias: str, fingerprints: Sequence[str]) -> Operation[dict[str, Doing]]:
    most = max(1, conf.endpoint(alias).recent_requests)
    asked: list[Operation[Any]] = [reading(alias), _last(fingerprints, most)]
    nodes, past = yield from together(asked)
    doing = {
        fingerprint: Doing(failed=each.failed, last=each.requests[0] if each.requests else None)
        for fingerprint, each in zip(fingerprints, past, strict=True)
    }
    for node in nodes:
        for call in node.running:
            if call.fingerprint in doing and not node.is_silent:
                doing[call.fingerprint].calls.append(call)
        for stream in node.open:
            if stream.fingerprint in doing and not node.is_silent:
                doing[stream.fingerprint].streams += 1
    for each in doing.values():
        each.calls.sort(key=lambda call: call.began)
    return doing


def _last(fingerprints: Sequence[str], most: int) -> Operation[list[recent.Recent]]:
    return (yield [recent.read(each, wanted=1, most=most) for each in fingerprints])


def calling(found: Iterable[ServingNode]) -> set[str]:
    """The records of which requests run, as far as nodes name them."""
    return {call.fingerprint for node in found for call in node.running}


def stuck(found: Iterable[ServingNode]) -> set[str]:
    """Those of which a request has run for STUCK."""
    before = datetime.now(UTC) - STUCK
    return {call.fingerprint for node in found for call in node.running if call.began <= before}


def streaming(found: Iterable[ServingNode]) -> set[str]:
    """Those with an open stream."""
    return {stream.fingerprint for node in found for stream in node.open}


def failing(found: Iterable[ServingNode]) -> set[str]:
    """Those of which a request failed within five minutes."""
    return {fingerprint for node in found for fingerprint in node.failing}


#: What the list can be narrowed to by what nodes report: the word in the address, in words, and which records.
NARROWED: Final = {
    "calling": ("Calling", calling),
    "stuck": ("Calling for more than 30 s", stuck),
    "streaming": ("With an open stream", streaming),
    "failing": ("Failed in the last 5 min", failing),
}


def narrowed(word: str, aliases: Sequence[str]) -> set[str]:
    """The fingerprints of the records that a word of NARROWED means. Raises: KeyError; StoreUnavailable."""
    _, choose = NARROWED[word]
    return choose(node for node in nodes_of(aliases) if not node.is_silent or word == "stuck")
