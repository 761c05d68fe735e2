"""What keeps ended sessions ended for as long as their ids are good, where ids can open sessions again.

An end leaves a tombstone beside the session in any case. With ON_MISS = "revive" it lives until the session would have
ended by age, and costs a quarter of a kilobyte. So, once it is certain that a small one is kept for it, it is shortened
to its ordinary ten minutes. Whoever asks looks at the small one first, and at the large one last.

The small ones of sessions that would have ended in the same ten minutes are a set, which goes as a whole.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mcp_sessions.connections.defaults import log
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation, Script

TOMBSTONE_MS: Final = 600_000
#: How much longer than a session's deadline a lasting one lives: the id's is by the clock of another machine.
SKEW_MS: Final = 60_000
#: The deadlines whose small ones are kept together. Where 100 sessions end each second, a set goes in milliseconds.
TOGETHER_MS: Final = 600_000

ADD: Final = Script("tombstones_add", "_record", repeatable=True)
HAS: Final = Script("tombstones_has", repeatable=True)
SHORTEN: Final = Script("shorten", repeatable=True)


def compact(deadlines: Mapping[str, int], *, others: Sequence[str] = ()) -> Operation[None]:
    """Make the lasting tombstones of sessions small, by fingerprint with the deadline of each, ms since the epoch.

    `others` are records that no id can open again: they need no small ones. If the store cannot be asked, all stay as
    they are, and as good.
    """
    sets: dict[int, list[bytes]] = {}
    for fingerprint, deadline_ms in deadlines.items():
        sets.setdefault(deadline_ms // TOGETHER_MS, []).append(_half(fingerprint))
    try:
        if sets:
            yield [
                Call(ADD, "", (_part(n),), ((n + 1) * TOGETHER_MS + SKEW_MS, *halves), lambda _, __: None)
                for n, halves in sets.items()
            ]
        yield [
            Call(SHORTEN, fingerprint, ("ended",), (TOMBSTONE_MS,), lambda _, __: None)
            for fingerprint in (*deadlines, *others)
        ]
    except StoreUnavailable as error:
        log.debug("The tombstones of %d sessions stay large: %s", len(deadlines), error)


def has(fingerprint: str, deadline_ms: int) -> Call[bool]:
    """Whether a session has a small tombstone; the deadline is as its id has it, ms since the epoch."""
    moments = (deadline_ms - SKEW_MS, deadline_ms, deadline_ms + SKEW_MS)
    parts = list(dict.fromkeys(_part(each // TOGETHER_MS) for each in moments))
    return Call(HAS, "", parts, (_half(fingerprint),), lambda _, reply: reply == 1)


def _part(number: int) -> str:
    """The part of the key of a set, by the number of its ten minutes since the epoch."""
    return f"tombstones:{number}"


def _half(fingerprint: str) -> bytes:
    """Enough of it: nobody can choose an id that has the same half, because we choose them."""
    return bytes.fromhex(fingerprint)[:16]
