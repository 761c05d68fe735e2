"""The indexes in Redis are hints: seldom written, bounded, corrected by readers, and never the reason for a failure."""

import asyncio
import logging
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.connections import sync_connections
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import indexes, queries, sessions
from mcp_sessions.store.calls.healing import HEAL_INTERVAL_MS, MOST_WAITING
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.drivers import synchronous
from mcp_sessions.store.drivers.asynchronous import RedisStore
from tests.store.harness import CLAUDE, DAY, HOUR, LIMITS, MINUTE, SECOND, Harness, client_named
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    with redis_server.client() as client:
        client.flushall()
        yield client


def lose(redis: Any, harness: Harness, fingerprint: str) -> None:
    """Delete the record but not its index entries, as when its TTL ends."""
    assert redis.delete(harness.key(fingerprint, "session")) == 1


def indexed(redis: Any, harness: Harness) -> dict[str, set[str]]:
    """What each index holds."""
    keys = {key.decode() for key in redis.scan_iter("*index:*")}
    return {key.split("index:")[1]: {member.hex() for member in redis.zrange(key, 0, -1)} for key in keys}


async def test_a_session_is_in_each_of_its_indexes_by_last_activity(
    redis: Any, redis_harness: Harness
) -> None:
    fingerprint = await redis_harness.open()
    await redis_harness.settled()

    assert set(map(frozenset, indexed(redis, redis_harness).values())) == {frozenset({fingerprint})}
    [place] = indexes.places(fingerprint, CLAUDE, ANONYMOUS)
    for key in redis_harness.keys.resolve(place.home, place.indexes):
        assert redis.zrange(key, 0, -1, withscores=True) == [
            (bytes.fromhex(fingerprint), float(redis_harness.clock.now))
        ]


async def test_one_index_says_when_each_session_ends(redis: Any, redis_harness: Harness) -> None:
    active, new = await redis_harness.open(), await redis_harness.open(active=False)
    await redis_harness.settled()
    now = redis_harness.clock.now

    assert dict(redis.zrange(redis_harness.key("", "index:ends"), 0, -1, withscores=True)) == {
        bytes.fromhex(active): now + HOUR,
        bytes.fromhex(new): now + MINUTE,
    }


@pytest.mark.parametrize(
    ("idle_ms", "interval_ms"),
    [(10 * SECOND, 5 * SECOND), (10 * MINUTE, 10 * SECOND), (HOUR, MINUTE), (30 * DAY, MINUTE)],
)
def test_the_interval_of_updates_follows_the_idle_ttl(idle_ms: int, interval_ms: int) -> None:
    assert replace(LIMITS, idle_ms=idle_ms).index_ms == interval_ms


