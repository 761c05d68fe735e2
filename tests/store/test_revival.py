"""Sessions whose records are gone are opened again by their ids, once, and ended ones never."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_sessions import ids
from mcp_sessions.errors import TooManySessions
from mcp_sessions.ids import SignedId
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import (
    indexes,
    queries,
    revival,
    sessions,
    state,
    sweeps,
    tombstones,
    validity,
)
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.revival import Found
from mcp_sessions.store.calls.tombstones import TOMBSTONE_MS
from mcp_sessions.store.keys import shard_of
from tests.store.harness import CLAUDE, DAY, HOUR, MINUTE, Harness
from tests.store.test_kinds import basket
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    """A plain client on the server, emptied first."""
    with redis_server.client(decode_responses=True) as client:
        client.flushall()
        yield client


def an_id(harness: Harness, *, principal: str = ANONYMOUS, ago_ms: int = MINUTE) -> SignedId:
    """The id of a session whose record is gone."""
    return ids.mint(
        CLAUDE,
        principal=principal,
        namespace="shop",
        created_ms=harness.clock() - ago_ms,
        max_age_ms=harness.limits.max_age_ms,
    )


async def revive(
    harness: Harness, session_id: SignedId, *, principal: str = ANONYMOUS, call: str = "tools/call:add"
) -> Found | None:
    work = revival.revive(session_id, principal=principal, handshake=CLAUDE, limits=harness.limits, call=call)
    return await harness.store.run(work)


async def end(harness: Harness, fingerprint: str, *, lasting_ms: int = DAY) -> None:
    assert await harness.store.run(
        sessions.end(fingerprint, principal=None, reason="deleted", lasting_ms=lasting_ms)
    )


async def test_a_lost_session_comes_back_with_its_age_and_without_its_state(harness: Harness) -> None:
    session_id = an_id(harness, ago_ms=HOUR)
    found = await revive(harness, session_id)

    assert found is not None
    assert found.opened
    session = found.session
    assert (session.created_ms, session.deadline_ms) == (session_id.created_ms, session_id.deadline_ms)
    assert session.last_activity_ms == harness.clock()
    assert (session.active, session.initialized, session.revived) == (True, True, True)
    assert (session.requests, session.last_call, session.handshake) == (1, "tools/call:add", CLAUDE)
    assert await harness.store.run(state.names(session.fingerprint)) == []
    assert await harness.touch(session.fingerprint) is not None


async def test_a_session_that_idled_out_comes_back_up_to_its_own_age(harness: Harness) -> None:
    session_id = an_id(harness, ago_ms=0)
    await harness.open(fingerprint=session_id.fingerprint)
    await harness.store.run(state.set_values(session_id.fingerprint, {"a": "1"}, max_bytes=100))
    harness.clock.advance(harness.limits.idle_ms)
    assert await harness.touch(session_id.fingerprint) is None

    found = await revive(harness, session_id)
    assert found is not None
    assert found.opened
    assert found.session.deadline_ms == session_id.deadline_ms
    assert await harness.store.run(state.get(session_id.fingerprint, ["a"])) == [None]

    harness.clock.advance(DAY - harness.limits.idle_ms)
    assert await revive(harness, session_id) is None


async def test_of_several_processes_one_opens_it_and_the_others_find_it(harness: Harness) -> None:
    session_id = an_id(harness)
    both = [revive(harness, session_id) for _ in range(5)]
    found = [each for each in await asyncio.gather(*both) if each is not None]
    assert sorted(each.opened for each in found) == [False] * 4 + [True]
    session = await harness.store.run(sessions.get(session_id.fingerprint))
    assert session is not None
    assert session.requests == 5
    assert await harness.store.run(indexes.count(limits=harness.limits)) == 1


async def test_a_session_that_is_there_is_touched_and_keeps_its_state(harness: Harness) -> None:
    session_id = an_id(harness, ago_ms=0)
    await harness.open(fingerprint=session_id.fingerprint)
    await harness.store.run(state.set_values(session_id.fingerprint, {"a": "1"}, max_bytes=100))
    found = await revive(harness, session_id)
    assert found is not None
    assert not found.opened
    assert not found.session.revived
    assert await harness.store.run(state.get(session_id.fingerprint, ["a"])) == ["1"]


async def test_an_ended_session_stays_ended_until_its_id_is_over(harness: Harness) -> None:
    session_id = an_id(harness, ago_ms=0)
    await harness.open(fingerprint=session_id.fingerprint)
    await end(harness, session_id.fingerprint)
    for _ in range(23):
        assert await revive(harness, session_id) is None
        harness.clock.advance(HOUR)
    assert await harness.store.run(tombstones.has(session_id.fingerprint, session_id.deadline_ms))
    assert await harness.store.run(indexes.count(limits=harness.limits)) == 0
    harness.clock.advance(HOUR)
    assert await revive(harness, session_id) is None


async def test_many_that_end_together_stay_ended(harness: Harness) -> None:
    several = [an_id(harness, ago_ms=0) for _ in range(3)]
    for each in several:
        await harness.open(fingerprint=each.fingerprint)
    handle = await harness.open(handshake=basket("b-1"))
    work = sessions.end_many(
        [*(each.fingerprint for each in several), handle],
        reason="expired_by_operator",
        token="t",
        shards=harness.limits.shards,
        lasting_ms=DAY,
    )
    assert len((await harness.store.run(work)).ended) == 4
    harness.clock.advance(HOUR)
    assert [await revive(harness, each) for each in several] == [None] * 3
    # No id opens a handle again, so nothing lasting is kept of it.
    assert not await harness.store.run(tombstones.has(handle, harness.clock() + harness.limits.max_age_ms))


async def test_a_lost_session_can_be_ended_and_then_does_not_come_back(harness: Harness) -> None:
    session_id = an_id(harness)
    bury = [harness.store.run(revival.bury(session_id, reason="deleted")) for _ in range(2)]
    assert [await each for each in bury] == ["buried", "ended"]
    assert await revive(harness, session_id) is None
    harness.clock.advance(HOUR)
    assert await harness.store.run(revival.bury(session_id, reason="deleted")) == "ended"
    assert await revive(harness, session_id) is None


async def test_an_operator_ends_a_session_whose_record_went_a_moment_ago(
    redis: Any, redis_harness: Harness
) -> None:
    session_id = an_id(redis_harness)
    work = sessions.end_many(
        [session_id.fingerprint], reason="expired_by_operator", token="t", shards=1, lasting_ms=DAY
    )
    assert (await redis_harness.store.run(work)).gone == [session_id.fingerprint]
    assert redis.pttl(redis_harness.key(session_id.fingerprint, "ended")) > DAY
    assert await revive(redis_harness, session_id) is None


async def test_a_session_from_before_the_moment_does_not_come_back(harness: Harness) -> None:
    before = an_id(harness)
    assert (await harness.store.run(validity.end_all_before_now())).min_created_ms == harness.clock()
    assert await revive(harness, before) is None
    assert await revive(harness, an_id(harness, ago_ms=0)) is not None


async def test_only_a_lost_session_that_is_not_over_is_buried(harness: Harness) -> None:
    there = an_id(harness, ago_ms=0)
    await harness.open(fingerprint=there.fingerprint)
    assert await harness.store.run(revival.bury(there, reason="deleted")) == "revived"
    assert await harness.touch(there.fingerprint) is not None
    over = an_id(harness, ago_ms=DAY)
    assert await harness.store.run(revival.bury(over, reason="deleted")) == "over"
    for each in (there, over):
        assert not await harness.store.run(tombstones.has(each.fingerprint, each.deadline_ms))


async def test_the_caps_hold_for_sessions_that_come_back(harness: Harness) -> None:
    harness.limit(max_sessions=2, max_sessions_per_principal=1)
    shards = harness.limits.shards

    def id_in(shard: int, principal: str) -> SignedId:
        """Of several shards, the first two have one place each."""
        while shard_of((made := an_id(harness, principal=principal)).fingerprint, shards) != shard:
            pass
        return made

    assert await revive(harness, id_in(0, "user:1"), principal="user:1")
    with pytest.raises(TooManySessions):
        await revive(harness, id_in(shards > 1, "user:1"), principal="user:1")
    assert await revive(harness, id_in(shards > 1, "user:2"), principal="user:2")
    refused = an_id(harness, principal="user:3")
    with pytest.raises(TooManySessions):
        await revive(harness, refused, principal="user:3")
    assert await harness.store.run(sessions.get(refused.fingerprint)) is None


async def test_a_tool_that_has_dealt_with_it_makes_it_an_ordinary_session(harness: Harness) -> None:
    found = await revive(harness, an_id(harness))
    assert found is not None
    fingerprint = found.session.fingerprint
    again = await harness.touch(fingerprint)
    assert again is not None
    assert again.revived
    assert await harness.store.run(revival.settle(fingerprint))
    ordinary = await harness.touch(fingerprint)
    assert ordinary is not None
    assert not ordinary.revived
    assert (ordinary.active, ordinary.initialized) == (True, True)
    await end(harness, fingerprint)
    assert not await harness.store.run(revival.settle(fingerprint))


async def test_ends_and_revivals_at_the_same_moment_leave_no_session(harness: Harness) -> None:
    for _ in range(30):
        session_id = an_id(harness, ago_ms=0)
        await harness.open(fingerprint=session_id.fingerprint)
        ends = sessions.end(session_id.fingerprint, principal=None, reason="deleted", lasting_ms=DAY)
        outcomes = await asyncio.gather(
            *[revive(harness, session_id) for _ in range(3)],
            harness.other.run(ends),
            *[revive(harness, session_id) for _ in range(3)],
        )
        assert not any(isinstance(each, Found) and each.opened for each in outcomes)
        assert await harness.touch(session_id.fingerprint) is None
        assert await revive(harness, session_id) is None


async def test_an_unreadable_record_is_left_alone(redis: Any, redis_harness: Harness) -> None:
    session_id = an_id(redis_harness)
    key = redis_harness.key(session_id.fingerprint, "session")
    redis.set(key, "9 a newer release wrote this", px=HOUR)
    assert await revive(redis_harness, session_id) is None
    assert redis.get(key) == "9 a newer release wrote this"


async def test_a_tombstone_shrinks_only_when_the_small_one_is_there(
    redis: Any, redis_harness: Harness
) -> None:
    """As the process is killed after each of its commands: whatever was acknowledged holds."""
    for steps in (1, 2, 3, 4):
        session_id = an_id(redis_harness, ago_ms=0)
        await redis_harness.open(fingerprint=session_id.fingerprint)
        work = sessions.end(session_id.fingerprint, principal=None, reason="deleted", lasting_ms=DAY)
        calls = next(work)
        for _ in range(steps - 1):
            calls = work.send(await redis_harness.store.run_all(calls))
        await redis_harness.store.run_all(calls)
        work.close()

        large = redis.pttl(redis_harness.key(session_id.fingerprint, "ended"))
        small = await redis_harness.store.run(tombstones.has(session_id.fingerprint, session_id.deadline_ms))
        assert (large > TOMBSTONE_MS) == (steps < 4)
        assert small == (steps >= 3)
        assert await revive(redis_harness, session_id) is None
        if small:  # as after ten minutes
            redis.delete(redis_harness.key(session_id.fingerprint, "ended"))
            assert await revive(redis_harness, session_id) is None


async def test_without_lasting_nothing_is_kept_for_longer(redis: Any, redis_harness: Harness) -> None:
    session_id = an_id(redis_harness, ago_ms=0)
    await redis_harness.open(fingerprint=session_id.fingerprint)
    await end(redis_harness, session_id.fingerprint, lasting_ms=0)
    assert redis.pttl(redis_harness.key(session_id.fingerprint, "ended")) <= TOMBSTONE_MS
    assert not list(redis.scan_iter("*tombstones*"))


async def test_a_session_that_is_opened_again_while_it_is_swept_stays_listed(harness: Harness) -> None:
    session_id = an_id(harness, ago_ms=0)
    await harness.open(fingerprint=session_id.fingerprint)
    await harness.settled()
    harness.clock.advance(HOUR)
    sweep = sweeps.sweep([session_id.fingerprint], token="t", limits=harness.limits)
    outcomes = await harness.store.run_all(next(sweep))
    assert await revive(harness, session_id) is not None
    await harness.settled()
    await harness.store.run_all(sweep.send(outcomes))
    sweep.close()

    page = await harness.store.run(queries.page(Query(), offset=0, limit=5, limits=harness.limits))
    assert [each.fingerprint for each in page.sessions] == [session_id.fingerprint]


async def test_what_is_left_of_a_record_that_is_gone_is_not_that_of_the_session_that_is_opened_again(
    redis: Any, redis_harness: Harness
) -> None:
    """A server that is short of memory may drop the record alone."""
    harness, session_id = redis_harness, an_id(redis_harness, ago_ms=0)
    fingerprint = session_id.fingerprint
    await harness.open(fingerprint=fingerprint)
    await harness.store.run(sessions.change_tools(fingerprint, enable=["paint"]))
    await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    redis.delete(harness.key(fingerprint, "session"))

    assert await revive(harness, session_id) is not None

    assert await harness.store.run(state.names(fingerprint)) == []
    assert await harness.store.run(sessions.change_tools(fingerprint, enable=["sing"])) == frozenset({"sing"})
