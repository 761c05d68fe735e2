"""What is over ends once, with what it held, and leaves every index; what was used meanwhile stays."""

import asyncio
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.records import KINDS, Handshake, Session
from mcp_sessions.store import keys
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import indexes, places, queries, sessions, state, sweeps
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.sweeps import BATCH, LEASE_MS
from tests.store import harness as harnesses
from tests.store.harness import CLAUDE, HOUR, MINUTE, SECOND, Harness, a_fingerprint, client_named
from tests.store.test_kinds import basket
from tests.support.redis import RedisServer

ANN = "issuer|ann"


def taken(fingerprint: str) -> Operation[tuple[str, Handshake]]:
    """The place was taken before."""
    yield []
    return fingerprint, CLAUDE


async def counted(harness: Harness, query: Query) -> int:
    read = queries.page(query, offset=0, limit=0, limits=harness.limits)
    return (await harness.store.run(read)).total


async def test_what_is_over_ends_with_what_it_held_and_leaves_every_index(harness: Harness) -> None:
    harness.limit(max_age_ms=90 * MINUTE)
    idle = await harness.open(principal=ANN)
    await harness.touch(idle, principal=ANN, call="tools/call:remember")
    harness.clock.advance(59 * MINUTE)
    never = await harness.open(principal=ANN, active=False)
    stays = await harness.open(principal=ANN)
    await harness.settled()

    harness.clock.advance(MINUTE)
    ended = await harness.sweep()

    by_fingerprint = {each.fingerprint: each for each in ended}
    assert set(by_fingerprint) == {idle, never}
    assert by_fingerprint[idle].last_call == "tools/call:remember"
    assert (by_fingerprint[idle].principal, by_fingerprint[idle].handshake) == (ANN, CLAUDE)
    for query in (Query(), Query(client="claude-ai"), Query(protocol="2025-11-25"), Query(principal=ANN)):
        assert await counted(harness, query) == 1
    assert await harness.touch(stays, principal=ANN)
    assert await harness.sweep() == []

    harness.clock.advance(59 * MINUTE)
    await harness.touch(stays, principal=ANN)
    harness.clock.advance(30 * MINUTE)
    [old] = await harness.sweep()
    assert (old.fingerprint, old.expires_ms) == (stays, old.deadline_ms)
    assert await counted(harness, Query()) == 0


async def test_other_kinds_are_swept_by_their_own_lifetimes(harness: Harness) -> None:
    for kind in KINDS[1:]:
        harness.limit(idle_ms=30 * MINUTE, first_ms=30 * MINUTE)
        create = sessions.create(
            a_fingerprint(), principal=ANN, handshake=basket(kind, kind=kind), limits=harness.limits
        )
        await harness.store.run(create)
    harness.clock.advance(30 * MINUTE)

    assert sorted(each.kind for each in await harness.sweep()) == sorted(KINDS[1:])
    for kind in KINDS[1:]:
        assert await harness.store.run(indexes.count(limits=harness.limits, kind=kind)) == 0


async def test_a_session_that_was_used_after_its_last_index_update_stays(harness: Harness) -> None:
    fingerprint = await harness.open(principal=ANN)
    await harness.settled()
    harness.clock.advance(30 * SECOND)
    assert await harness.touch(fingerprint, principal=ANN)
    await harness.settled()
    harness.clock.advance(HOUR - 10 * SECOND)

    assert await harness.sweep() == []
    await harness.settled()

    for query in (Query(), Query(client="claude-ai"), Query(principal=ANN)):
        assert await counted(harness, query) == 1
    # Its entry says now when it ends.
    found = await harness.other.run(sweeps.over(keys.home_of(fingerprint), node="sweeper"))
    assert found is not None
    assert found.fingerprints == {}
    assert await harness.touch(fingerprint, principal=ANN)


