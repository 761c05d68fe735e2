"""The kinds of records in words, for the admin and the shell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mcp_sessions.inventory.display import printable
from mcp_sessions.records import KINDS, WORDS, Kind, Session

#: Kinds that keep what tools stored.
WITH_STATE: Final[tuple[Kind, ...]] = ("session", "handle", "user", "conversation")
#: Kinds that are told apart by a label.
LABELLED: Final[tuple[Kind, ...]] = ("handle", "conversation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a record of a kind is, and what its end does."""

    is_: str
    ends: str


EXPLANATIONS: Final[Mapping[Kind, Explanation]] = {
    "session": Explanation(
        is_="what a client opened with “initialize”, and the state that tools keep in it",
        ends="Every node answers the client of a session with 404. What tools kept in it is deleted. The client may "
        "open a new one.",
    ),
    "handle": Explanation(
        is_="state that a tool made for its caller, who names it in later calls",
        ends="What tools kept under a handle is deleted. A call that still names it is told that it ended.",
    ),
    "user": Explanation(
        is_="what tools keep of one user over all of their clients",
        ends="What tools kept of a user is deleted. It begins again, empty, with their next call.",
    ),
    "conversation": Explanation(
        is_="state of one conversation in a client, which tools use as a session",
        ends="What tools kept in a conversation is deleted. It begins again, empty, with its next call.",
    ),
    "caller": Explanation(
        is_="who calls without a session, and with which client",
        ends="A caller disappears from this list until its next call. It is not blocked.",
    ),
    "listener": Explanation(
        is_="a client that waits for notifications without a session",
        ends="The stream of a listener is closed. The client may open a new one.",
    ),
}


def words_for(record: Session) -> str:
    """The kind of a record, with its label in parentheses: "session", "handle (basket)"."""
    word = WORDS[record.kind][0]
    return f"{word} ({printable(record.label, 40)})" if record.label else word


def counted(counts: Mapping[Kind, int]) -> str:
    """How many of which kinds, most first: "3 handles and 1 session"; "0 records" for none."""
    present = sorted((kind for kind in KINDS if counts.get(kind)), key=lambda kind: -counts[kind])
    return listed([f"{counts[kind]:,} {WORDS[kind][counts[kind] > 1]}" for kind in present]) or "0 records"


def listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
