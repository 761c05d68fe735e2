"""Bounds to the millisecond, the byte and the entry: on the engine, whose clock stands still until a test moves it."""

import time
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.conf.rates import limits_of
from mcp_sessions.counting import Counts
from mcp_sessions.engine import Engine
from mcp_sessions.errors import StateTooLarge, TooManySessions
from mcp_sessions.store.calls import (
    counts,
    endings,
    indexes,
    nodes,
    places,
    rates,
    sessions,
    state,
    streams,
    validity,
)
from mcp_sessions.store.calls.endings import AtWork, Ending
from mcp_sessions.store.calls.healing import Healing
from mcp_sessions.store.drivers.embedded import SyncEmbeddedStore
from mcp_sessions.store.keys import Keys
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import (
    CLAUDE,
    DAY,
    EXCHANGE,
    FIRST,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Harness,
    a_fingerprint,
    embedded_harness,
    payloads,
)
from tests.store.test_revival import an_id, revive


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


def redis(harness: Harness, *words: Any) -> Any:
    """Run a command on what the store holds."""
    assert isinstance(harness.sync, SyncEmbeddedStore)
    return harness.sync.engine.eval("return redis.call(unpack(ARGV))", (), words)


def test_the_stores_clock_is_in_whole_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: START * 1_000_000 + 999_999_999)
    store = SyncEmbeddedStore(Keys("clock", str), Engine())
    assert store.run(validity.min_created(0)).now_ms == START + 999
    monkeypatch.setattr(time, "time_ns", lambda: START * 1_000_000 + 1_000_000_000)
    assert store.run(validity.min_created(0)).now_ms == START + 1_000


async def test_a_node_is_forgotten_after_its_time_and_not_at_its_end(harness: Harness) -> None:
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    harness.advance(MINUTE)
    for known in (["a", "b"], ["b"]):
        await harness.store.run(nodes.beat("b", about="{}", forget_after_ms=MINUTE))
        assert [each.id for each in await harness.store.run(nodes.list_nodes())] == known
        harness.advance(1)


async def test_a_node_that_begins_to_read_gets_the_broadcasts_of_the_time_that_it_asks_for(
    harness: Harness,
) -> None:
    await harness.store.run(nodes.broadcast(b"one"))
    harness.advance(1)
    await harness.store.run(nodes.broadcast(b"two"))
    harness.advance(MINUTE - 2)
    for expected in ([b"one", b"two"], [b"two"], []):
        _, found = await harness.store.run(nodes.broadcasts(after="", age_ms=MINUTE))
        assert list(found) == expected
        harness.advance(1)


async def test_whoever_must_wait_learns_of_the_longest_wait_in_whole_milliseconds(harness: Harness) -> None:
    for setting in (
        {"requests per session": "3/s", "requests per principal": "1/h"},
        {"requests per session": "1/h", "requests per principal": "3/s"},
    ):
        who = rates.Who(f"issuer|{len(setting)}", a_fingerprint())
        limits = limits_of(setting)
        wanted = rates.buckets(limits, ("requests",), who._replace(principal=who.session or ""), shards=1)
        for hourly in (True, False):
            some = [each for each in wanted if (each.limit.rate[1] == HOUR) == hourly]
            while (lacking := (await harness.store.run_all(rates.spend(some)))[0]) is None:
                pass
            assert lacking.wait_ms == (HOUR if hourly else 334)
        [lacking] = await harness.store.run_all(rates.spend(wanted))
        assert (lacking.bucket.limit.rate[1], lacking.wait_ms) == (HOUR, HOUR)
        harness.advance(333)
        [lacking] = await harness.store.run_all(rates.spend(some))
        assert lacking.wait_ms == 1
        harness.advance(1)
        assert await harness.store.run_all(rates.spend(some)) == [None]


async def test_an_ending_is_taken_over_after_its_time_also_if_the_clock_was_set_back(
    harness: Harness,
) -> None:
    ending = Ending(token="one", fingerprints=[], reason="idle", by="")
    await harness.store.run(endings.begin(ending))
    harness.advance(15 * SECOND - 1)
    assert await harness.store.run(endings.overdue()) == []
    harness.clock.advance(1 - 30 * SECOND)
    assert await harness.store.run(endings.overdue()) == [ending]
    assert await harness.store.run(endings.overdue()) == []


