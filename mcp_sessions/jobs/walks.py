"""The passes of a job along an index."""

from dataclasses import dataclass
from typing import Any, Final

from mcp_sessions.conf import Limits

#: So many passes along an index must take less than an interval of the index.
_QUICK: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A pass along an index, the oldest activity first. What is used meanwhile moves ahead: the next one meets it.

    To follow what moves for ever is not needed: a record moves in the indexes once in an interval, and once more when
    it is used for the first time. Of those that were not met in a pass that took less, none moved ahead of it twice.
    """

    #: Where it begins, and where it ends; 0 if it has not begun. Milliseconds of last activity.
    since_ms: int = 0
    until_ms: int = 0
    #: The last entry that was looked at.
    after: list[Any] | None = None
    #: How many passes before it were short enough.
    quick: int = 0

    def again(self, until_ms: int, *, now_ms: int, newest_ms: int, limits: Limits) -> "Walk | None":
        """The next pass; None if everything was met.

        If the store's clock was set back, the last one is along what is ahead of it, and does not move when used.
        """
        if self.quick >= _QUICK:
            return None
        quick = self.quick + 1 if now_ms - self.since_ms < limits.index_ms else 0
        if quick < _QUICK:
            return Walk(since_ms=until_ms, until_ms=now_ms, quick=quick)
        return Walk(since_ms=until_ms, until_ms=newest_ms, quick=quick) if newest_ms > now_ms else None
