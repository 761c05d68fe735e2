"""How many passes along an index a job needs, and from where to where."""

from dataclasses import replace

import pytest

from mcp_sessions.conf import Endpoint
from mcp_sessions.jobs.walks import Walk

LIMITS = Endpoint(alias="default", server="unused").limits
#: The interval in which the index is written.
INTERVAL = LIMITS.index_ms
FIRST = Walk(since_ms=10_000, until_ms=20_000, after=[1, "ab"])


def test_after_two_quick_passes_in_a_row_everything_was_met() -> None:
    quick = 10_000 + INTERVAL - 1
    second = FIRST.again(20_000, now_ms=quick, newest_ms=0, limits=LIMITS)
    assert second == Walk(since_ms=20_000, until_ms=quick, quick=1)
    assert second.again(quick, now_ms=quick, newest_ms=quick, limits=LIMITS) is None


@pytest.mark.parametrize("now_ms", [10_000 + INTERVAL, 10_000 + 60 * INTERVAL])
def test_a_pass_that_took_an_interval_of_the_index_counts_for_nothing(now_ms: int) -> None:
    walk = replace(FIRST, quick=1)
    assert walk.again(20_000, now_ms=now_ms, newest_ms=0, limits=LIMITS) == Walk(
        since_ms=20_000, until_ms=now_ms, quick=0
    )


def test_what_is_ahead_of_a_clock_that_was_set_back_is_the_last_pass() -> None:
    walk = replace(FIRST, quick=1)
    ahead = walk.again(20_000, now_ms=10_500, newest_ms=10_501, limits=LIMITS)
    assert ahead == Walk(since_ms=20_000, until_ms=10_501, quick=2)
    assert ahead.again(10_501, now_ms=10_600, newest_ms=99_999, limits=LIMITS) is None
    assert Walk() == Walk(since_ms=0, until_ms=0, after=None, quick=0)