async def test_a_busy_session_is_indexed_once_in_an_interval(redis: Any, redis_harness: Harness) -> None:
    fingerprint = await redis_harness.open()
    await redis_harness.settled()
    redis.config_resetstat()

    for _ in range(100):
        redis_harness.clock.advance(redis_harness.limits.index_ms // 25)
        await redis_harness.touch(fingerprint)
        await redis_harness.store.run(sessions.keep([fingerprint], limits=redis_harness.limits))

    await redis_harness.settled()
    assert calls(redis)["evalsha"] == 100 + 100 + 4


@pytest.mark.parametrize("first_ms", [MINUTE, 24 * HOUR])
async def test_the_first_request_is_indexed_at_once(
    redis: Any, redis_harness: Harness, first_ms: int
) -> None:
    """Also if until then the session was to end at its maximum age."""
    redis_harness.limits = replace(redis_harness.limits, first_ms=first_ms)
    fingerprint = await redis_harness.open(active=False)
    redis_harness.clock.advance(1)
    await redis_harness.touch(fingerprint)
    await redis_harness.settled()

    assert redis.zscore(redis_harness.key("", "index:ends"), bytes.fromhex(fingerprint)) == (
        redis_harness.clock.now + HOUR
    )


@pytest.mark.parametrize("query", [Query(), Query(client="claude-ai"), Query(principal=ANONYMOUS)])
async def test_a_reader_drops_the_entries_of_sessions_that_are_gone(
    redis: Any, redis_harness: Harness, query: Query
) -> None:
    opened = [await redis_harness.open() for _ in range(4)]
    await redis_harness.settled()
    lose(redis, redis_harness, opened[1])

    page = redis_harness.sync.run(queries.page(query, offset=0, limit=10, limits=redis_harness.limits))

    assert {session.fingerprint for session in page.sessions} == {opened[0], opened[2], opened[3]}
    assert page.total == 3
    assert redis_harness.sync.run(indexes.count(limits=redis_harness.limits)) == 3
    assert (
        redis_harness.sync.run(queries.page(query, offset=0, limit=10, limits=redis_harness.limits)).total
        == 3
    )


async def test_a_lost_session_makes_room_under_a_full_cap(redis: Any, redis_harness: Harness) -> None:
    redis_harness.limit(max_sessions=3, max_sessions_per_principal=2)
    for principal in ("issuer|ann", "issuer|ann", "issuer|bob"):
        last = await redis_harness.open(principal=principal)
    await redis_harness.settled()
    with pytest.raises(TooManySessions):
        await redis_harness.open(principal="issuer|bob")

    lose(redis, redis_harness, last)
    redis_harness.clock.advance(HEAL_INTERVAL_MS)

    await redis_harness.open(principal="issuer|bob")


async def test_a_principals_lost_session_makes_room_under_its_cap(redis: Any, redis_harness: Harness) -> None:
    redis_harness.limit(max_sessions_per_principal=2)
    first, _ = [await redis_harness.open(principal="issuer|ann") for _ in range(2)]
    with pytest.raises(TooManySessions):
        await redis_harness.open(principal="issuer|ann")

    lose(redis, redis_harness, first)
    redis_harness.clock.advance(HEAL_INTERVAL_MS)

    await redis_harness.open(principal="issuer|ann")


async def test_a_flood_of_refused_sessions_looks_for_gone_ones_once_a_second(
    redis: Any, redis_harness: Harness
) -> None:
    redis_harness.limit(max_sessions=50)
    await asyncio.gather(*[redis_harness.open() for _ in range(50)])
    await redis_harness.settled()
    redis.config_resetstat()

    refused = await asyncio.gather(*[redis_harness.open() for _ in range(100)], return_exceptions=True)

    assert all(isinstance(each, TooManySessions) for each in refused)
    waiting = MOST_WAITING * 16  # a check takes a few round trips, more of them on a busy machine
    assert calls(redis)["evalsha"] < 100 + 50 + 10 + waiting


async def test_an_index_that_was_lost_fills_again_as_sessions_are_used(
    redis: Any, redis_harness: Harness
) -> None:
    opened = [await redis_harness.open() for _ in range(3)]
    await redis_harness.settled()
    redis.delete(redis_harness.key("", "index:activity"))
    assert redis_harness.sync.run(indexes.count(limits=redis_harness.limits)) == 0

    redis_harness.clock.advance(redis_harness.limits.index_ms)
    for fingerprint in opened:
        await redis_harness.touch(fingerprint)
    await redis_harness.settled()

    assert redis_harness.sync.run(indexes.count(limits=redis_harness.limits)) == 3


async def test_a_late_index_update_does_not_move_a_session_back(redis: Any, redis_harness: Harness) -> None:
    fingerprint = await redis_harness.open()
    early = await redis_harness.store.run(sessions.get(fingerprint))
    redis_harness.clock.advance(MINUTE)
    await redis_harness.touch(fingerprint)
    await redis_harness.settled()
    assert early is not None

    await redis_harness.store.run_all(indexes.update(early, limits=redis_harness.limits))

    activity = redis_harness.key("", "index:activity")
    assert redis.zscore(activity, bytes.fromhex(fingerprint)) == redis_harness.clock.now


async def test_a_late_index_update_does_not_bring_back_a_session_that_ended(
    redis: Any, redis_harness: Harness
) -> None:
    fingerprint = await redis_harness.open()
    last = await redis_harness.store.run(sessions.get(fingerprint))
    await redis_harness.settled()
    assert last is not None
    await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    await redis_harness.store.run_all(indexes.update(last, limits=redis_harness.limits))

    assert indexed(redis, redis_harness) == {"gone": {fingerprint}}


async def test_sessions_that_never_became_active_leave_nothing(redis: Any, redis_harness: Harness) -> None:
    for number in range(5):
        await redis_harness.open(
            principal=f"issuer|{number}", handshake=client_named(f"client {number}"), active=False
        )

    for key in redis.scan_iter("*index:*"):
        assert 0 < redis.pttl(key) <= redis_harness.limits.first_ms + indexes.SWEPT_MS


async def test_no_request_fails_because_an_index_update_fails(
    redis: Any, redis_harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_harness.open(active=False)
    redis.set(redis_harness.key("", "index:activity"), "of another type", px=HOUR)
    caplog.set_level(logging.DEBUG, logger="mcp_sessions.store")

    assert await redis_harness.touch(fingerprint) is not None
    await redis_harness.settled()

    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    with pytest.raises(StoreUnavailable):
        redis_harness.sync.run(indexes.count(limits=redis_harness.limits))
    assert (
        await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted")) is not None
    )


async def test_index_updates_that_would_pile_up_are_dropped(redis: Any, redis_harness: Harness) -> None:
    opened = [await redis_harness.open(active=False) for _ in range(3)]

    full = mock.Mock(is_open=True)
    assert isinstance(redis_harness.store, RedisStore)
    [loop] = redis_harness.store._loops.values()
    with mock.patch.object(loop.pipelines.by_name["follow_ups"], "_breaker", full):
        touched = await asyncio.gather(*[redis_harness.touch(each) for each in opened])

    assert all(touched)
    await redis_harness.settled()
    ends = redis.zrange(redis_harness.key("", "index:ends"), 0, -1, withscores=True)
    assert {score for _, score in ends} == {redis_harness.clock.now + MINUTE}


def calls(redis: Any) -> dict[str, int]:
    """How often each command was called by clients and scripts since the last reset."""
    stats = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): counts["calls"] for name, counts in stats.items()}


