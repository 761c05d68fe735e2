"""What the last requests of a record did: written in batches, behind the answers, and read for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.calls.reading import line

#: The outcomes that count as failures. What its client cancelled, or left, did not fail.
FAILURES: Final = frozenset({"tool error", "error"})
#: The key of a record's last requests, which ends with it.
RECENT: Final = "recent"

# Not repeatable: a request would be there twice, and count twice. What is lost with a connection stays lost.
NOTE: Final = Script("recent_note")
READ: Final = Script("recent_read", repeatable=True)


class Past(NamedTuple):
    """A request that has ended."""

    #: When it ended, milliseconds since the epoch.
    ended_ms: int
    #: How long it took, milliseconds.
    took_ms: int
    #: How it ended, one word or two: "ok", "tool error"…
    outcome: str
    #: The node that answered it, or the beginning of its id.
    node: str
    #: The method, and behind a colon the name of the tool.
    call: str

    @property
    def ended(self) -> datetime:
        return datetime.fromtimestamp(self.ended_ms / 1000, UTC)


class Recent(NamedTuple):
    """The last requests of a record."""

    #: How many have ended since the record was made, or since requests are noted.
    ended: int
    #: How many of them failed.
    failed: int
    #: The last ones, newest first.
    requests: Sequence[Past]


def note(fingerprint: str, requests: Sequence[Past], *, failed: int, most: int) -> Call[bool]:
    """Note requests, oldest first, of which `failed` failed. The last `most` are kept, for as long as the record.

    False if there is no such record.
    """
    kept = requests[-most:]
    arguments = (most, failed, len(requests) - len(kept), *map(_text, kept))
    return Call(NOTE, fingerprint, ("session", RECENT), arguments, lambda _, reply: reply == 1)


def read(fingerprint: str, *, wanted: int, most: int) -> Call[Recent]:
    """The last requests, at most `wanted`, where the last `most` are kept."""
    return Call(READ, fingerprint, (RECENT,), (wanted, most), _recent)


def _text(past: Past) -> str:
    """As one short line: of many sessions, each has many of them."""
    return f"{past.ended_ms:x} {past.took_ms} {_LETTERS.get(past.outcome, 'e')} {past.node} {line(past.call)}"


#: Outcomes as they are stored.
_LETTERS: Final = {"ok": "o", "tool error": "t", "error": "e", "cancelled": "c", "interrupted": "i"}
_OUTCOMES: Final = {letter: outcome for outcome, letter in _LETTERS.items()}


def _recent(_: str, reply: Any) -> Recent:
    ended, failed, *lines = reply
    return Recent(ended, failed, [_past(each.decode()) for each in lines if each])


def _past(text: str) -> Past:
    ended, took, letter, node, call = text.split(" ", 4)
    return Past(int(ended, 16), int(took), _OUTCOMES[letter], node, call)