async def test_one_node_at_a_time_looks_after_a_shard(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.settled()
    harness.clock.advance(HOUR)
    home = keys.home_of(fingerprint)

    first = await harness.store.run(sweeps.over(home, node="a"))
    assert await harness.other.run(sweeps.over(home, node="b")) is None
    assert await harness.store.run(sweeps.over(home, node="a")) == first
    harness.advance(LEASE_MS + 1)

    taken = await harness.other.run(sweeps.over(home, node="b"))
    assert taken is not None
    assert taken.fingerprints == {"session": [fingerprint]}


async def test_of_several_that_sweep_one_gets_each_session_and_a_repeated_sweep_again(
    harness: Harness,
) -> None:
    opened = [await harness.open(principal=ANN) for _ in range(6)]
    await harness.settled()
    harness.clock.advance(HOUR)

    swept = await asyncio.gather(
        *[
            store.run(sweeps.sweep(opened, token=token, limits=harness.limits))
            for store, token in ((harness.store, "one"), (harness.other, "two"), (harness.store, "three"))
        ]
    )

    assert sorted(each.fingerprint for one in swept for each in one.ended) == sorted(opened)
    for token, one in zip(("one", "two", "three"), swept, strict=True):
        again = await harness.other.run(sweeps.sweep(opened, token=token, limits=harness.limits))
        assert sorted(each.fingerprint for each in again.ended) == sorted(
            each.fingerprint for each in one.ended
        )
        await harness.store.run(sweeps.forget(opened, token=token))
        again = await harness.other.run(sweeps.sweep(opened, token=token, limits=harness.limits))
        assert (again.ended, sorted(again.lost)) == ([], sorted(opened))


async def test_a_sweep_spares_what_was_made_again(harness: Harness) -> None:
    """A caller, a conversation or a user: their fingerprints come again."""
    handshake = basket("again", kind="conversation", label="")
    fingerprint = a_fingerprint()

    async def make() -> Session:
        return await harness.store.run(
            sessions.create(
                fingerprint, principal=ANN, handshake=handshake, limits=harness.limits, again=True
            )
        )

    await make()
    await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    harness.advance(MINUTE)
    assert await harness.touch(fingerprint, principal=ANN) is None
    old = await harness.store.run(sweeps.sweep([fingerprint], token="late", limits=harness.limits))
    made = await make()

    # The first call's reply was late: what it drops is older than what is there now.
    again = await harness.store.run(sweeps.sweep([fingerprint], token="late", limits=harness.limits))

    assert again.ended == old.ended
    assert await harness.store.run(sessions.get(fingerprint)) == made
    assert await counted(harness, Query(kind="conversation")) == 1
    assert await counted(harness, Query(kind="conversation", principal=ANN)) == 1
    assert await harness.store.run(state.items(fingerprint)) == {}
    drop = sweeps.drop(
        [fingerprint], home=keys.home_of(fingerprint), kind="conversation", now_ms=made.created_ms - 1
    )
    await harness.store.run(drop)
    assert await counted(harness, Query(kind="conversation")) == 1


async def test_a_record_that_is_over_gives_way_to_one_that_is_made_again(harness: Harness) -> None:
    handshake, fingerprint = basket("", kind="user", label=""), a_fingerprint()
    create = {"principal": ANN, "handshake": handshake, "limits": harness.limits, "again": True}
    first = await harness.store.run(sessions.create(fingerprint, **create))  # type: ignore[arg-type]
    harness.advance(MINUTE)

    second = await harness.store.run(sessions.create(fingerprint, **create))  # type: ignore[arg-type]

    assert second.created_ms == first.created_ms + MINUTE
    assert await harness.sweep() == []


async def test_what_was_lost_without_an_end_leaves_the_indexes_when_it_would_have_ended(
    harness: Harness,
) -> None:
    handshake = client_named("lost")
    await harness.open(handshake=handshake)
    await harness.settled()
    harness.advance(HOUR + 15 * SECOND)

    assert await harness.sweep() == []

    assert await harness.store.run(indexes.count(limits=harness.limits)) == 0
    page = await harness.store.run(
        queries.page(Query(client="lost"), offset=0, limit=5, limits=harness.limits)
    )
    assert (page.sessions, page.total) == ([], 0)


async def test_what_ends_after_the_clock_was_set_back_leaves_every_index(harness: Harness) -> None:
    """What the indexes say of it is from before, and ahead of the clock."""
    idle, ended = [await harness.open(principal=ANN) for _ in range(2)]
    await harness.settled()
    harness.clock.advance(-3 * HOUR)
    for each in (idle, ended):
        assert await harness.touch(each, principal=ANN)
    await harness.settled()

    assert await harness.store.run(sessions.end(ended, principal=None, reason="deleted"))
    queries_ = (Query(), Query(client="claude-ai"), Query(protocol="2025-11-25"), Query(principal=ANN))
    assert [await counted(harness, query) for query in queries_] == [1] * 4
    harness.clock.advance(HOUR)

    assert [each.fingerprint for each in await harness.sweep()] == [idle]
    assert [await counted(harness, query) for query in queries_] == [0] * 4
    for home in keys.homes(harness.limits.shards):
        found = await harness.store.run(sweeps.over(home, node="sweeper"))
        assert found is not None
        assert found.fingerprints == {}


async def test_what_another_release_wrote_is_left_to_its_nodes(
    redis_harness: Harness, redis_server: RedisServer
) -> None:
    """A sweep, a reader and a full index drop none of it, and a node of that release gets the shard at once."""
    opened = [await redis_harness.open(principal=ANN) for _ in range(2)]
    await redis_harness.settled()
    redis_harness.clock.advance(HOUR)
    home = keys.home_of(opened[0])
    with redis_server.client() as redis:
        texts = {each: redis.get(redis_harness.key(each, "session")) for each in opened}
        for each in opened:
            redis.set(redis_harness.key(each, "session"), b"2 another", keepttl=True)

        assert await redis_harness.sweep(node="ours") == []
        page = await redis_harness.store.run(queries.page(Query(), limit=10, limits=redis_harness.limits))
        assert (page.sessions, await counted(redis_harness, Query())) == ([], 2)
        redis_harness.limit(max_sessions=2)
        with pytest.raises(TooManySessions):
            await redis_harness.open()

        for each, text in texts.items():
            redis.set(redis_harness.key(each, "session"), text, keepttl=True)
    theirs = await redis_harness.store.run(sweeps.over(home, node="theirs"))
    assert theirs is not None
    assert sorted(theirs.fingerprints["session"]) == sorted(opened)


async def test_what_another_release_left_behind_holds_nothing_up(
    redis_harness: Harness, redis_server: RedisServer
) -> None:
    left, ours = [await redis_harness.open() for _ in range(2)]
    await redis_harness.settled()
    redis_harness.clock.advance(HOUR)
    with redis_server.client() as redis:
        redis.set(redis_harness.key(left, "session"), b"2 another", keepttl=True)
        assert [each.fingerprint for each in await redis_harness.sweep()] == [ours]
        redis.delete(redis_harness.key(left, "session"))
    assert await redis_harness.sweep() == []
    assert await counted(redis_harness, Query()) == 0


@pytest.mark.parametrize("many", [False, True])
async def test_what_is_opened_and_ended_within_the_difference_of_two_clocks_leaves_every_index(
    redis_harness: Harness, many: bool
) -> None:
    """As on a Cluster: the node that has the indexes is ahead of the one that has the record."""
    fingerprint = a_fingerprint()
    reserve = indexes.reserve(fingerprint, principal=ANN, handshake=CLAUDE, limits=redis_harness.limits)
    redis_harness.clock.advance(2 * SECOND)
    assert await redis_harness.store.run(reserve) is None
    redis_harness.clock.advance(-2 * SECOND)
    arguments = {"principal": ANN, "handshake": CLAUDE, "limits": redis_harness.limits}
    with mock.patch.object(places, "take", return_value=taken(fingerprint)):
        await redis_harness.store.run(sessions.create(fingerprint, **arguments))  # type: ignore[arg-type]
    redis_harness.clock.advance(3 * SECOND)

    if many:
        ends = sessions.end_many(
            [fingerprint], reason="deleted", token="t", shards=redis_harness.limits.shards
        )
        assert (await redis_harness.store.run(ends)).ended
    else:
        assert await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    for query in (Query(), Query(client="claude-ai"), Query(principal=ANN)):
        assert await counted(redis_harness, query) == 0


async def test_more_than_a_batch_is_swept_in_several(harness: Harness) -> None:
    await asyncio.gather(*[harness.open(active=False) for _ in range(BATCH + 20)])
    harness.clock.advance(MINUTE)

    ended: list[Any] = await harness.sweep()
    while len(ended) < BATCH + 20:
        more = await harness.sweep()
        assert more
        ended += more

    assert len({each.fingerprint for each in ended}) == BATCH + 20
    assert await harness.store.run(indexes.count(limits=harness.limits)) == 0


async def test_a_changed_number_of_shards_loses_no_session_and_lists_what_is_used_again(
    redis_caches: Any,
) -> None:
    before = harnesses.redis_harness("standalone")
    opened = [await before.open(principal=ANN) for _ in range(4)]
    await before.settled()
    namespace = before.key("", "clients").split("{")[1].split("}")[0]
    passed = 0
    for shards in (16, 8, 1):
        after = harnesses.redis_harness("standalone", namespace=namespace, shards=shards)
        passed += after.limits.index_ms
        after.clock.advance(passed)
        assert all([await after.touch(fingerprint, principal=ANN) for fingerprint in opened])
        await after.settled()
        assert await counted(after, Query()) == await counted(after, Query(principal=ANN)) == 4
        assert await after.sweep() == []
        await after.aclose()
    await before.aclose()
