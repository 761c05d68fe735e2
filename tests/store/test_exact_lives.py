"""How long each key lives, to the millisecond: on the engine, whose clock stands still until a test moves it."""

from dataclasses import replace

import pytest

from mcp_sessions.conf.rates import limits_of
from mcp_sessions.counting import TOOL_NUMBERS, Counts
from mcp_sessions.store import keys
from mcp_sessions.store.calls import (
    counts,
    endings,
    indexes,
    nodes,
    rates,
    recent,
    requests,
    revival,
    sessions,
    state,
    streams,
    subscriptions,
    sweeps,
    validity,
)
from mcp_sessions.store.drivers.embedded import SyncEmbeddedStore
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import DAY, EXCHANGE, HOUR, MINUTE, SECOND, Harness, embedded_harness
from tests.store.test_recent import past
from tests.store.test_revival import an_id

#: For how long a record, and an entry of an index, stays behind its end.
RECORD, ENTRY = 15 * SECOND, MINUTE


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


def lives(harness: Harness, *parts: str) -> dict[str, int]:
    """The milliseconds left of every key, or of those whose names begin so, by the last part of the name."""
    assert isinstance(harness.sync, SyncEmbeddedStore)
    engine, found = harness.sync.engine, {}
    for key in list(engine._keys._values):
        if (left := engine.eval("return redis.call('PTTL', KEYS[1])", [key])) != -2:
            found[key.decode().partition("}:")[2]] = left
    return {name: left for name, left in found.items() if name.startswith(parts or "")}


async def a_session(harness: Harness) -> str:
    """One that has every part that lives with it."""
    fingerprint = await harness.open(active=False)
    for call in (
        sessions.set_log_level(fingerprint, "debug"),
        state.set_values(fingerprint, {"a": "1"}, max_bytes=100),
        recent.note(fingerprint, [past(1)], failed=0, most=3),
    ):
        await harness.store.run(call)
    return fingerprint


async def test_a_session_and_its_parts_live_for_the_first_ttl_and_then_for_the_idle_ttl(
    harness: Harness,
) -> None:
    fingerprint = await a_session(harness)
    parts = {"session": RECORD, "features": 0, "state": 0}
    assert lives(harness, *parts) == {part: MINUTE + more for part, more in parts.items()}
    assert set(lives(harness, "index:").values()) == {MINUTE + ENTRY}
    assert lives(harness, "clients", "recent") == {"clients": DAY, "recent": MINUTE + RECORD}

    await harness.touch(fingerprint)

    assert lives(harness, *parts) == {part: HOUR + more for part, more in parts.items()}
    assert set(lives(harness, "index:").values()) == {HOUR + ENTRY}

    for number, change in enumerate(
        (
            state.set_values(fingerprint, {"b": "1"}, max_bytes=100),
            state.incr(fingerprint, "b", 1, max_bytes=100),
            state.append(fingerprint, "c", "1", max_bytes=100),
            state.delete(fingerprint, ["c"]),
            sessions.set_log_level(fingerprint, "info"),
        ),
        1,
    ):
        harness.advance(SECOND)
        await harness.store.run(change)
        assert lives(harness, *parts) == {part: HOUR - number * SECOND + more for part, more in parts.items()}


@pytest.mark.parametrize("lasting_ms", [0, DAY])
async def test_an_end_leaves_a_tombstone_and_the_record_for_who_ends_again(
    harness: Harness, lasting_ms: int
) -> None:
    fingerprint = await a_session(harness)
    harness.advance(SECOND)
    end = sessions.end(fingerprint, principal=None, reason="deleted", lasting_ms=lasting_ms)
    await harness.store.run(end)

    left = lives(harness)
    assert left.pop("clients") == DAY - SECOND
    if lasting_ms:
        # The set of those that would have ended in the same ten minutes.
        number = (harness.clock() - SECOND + DAY) // (10 * MINUTE)
        over = (number + 1) * 10 * MINUTE + MINUTE
        assert left.pop(f"tombstones:{number}") == over - harness.clock()
    assert left == {"ended": 10 * MINUTE, "ended-record": MINUTE, "index:gone": 30 * SECOND}


async def test_a_lasting_tombstone_lives_a_minute_longer_than_what_an_id_can_be_good_for(
    harness: Harness,
) -> None:
    end = sessions.end("ab" * 32, principal=None, reason="deleted", lasting_ms=DAY)
    await harness.store.run(end)
    assert lives(harness) == {"ended": DAY + MINUTE}

    lost = an_id(harness, ago_ms=HOUR)
    bury = revival.bury(lost, reason="deleted")
    calls = next(bury)
    await harness.store.run_all(bury.send(await harness.store.run_all(calls)))
    assert lives(harness, "ended") == {"ended": DAY - HOUR}


async def test_what_a_sweep_ended_is_known_for_a_minute_and_a_shard_has_its_node_for_three_seconds(
    harness: Harness,
) -> None:
    fingerprint = await a_session(harness)
    harness.advance(MINUTE)
    await harness.store.run(sweeps.over(keys.home_of(fingerprint), node="a"))
    await harness.store.run(sweeps.sweep([fingerprint], token="t", limits=harness.limits))
    assert lives(harness) == {
        "clients": DAY - MINUTE,
        "sweeper": 3 * SECOND,
        "ended-record": MINUTE,
        "index:gone": 30 * SECOND,
    }


