"""Records that no index lists: looked up by fingerprint, or searched for by what an operator has of them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
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
#: Characters of a text that may be that of a handle.
_LONGEST: Final = 200
#: Digits that it has at least behind a word, and without one.
_DIGITS: Final = 4
_DIGITS_ALONE: Final = 9
#: Letters that are taken for digits.
_MISREAD: Final = str.maketrans("oil", "011")

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


def may_be_handle(text: str) -> bool:
    """Whether it is worth searching the handles for a text: it has a word and several digits, or many digits."""
    plain = _plain(text) if len(text) <= _LONGEST else ""
    digits = sum(char.isdigit() for char in plain)
    return digits >= (_DIGITS if plain.strip("0123456789") else _DIGITS_ALONE)


def _named(handles: Sequence[Session], text: str) -> list[Session]:
    """Those with this name, however the text is spelled; the word before the digits may be missing."""
    wanted = _plain(text).translate(_MISREAD)
    found = []
    for handle in handles:
        name = _plain(handle.name)
        if wanted in (name.translate(_MISREAD), name.lstrip(ascii_lowercase)):
            found.append(handle)
    return found


def _plain(text: str) -> str:
    """Without case, spaces, punctuation and what cannot be seen."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def look_up(
    lookup: Lookup, *, kinds: Sequence[Kind], filters: Query, limits: Limits
) -> Operation[list[Session]]:
    """The records of these kinds that the lookup means and that pass the filters."""
    found: list[Session] = []
    if isinstance(lookup, Picked):
        valid = [each for each in lookup.fingerprints if FINGERPRINT.match(each)]
        asked = [sessions.get(each, skips_sealed=True) for each in valid]
        found = [session for session in (yield asked) if session is not None]
    elif isinstance(lookup, Prefix):
        by_kind = [queries.find(lookup.digits, limit=MAX_FOUND, limits=limits, kind=kind) for kind in kinds]
        found = [session for some in (yield from together(by_kind)) for session in some]
    elif "handle" in kinds:
        handles = replace(filters, kind="handle", ascending=False)
        page = yield from queries.page(handles, limits=limits, offset=0, limit=NAMED_DEPTH)
        found = _named(page.sessions, lookup.text)
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


def means(lookup: Lookup, session: Session) -> bool:
    """Whether a lookup means a record."""
    match lookup:
        case Prefix(digits=digits):
            return session.fingerprint.startswith(digits)
        case Picked(fingerprints=fingerprints):
            return session.fingerprint in fingerprints
        case Named(text=text):
            return session.kind == "handle" and bool(_named([session], text))


def _passes(session: Session, filters: Query, lookup: Lookup) -> bool:
    """Whether a record that was looked up passes the filters."""
    if not replace(filters, kind=session.kind).admits(session):
        return False
    if isinstance(lookup, Picked):
        return True
    since, before = filters.active_since_ms, filters.active_before_ms
    moment = session.last_activity_ms
    return (since is None or moment >= since) and (before is None or moment < before)
