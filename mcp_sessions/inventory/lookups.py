"""Records that no index lists: looked up by fingerprint, or searched for by what an operator has of them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from mcp_sessions.conf import Limits
from mcp_sessions.records import FINGERPRINT, Kind, Session
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import queries, sessions
from mcp_sessions.store.calls.queries import Query

#: Records of each kind found at most by the first digits of a fingerprint.
MAX_FOUND: Final = 100
#: How many of the last used handles are searched for one text.
NAMED_DEPTH: Final = 10_000
#: Characters and digits that the text of a handle has at most and at least.
_LONGEST: Final = 200
_DIGITS: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A search for records whose fingerprint starts with these digits."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A search for handles with this text, however it is spelled."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Records picked by hand, by fingerprint. Bounds on their activity do not apply to them."""

    fingerprints: tuple[str, ...]


Lookup = Prefix | Named | Picked


def folded(text: str) -> str:
    """The text of a handle without case, spaces and punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if char.isalnum())


def may_be_handle(text: str) -> bool:
    """Whether it is worth searching the handles for a text: it has a word and several digits."""
    plain = folded(text) if len(text) <= _LONGEST else ""
    return sum(char.isdigit() for char in plain) >= _DIGITS and any(char.isalpha() for char in plain)


def look_up(
    lookup: Lookup, *, kinds: Sequence[Kind], filters: Query, limits: Limits
) -> Operation[list[Session]]:
    """The records of these kinds that the lookup means and that pass the filters."""
    found: list[Session] = []
    if isinstance(lookup, Picked):
        valid = [each for each in lookup.fingerprints if FINGERPRINT.match(each)]
        found = [session for session in (yield [sessions.get(each) for each in valid]) if session is not None]
    elif isinstance(lookup, Prefix):
        by_kind = [queries.find(lookup.digits, limit=MAX_FOUND, limits=limits, kind=kind) for kind in kinds]
        found = [session for some in (yield from together(by_kind)) for session in some]
    elif "handle" in kinds:
        handles = replace(filters, kind="handle", ascending=False)
        page = yield from queries.page(handles, limits=limits, offset=0, limit=NAMED_DEPTH)
        found = [handle for handle in page.sessions if folded(handle.name) == folded(lookup.text)]
    return [session for session in found if session.kind in kinds and _passes(session, filters, lookup)]


def together(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Run operations side by side: the calls that they wait for at the same time share a round trip."""
    results: dict[int, T] = {}
    answers: dict[int, list[Any] | None] = dict.fromkeys(range(len(operations)))
    while answers:
        asked: dict[int, Sequence[Call[Any]]] = {}
        for number, answer in answers.items():
            try:
                asked[number] = operations[number].send(answer)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as stop:
                results[number] = stop.value
        replies = iter((yield [call for calls in asked.values() for call in calls]) if asked else ())
        answers = {number: [next(replies) for _ in calls] for number, calls in asked.items()}
    return [results[number] for number in range(len(operations))]


def _passes(session: Session, filters: Query, lookup: Lookup) -> bool:
    """Whether a record that was looked up passes the filters."""
    immutable = (
        (filters.client, session.handshake.client_name),
        (filters.protocol, session.handshake.protocol_version),
        (filters.principal, session.principal),
        (filters.label, session.label),
    )
    if any(wanted is not None and wanted != actual for wanted, actual in immutable):
        return False
    if isinstance(lookup, Picked):
        return True
    since, before = filters.active_since_ms, filters.active_before_ms
    moment = session.last_activity_ms
    return (since is None or moment >= since) and (before is None or moment < before)
