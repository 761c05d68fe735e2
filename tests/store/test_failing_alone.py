"""Which calls give their error as a result, so that a part of the store that is away takes nothing from the others."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_sessions.conf.rates import limits_of
from mcp_sessions.connections.round_trips import Job, NoReply
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import looks, rates, sessions, sweeps
from mcp_sessions.store.calls.looks import Found, Held
from mcp_sessions.store.drivers.embedded import SyncEmbeddedStore
from mcp_sessions.store.drivers.synchronous import run_together
from tests.store.harness import HOUR, Harness, embedded_harness


class HalfAway(SyncEmbeddedStore):
    """A store of which the part with one key is away."""

    away = "nothing"

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        lost = NoReply(RedisConnectionError("away"), sent=False)
        replies: list[Any] = []
        for job in jobs:
            replies += [lost] if self.away in job[1][0] else super()._replies([job])
        return replies


@pytest.fixture
def harness() -> Harness:
    made = embedded_harness()
    assert isinstance(made.sync, SyncEmbeddedStore)
    made.sync = HalfAway(made.keys, made.sync.engine)
    return made


async def two(harness: Harness) -> tuple[str, str]:
    """Two sessions, of which the first is away from now on."""
    away, there = [await harness.open() for _ in range(2)]
    assert isinstance(harness.sync, HalfAway)
    harness.sync.away = away
    return away, there


async def test_a_look_finds_what_is_there(harness: Harness) -> None:
    away, there = await two(harness)
    lost, found = harness.sync.run(looks.look([Held(away), Held(there)]))
    assert isinstance(lost, StoreUnavailable)
    assert found == Found(0)


async def test_of_many_those_end_that_are_there_and_it_is_known_which_are_not(harness: Harness) -> None:
    away, there = await two(harness)
    end = sessions.end_many([away, there], reason="expired_by_operator", token="t", shards=1)
    ends = harness.sync.run(end)
    assert ([each.fingerprint for each in ends.ended], ends.unknown, ends.gone) == ([there], [away], [])
    assert isinstance(ends.failure, StoreUnavailable)
    again = harness.sync.run(sessions.end_many([there], reason="idle", token="u", shards=1))
    assert (again.ended, again.unknown, again.gone, again.failure) == ([], [], [there], None)


async def test_a_sweep_says_that_it_is_not_complete(harness: Harness) -> None:
    away, there = await two(harness)
    harness.clock.advance(HOUR)
    swept = harness.sync.run(sweeps.sweep([away, there], token="t", limits=harness.limits))
    assert ([each.fingerprint for each in swept.ended], swept.lost, swept.complete) == ([there], [], False)
    assert harness.sync.run(sweeps.sweep([there], token="t", limits=harness.limits)).complete


async def test_a_bucket_that_cannot_be_asked_refuses_nothing(harness: Harness) -> None:
    limits = limits_of({"requests per principal": "1/h"})
    wanted = rates.buckets(limits, ("requests",), rates.Who("issuer|ann"), shards=1)
    assert isinstance(harness.sync, HalfAway)
    harness.sync.away = wanted[0].part
    [verdict] = harness.sync.run_all(rates.spend(wanted))
    assert isinstance(verdict, StoreUnavailable)


async def test_any_other_call_fails_with_those_beside_it(harness: Harness) -> None:
    away, there = await two(harness)
    with pytest.raises(StoreUnavailable, match="away"):
        harness.sync.run_all([sessions.get(there), sessions.get(away)])
    with pytest.raises(StoreUnavailable, match="away"):
        run_together([(harness.sync, sessions.keep([there, away], limits=harness.limits))])
