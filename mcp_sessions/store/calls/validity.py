"""The moment before which no session of the endpoint counts. It only ever moves forward."""

from typing import Any, Final, NamedTuple

from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.calls.indexes import LONGEST_MS

MIN_CREATED: Final = Script("min_created", "_record", repeatable=True)


class Moment(NamedTuple):
    """Milliseconds since the epoch, by the store's clock."""

    #: Sessions that were opened earlier do not count; 0 if all do.
    min_created_ms: int
    now_ms: int


def min_created(known_ms: int) -> Call[Moment]:
    """The later one of the moment that the store knows and of the one that the caller knows; both know it then.

    It is kept for half a year at least after anybody has asked. It is written only if it changes, or is renewed.
    """
    return Call(MIN_CREATED, "", ("min-created",), (known_ms, LONGEST_MS), _moment)


def end_all_before_now(*, newest_ms: int = 0) -> Call[Moment]:
    """From now on no session counts that was opened before.

    `newest_ms` is when the last one was, as the indexes know it: if the clock was set back, that is ahead of it.
    """
    return Call(MIN_CREATED, "", ("min-created",), ("now", LONGEST_MS, newest_ms + 1), _moment)


def _moment(_: str, reply: Any) -> Moment:
    return Moment(*map(int, reply))