async def test_what_a_session_says_and_asks_lives_for_its_own_time(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    ttl = harness.stream_limits.ttl_ms
    assert lives(harness, "stream") == {"stream-info:" + EXCHANGE: ttl}
    harness.advance(SECOND)
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two")
    for work in (
        streams.finish(fingerprint, EXCHANGE, kept=2, kept_bytes=100, ttl_ms=ttl - 1),
        requests.register(fingerprint, "q", node="a", kept_ms=50 * SECOND),
        subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=3),
    ):
        await harness.store.run(work)

    logs = {f"{of}:{name}": ttl for of in ("stream", "stream-info") for name in (EXCHANGE, STANDALONE)}
    others = {"published": MINUTE, "finished": ttl - 1, "request:q": 50 * SECOND, "resources": DAY - SECOND}
    assert lives(harness, *logs, *others) == logs | others

    harness.advance(SECOND)
    for stream in (EXCHANGE, STANDALONE):
        await harness.claim(fingerprint, stream=stream)
    assert lives(harness, *logs) == logs
    harness.advance(SECOND)
    await harness.store.run(streams.keep([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)]))
    assert lives(harness, *logs) == logs


async def test_nothing_of_a_session_outlives_its_deadline(harness: Harness) -> None:
    harness.limit(max_age_ms=50 * SECOND)
    fingerprint = await harness.exchange()
    harness.advance(20 * SECOND)
    await harness.touch(fingerprint)
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two")
    for work in (
        streams.finish(fingerprint, EXCHANGE, kept=2, kept_bytes=100, ttl_ms=MINUTE),
        requests.register(fingerprint, "q", node="a", kept_ms=MINUTE),
        subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=3),
    ):
        await harness.store.run(work)
    left = {part: ms for part, ms in lives(harness).items() if not part.startswith("index:")}
    assert (left.pop("session"), left.pop("clients")) == (30 * SECOND + RECORD, 30 * SECOND)
    assert len(left) == 8
    assert set(left.values()) == {30 * SECOND}
    await harness.store.run(requests.replies(fingerprint, "q", after=0, kept_ms=MINUTE))
    assert lives(harness, "request:q") == {"request:q": 30 * SECOND}


async def test_who_waits_for_an_answer_keeps_the_request_by_asking(harness: Harness) -> None:
    fingerprint = await harness.open()
    run = harness.store.run
    await run(requests.register(fingerprint, "q", node="a", kept_ms=MINUTE))
    harness.advance(SECOND)
    await run(requests.replies(fingerprint, "q", after=0, kept_ms=50 * SECOND))
    assert lives(harness, "request") == {"request:q": 50 * SECOND}
    await run(requests.answer(fingerprint, "q", payload=b"yes"))
    await run(requests.replies(fingerprint, "q", after=0, kept_ms=50 * SECOND))
    for kept_ms in (HOUR, 20 * SECOND):
        # That it counted is remembered, for a minute at most.
        await run(requests.withdraw(fingerprint, "q", kept_ms=kept_ms))
        assert lives(harness, "request") == {"request:q": min(MINUTE, kept_ms)}


async def test_what_nodes_tell_each_other_lives_as_long_as_they_do(harness: Harness) -> None:
    run = harness.store.run
    await run(nodes.beat("a", about="{}", forget_after_ms=20 * SECOND))
    harness.advance(SECOND)
    await run(nodes.notify({"a": [b"ding"]}))
    assert lives(harness) == dict.fromkeys(("nodes", "nodes:about", "inbox:a"), 19 * SECOND)
    await run(nodes.beat("a", about="{}", forget_after_ms=20 * SECOND))
    await run(nodes.report("a", told="{}"))
    await run(nodes.broadcast(b"hear"))
    await run(validity.min_created(1))
    await run(endings.begin(endings.Ending(token="t", fingerprints=[], reason="idle", by="")))
    assert lives(harness) == {
        **dict.fromkeys(("nodes", "nodes:about", "inbox:a"), 20 * SECOND),
        **dict.fromkeys(("reports", "reports:told", "broadcasts"), 10 * MINUTE),
        "min-created": 366 * DAY,
        "endings": HOUR,
    }


async def test_the_moment_before_which_no_session_counts_is_renewed_when_half_of_its_life_is_over(
    harness: Harness,
) -> None:
    run = harness.store.run
    for known_ms in (0, 1, 1):
        await run(validity.min_created(known_ms))
        assert lives(harness) == ({"min-created": 366 * DAY} if known_ms else {})
    harness.advance(183 * DAY)
    await run(validity.min_created(0))
    assert lives(harness) == {"min-created": 183 * DAY}
    harness.advance(SECOND)
    await run(validity.min_created(0))
    assert lives(harness) == {"min-created": 366 * DAY}
    harness.advance(SECOND)
    await run(validity.min_created(2))
    assert lives(harness) == {"min-created": 366 * DAY}


