"""Ends of several sessions that are under way, by an operator or because their time is over.

A process that is killed in the middle leaves them to the others.

All of these may be repeated.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.calls.sessions import EndReason

#: For how long an ending is remembered that nobody finishes.
REMEMBERED_MS: Final = 3_600_000
#: After how long an ending is taken over. Longer than the store may be waited for.
OVERDUE_MS: Final = 15_000
#: Seconds after which who is at work says so again: receivers of the signal may take their time.
SAID_SECONDS: Final = 4.0

_PARTS: Final = ("endings",)
#: What an ending has of which nothing is said.
_NOT_SAID: Final = ((), "over", "", "", None)

BEGIN: Final = Script("ending_begin", "_record", repeatable=True)
FINISH: Final = Script("ending_finish", repeatable=True)
KNOWN: Final = Script("ending_known", repeatable=True)
OVERDUE: Final = Script("ending_overdue", "_record", repeatable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Sessions to end together, why, and for whom."""

    token: str
    fingerprints: Sequence[str]
    #: "over" for those whose time is over: then each has its own reason.
    reason: EndReason | Literal["over"]
    by: str
    #: What the operator says.
    why: str = ""
    #: Only what was created before, milliseconds since the epoch by the store's clock; None for any.
    before_ms: int | None = None


def begin(ending: Ending) -> Call[None]:
    """Remember an ending before its first session ends."""
    what = json.dumps([ending.fingerprints, ending.reason, ending.by, ending.why, ending.before_ms])
    return Call(BEGIN, "", _PARTS, (ending.token, what, REMEMBERED_MS), lambda _, __: None)


class AtWork:
    """Says from time to time that whoever began an ending still works on it, so that nobody takes it over."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._said = time.monotonic()

    def say(self) -> list[Call[None]]:
        """What is to be sent for that; nothing if it was said a moment ago."""
        now = time.monotonic()
        if now - self._said < SAID_SECONDS:
            return []
        self._said = now
        return [begin(self._ending)]


def finish(token: str) -> Call[None]:
    """Forget an ending: its sessions ended, and that was announced."""
    return Call(FINISH, "", _PARTS, (token,), lambda _, __: None)


def is_known(token: str) -> Call[bool]:
    """Whether an ending was begun and is not finished."""
    return Call(KNOWN, "", _PARTS, (token,), lambda _, reply: reply is not None)


def overdue() -> Call[list[Ending]]:
    """The endings that nobody has finished for fifteen seconds; each is given to one caller in that time."""
    return Call(OVERDUE, "", _PARTS, (OVERDUE_MS,), _endings)


def _endings(_: str, reply: Any) -> list[Ending]:
    found = []
    for token, text in zip(reply[::2], reply[1::2], strict=True):
        # An older release says less, and a newer one may say more.
        what: list[Any] = json.loads(text)
        fingerprints, reason, by, why, before_ms = [*what, *_NOT_SAID[len(what) :]][:5]
        found.append(
            Ending(
                token=token.decode(),
                fingerprints=fingerprints,
                reason=reason,
                by=by,
                why=why,
                before_ms=before_ms,
            )
        )
    return found