def test_whoever_works_on_an_ending_says_so_every_four_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = Ending(token="one", fingerprints=["a"], reason="idle", by="ann")
    moments = iter((100.0, 103.9, 104.0, 104.1, 107.9, 108.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    work = AtWork(ending)
    said = [work.say() for _ in range(5)]
    assert [len(calls) for calls in said] == [0, 1, 0, 0, 1]
    assert said[1][0].arguments == endings.begin(ending).arguments


async def test_a_log_may_be_as_large_as_its_bound(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_bytes=9)
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"1234", b"5678", b"9")
    batch = await harness.read(fingerprint, await harness.claim(fingerprint))
    assert payloads(batch) == [b"1234", b"5678", b"9"]


async def test_the_bytes_of_a_log_that_was_dropped_do_not_count(harness: Harness) -> None:
    """A server that is short of memory may drop it, and not what is known of it."""
    harness.stream_limits = replace(harness.stream_limits, max_bytes=10)
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"12345678")
    redis(harness, "DEL", harness.key(fingerprint, "stream:" + EXCHANGE))
    await harness.append(fingerprint, b"1234", b"5678", first=2)
    assert await harness.kept(fingerprint) == [(2, b"1234"), (3, b"5678")]


async def test_what_a_client_only_says_that_it_has_is_not_taken_for_delivered(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.publish(fingerprint, b"one", b"two")
    for after, found in ((FIRST + 1, []), (None, [b"one", b"two"]), (None, [])):
        taken = await harness.claim(fingerprint, stream=STANDALONE, after=after)
        assert payloads(await harness.read(fingerprint, taken, stream=STANDALONE)) == found


async def test_of_ended_streams_that_hold_nothing_the_oldest_goes_first(harness: Harness) -> None:
    fingerprint = await harness.open()
    for name in ("ff", "00"):
        opened = streams.open_stream(
            fingerprint, name, node="a", request_id="7", limits=harness.stream_limits
        )
        await harness.store.run(opened)
        await harness.store.run(streams.finish(fingerprint, name, kept=1, kept_bytes=100, ttl_ms=MINUTE))
    kept = await harness.store.run(streams.keep([(fingerprint, name) for name in ("ff", "00")]))
    assert kept == {(fingerprint, "00")}


async def test_a_batch_of_counts_is_known_for_ten_minutes(harness: Harness) -> None:
    async def total() -> int:
        some = counts.add(Counts({"seen": 1}), by="a", batch="1", now_ms=harness.clock())
        await harness.store.run(some)
        return (await harness.store.run(counts.totals())).numbers["seen"]

    assert await total() == 1
    harness.advance(10 * MINUTE)
    assert await total() == 1
    harness.advance(1)
    assert await total() == 2


async def test_a_value_may_fill_the_state(harness: Harness) -> None:
    fingerprint = await harness.open()
    run = harness.store.run
    with pytest.raises(StateTooLarge):
        await run(state.incr(fingerprint, "n", 1, max_bytes=1))
    assert await run(state.incr(fingerprint, "n", 1, max_bytes=2)) == "1"
    with pytest.raises(StateTooLarge):
        await run(state.append(fingerprint, "l", "1", max_bytes=5))
    assert await run(state.append(fingerprint, "l", "1", max_bytes=6)) == 1
    assert await run(state.texts(fingerprint)) == {"l": "[1]", "n": "1"}


async def test_a_new_session_clears_a_few_entries_of_its_indexes_that_can_belong_to_no_session(
    harness: Harness,
) -> None:
    key = harness.key("", "index:activity")
    oldest = harness.clock() - harness.limits.max_age_ms - indexes.slack_ms(harness.limits)
    for number in range(25):
        redis(harness, "ZADD", key, oldest - 1 - number, bytes([number]) * 32)
    redis(harness, "ZADD", key, oldest, b"a" * 32)
    left = []
    for _ in range(4):
        await harness.open(active=False)
        left.append(redis(harness, "ZCARD", key))
    assert left == [17, 8, 4, 5]


async def test_a_place_that_was_taken_a_moment_ago_is_not_that_of_a_lost_session(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record comes a moment later."""
    harness.limit(max_sessions=1)
    taken = a_fingerprint()
    place = indexes.reserve(taken, principal="issuer|ann", handshake=CLAUDE, limits=harness.limits)
    assert await harness.store.run(place) is None
    for passed in (0, SECOND - 1, 1):
        harness.advance(passed)
        monkeypatch.setattr(places, "healing", Healing())
        if passed == 1:
            assert await harness.open()
        else:
            with pytest.raises(TooManySessions):
                await harness.open()
        left = redis(harness, "ZSCORE", harness.key("", "index:activity"), bytes.fromhex(taken))
        assert (left is None) == (passed == 1)


async def test_it_is_remembered_for_half_a_minute_which_sessions_ended(harness: Harness) -> None:
    opened = [await harness.open() for _ in range(4)]
    for fingerprint, passed, remembered in zip(
        opened,
        (0, 20 * SECOND, 10 * SECOND, 1),
        (opened[:1], opened[:2], opened[:3], opened[1:]),
        strict=True,
    ):
        harness.advance(passed)
        await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
        gone = redis(harness, "ZRANGE", harness.key("", "index:gone"), 0, -1)
        assert {each.hex() for each in gone} == set(remembered)


async def ends_at(harness: Harness, fingerprint: str) -> int:
    """When a session ends as its index says."""
    return int(redis(harness, "ZSCORE", harness.key("", "index:ends"), bytes.fromhex(fingerprint)))


async def test_an_index_learns_at_once_that_a_session_ends_earlier(harness: Harness) -> None:
    """Its idle TTL reached beyond its maximum age, and is shorter now."""
    harness.limit(idle_ms=2 * DAY)
    fingerprint = await harness.open()
    assert await ends_at(harness, fingerprint) == START + DAY
    harness.limit(idle_ms=MINUTE)
    harness.advance(1)
    await harness.touch(fingerprint)
    assert await ends_at(harness, fingerprint) == harness.clock() + MINUTE


async def test_an_index_knows_when_a_session_ends_that_its_id_opened_again(harness: Harness) -> None:
    session_id = an_id(harness)
    for opened in (True, False):
        found = await revive(harness, session_id)
        assert found is not None
        assert found.opened == opened
        assert await ends_at(harness, session_id.fingerprint) == found.session.expires_ms
        harness.advance(harness.limits.index_ms)


async def test_the_index_of_a_session_near_its_maximum_age_is_written_no_more_often(harness: Harness) -> None:
    harness.limit(idle_ms=2 * DAY)
    fingerprint, activity = await harness.open(), harness.key("", "index:activity")
    for passed in (1, harness.limits.index_ms - 2):
        harness.advance(passed)
        await harness.touch(fingerprint)
        await harness.store.run(sessions.keep([fingerprint], limits=harness.limits))
        assert int(redis(harness, "ZSCORE", activity, bytes.fromhex(fingerprint))) == START
    harness.advance(1)
    await harness.touch(fingerprint)
    assert int(redis(harness, "ZSCORE", activity, bytes.fromhex(fingerprint))) == harness.clock()


async def test_the_moment_before_which_no_session_counts_is_after_the_newest_and_moves_on(
    harness: Harness,
) -> None:
    run = harness.store.run
    assert (await run(validity.end_all_before_now(newest_ms=START - 1))).min_created_ms == START
    for newest_ms, moment in ((START + 5, START + 6), (0, START + 7)):
        ended = await run(validity.end_all_before_now(newest_ms=newest_ms))
        assert (ended.min_created_ms, ended.now_ms) == (moment, START)


async def test_what_is_over_makes_room_although_older_activity_lives(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "HEAL_BATCH", 1)
    monkeypatch.setattr(places, "healing", Healing())
    harness.limit(max_sessions=2)
    lives = await harness.open()
    harness.advance(1)
    await harness.open(active=False)
    harness.advance(MINUTE)
    assert await harness.open()
    assert await harness.touch(lives)