async def test_a_page_is_one_range_read_and_one_pipeline_however_many_sessions(
    redis: Any, redis_harness: Harness
) -> None:
    for _ in range(60):
        await redis_harness.open()
    await redis_harness.settled()
    redis_harness.sync.run(queries.page(Query(), offset=0, limit=50, limits=redis_harness.limits))
    executed: list[int] = []

    def execute(client: Any, commands: Any) -> Any:
        executed.append(len(commands))
        return sync_connections.execute(client, commands)

    with mock.patch.object(synchronous, "execute", execute):
        for query in (Query(), Query(client="claude-ai"), Query(active_since_ms=1)):
            redis_harness.sync.run(queries.page(query, offset=5, limit=50, limits=redis_harness.limits))

    assert executed == [1, 50] * 3


async def test_nothing_ever_scans_the_keys(redis: Any, redis_harness: Harness) -> None:
    redis.config_resetstat()
    for _ in range(5):
        fingerprint = await redis_harness.open()
    redis_harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=redis_harness.limits))
    redis_harness.sync.run(queries.find(fingerprint[:8], limit=10, limits=redis_harness.limits))
    redis_harness.sync.run(indexes.count(limits=redis_harness.limits))
    redis_harness.sync.run(indexes.clients(limits=redis_harness.limits))
    redis_harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
    await redis_harness.settled()

    assert not {"keys", "scan", "zscan", "hscan"} & set(calls(redis))


async def test_touches_of_one_tick_are_one_command_in_one_round_trip(
    redis: Any, redis_harness: Harness
) -> None:
    opened = [await redis_harness.open() for _ in range(10)]
    await redis_harness.settled()
    redis.config_resetstat()
    before = redis.info("stats")["total_reads_processed"]

    await asyncio.gather(*[redis_harness.touch(each) for each in opened])

    reads = redis.info("stats")["total_reads_processed"] - before
    assert calls(redis)["evalsha"] == 1
    assert reads <= 3, "one for the touches, two for asking"


async def test_a_long_page_of_sessions_that_are_gone_is_dropped_in_parts(
    redis: Any, redis_harness: Harness
) -> None:
    """One script drops only so many: others wait for it."""
    fingerprint = await redis_harness.open()
    await redis_harness.settled()
    activity = redis_harness.key("", "index:activity")
    gone = {number.to_bytes(32, "big"): redis_harness.clock.now for number in range(8_500)}
    redis.zadd(activity, gone)

    page = queries.page(Query(), limits=redis_harness.limits, offset=0, limit=9_000)
    found = await redis_harness.store.run(page)

    assert ([each.fingerprint for each in found.sessions], found.total) == ([fingerprint], 1)
    assert redis.zcard(activity) == 1