async def test_a_bucket_lives_until_it_is_full_again(harness: Harness) -> None:
    limits = limits_of({"requests per principal": "4/m"})
    for taken in (1, 2):
        wanted = rates.buckets(limits, ("requests",), rates.Who("issuer|ann"), shards=1)
        assert await harness.store.run_all(rates.spend(wanted)) == [None]
        assert list(lives(harness).values()) == [taken * 15 * SECOND]


async def test_each_step_of_the_counts_lives_two_steps_longer_than_its_span(harness: Harness) -> None:
    kept, week = 8 * DAY, 7 * DAY
    numbers = {"hour": HOUR + 2 * MINUTE, "day": DAY + 20 * MINUTE, "week": week + 2 * HOUR}
    tools = {"hour": HOUR + 10 * MINUTE, "day": DAY + 2 * HOUR, "week": week + 12 * HOUR}

    await harness.store.run(counts.set_numbers({"open": 1}, now_ms=harness.clock()))
    assert {part.split(":")[1]: ms for part, ms in lives(harness, "counts:").items()} == numbers

    some = Counts({"seen": 1}, {"add": [1] * TOOL_NUMBERS})
    await harness.store.run(counts.add(some, by="p", batch="1", now_ms=harness.clock()))
    assert {part.split(":")[1]: ms for part, ms in lives(harness, "counts:").items()} == numbers
    assert {part.split(":")[1]: ms for part, ms in lives(harness, "tool-counts:").items()} == tools
    assert lives(harness, "tool-names", "totals", "tool-totals", "counted-by") == {
        **dict.fromkeys(("tool-names", "totals", "tool-totals"), kept),
        "counted-by:p": 10 * MINUTE,
    }


async def test_nothing_is_left_of_a_node_that_leaves(harness: Harness) -> None:
    for call in (
        nodes.beat("a", about="{}", forget_after_ms=MINUTE),
        nodes.report("a", told="{}"),
    ):
        await harness.store.run(call)
    await harness.store.run(nodes.notify({"a": [b"ding"]}))
    await harness.store.run(nodes.leave("a"))
    assert lives(harness) == {}


async def test_what_is_left_of_a_session_that_is_over_is_hidden_and_can_be_dropped(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)
    await harness.publish(fingerprint, b"news")
    for work in (
        streams.finish(fingerprint, EXCHANGE, kept=2, kept_bytes=100, ttl_ms=2 * HOUR),
        subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=3),
    ):
        await harness.store.run(work)
    await harness.store.run(streams.forget([fingerprint]))
    assert len(lives(harness, "stream", "finished", "resources")) == 6, "it lives"
    assert await harness.store.run(subscriptions.resources(fingerprint)) == ["book://1"]

    claim = streams.claim(fingerprint, EXCHANGE, node="a", after=0, ttl_ms=2 * HOUR)
    await harness.store.run(claim)
    harness.advance(HOUR)
    assert await harness.store.run(subscriptions.resources(fingerprint)) == []
    kept = {"stream:" + EXCHANGE, "stream-info:" + EXCHANGE, "finished", "resources"}
    assert lives(harness, *kept).keys() == kept
    await harness.store.run(streams.forget([fingerprint]))
    assert lives(harness, "stream", "finished", "resources", "published") == {}


async def test_what_is_left_to_another_release_comes_behind_what_else_is_due(harness: Harness) -> None:
    left = await harness.open()
    harness.advance(1)
    due = await harness.open()
    harness.advance(HOUR + 20 * SECOND)
    home, now_ms = keys.home_of(left), harness.clock()
    found = await harness.store.run(sweeps.over(home, node="a"))
    assert found is not None
    assert (found.now_ms, found.fingerprints) == (now_ms, {"session": [left, due]})

    leave = sweeps.leave([left], home=home, kind="session", node="a", now_ms=now_ms)
    await harness.store.run(leave)

    assert lives(harness, "sweeper") == {"sweeper": 1}
    assert lives(harness, "index:ends", "index:fingerprints") == dict.fromkeys(
        ("index:ends", "index:fingerprints"), ENTRY
    )
    assert await harness.store.run(sweeps.over(home, node="b")) is None
    harness.advance(2)
    found = await harness.store.run(sweeps.over(home, node="b"))
    assert found is not None
    assert found.fingerprints == {"session": [due, left]}


async def test_every_record_whose_place_is_written_says_how_many_keys_are_its_own(harness: Harness) -> None:
    """Several share one run of the script."""
    session = await harness.store.run(sessions.get(await harness.open(principal="issuer|ann")))
    assert session is not None
    calls = list(next(sweeps.leave(["ab" * 32, "cd" * 32], home="@0", kind="session", node="a", now_ms=1)))
    for shards in (1, 2):
        calls += indexes.update(session, limits=replace(harness.limits, shards=shards))
    assert len(calls) == 2 + 1 + 2
    for call in calls:
        by_activity = [
            part for part in call.parts if part not in ("index:gone", "index:ends", "index:fingerprints")
        ]
        assert tuple(call.arguments[:2]) == (len(call.parts), len(by_activity))
