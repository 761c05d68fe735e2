"""What streams, client requests and nodes leave in Redis: each key with its TTL, bounded, and gone with its session."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes, requests, sessions, streams, subscriptions
from mcp_sessions.store.calls.nodes import MOST_NOTIFICATIONS
from mcp_sessions.store.calls.streams import PUBLISHED_MS
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import DAY, EXCHANGE, HOUR, MINUTE, Harness, gather
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    """A plain client on the server, emptied first."""
    with redis_server.client(decode_responses=True) as client:
        client.flushall()
        yield client


def ttls(redis: "Redis") -> dict[str, int]:
    """Milliseconds left of every key, by the end of its name."""
    return {key.partition("}:")[2]: redis.pttl(key) for key in redis.scan_iter("*")}


async def live_through_everything(harness: Harness) -> str:
    """Every call of both drivers; the fingerprint of a session that has every part."""
    fingerprint = await harness.exchange()
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    await harness.append(fingerprint, b"one", b"two")
    await harness.publish(fingerprint, b"three")
    for stream, after in ((EXCHANGE, 0), (STANDALONE, None)):
        taken = await harness.claim(fingerprint, stream=stream, after=after)
        await harness.read(fingerprint, taken, stream=stream)
    await harness.store.run(streams.keep([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)]))
    await harness.close_orphan(fingerprint)
    await harness.store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE))
    await harness.store.run(requests.answer(fingerprint, "q1", payload=b"yes"))
    await harness.store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10))
    await harness.store.run(nodes.notify_all(b"ding"))
    await harness.store.run(nodes.broadcast(b"hear"))
    harness.sync.run(streams.publish(fingerprint, payloads=[b"four"], key="4", limits=harness.stream_limits))
    harness.sync.run(nodes.notify({"a": [b"dong"]}))
    return fingerprint


PARTS = {
    "stream:" + EXCHANGE,
    "stream-info:" + EXCHANGE,
    "stream:standalone",
    "stream-info:standalone",
    "published",
    "request:q1",
    "resources",
}
OF_NAMESPACE = {"nodes", "nodes:about", "inbox:a", "broadcasts"}


async def test_every_key_has_a_ttl_whatever_happened(redis: "Redis", redis_harness: Harness) -> None:
    await live_through_everything(redis_harness)
    await redis_harness.settled()

    left = ttls(redis)

    assert set(left) >= PARTS | OF_NAMESPACE
    assert all(0 < ttl <= DAY for ttl in left.values()), left


async def test_every_key_has_its_ttl_from_birth(redis: "Redis", redis_harness: Harness) -> None:
    harness, log = redis_harness, redis_harness.stream_limits.ttl_ms
    fingerprint = await harness.exchange()
    assert 0 < ttls(redis)["stream-info:" + EXCHANGE] <= log

    await harness.append(fingerprint, b"one")
    await harness.claim(fingerprint, stream=STANDALONE, after=None)
    await harness.publish(fingerprint, b"two")
    await harness.store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE))
    await harness.store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10))

    left = ttls(redis)
    bounds = {
        "stream:" + EXCHANGE: log,
        "stream-info:" + EXCHANGE: log,
        "stream:standalone": log,
        "stream-info:standalone": log,
        "published": PUBLISHED_MS,
        "request:q1": MINUTE,
        "resources": DAY,
    }
    assert {key: bound - 10_000 < left[key] <= bound for key, bound in bounds.items()} == dict.fromkeys(
        bounds, True
    )


async def test_no_part_outlives_the_sessions_deadline(redis: "Redis", redis_harness: Harness) -> None:
    harness = redis_harness
    harness.limit(max_age_ms=MINUTE, idle_ms=MINUTE)
    fingerprint = await live_through_everything(harness)
    await harness.store.run(requests.register(fingerprint, "q2", node="a", kept_ms=HOUR))

    left = ttls(redis)

    assert all(left[part] <= MINUTE for part in {*PARTS, "request:q2"}), left


async def test_an_end_takes_the_lasting_parts_with_it(redis: "Redis", redis_harness: Harness) -> None:
    """The end does not know the names of the other keys; they cannot be read any more, and expire soon."""
    fingerprint = await live_through_everything(redis_harness)
    await redis_harness.settled()

    await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    left = {key: ttl for key, ttl in ttls(redis).items() if key in PARTS or key == "ended"}
    assert set(left) == {"ended", "stream:" + EXCHANGE, "stream-info:" + EXCHANGE, "request:q1"}
    assert all(0 < ttl <= redis_harness.stream_limits.ttl_ms for key, ttl in left.items() if key != "ended")


async def test_nothing_is_made_for_a_session_that_is_gone(redis: "Redis", redis_harness: Harness) -> None:
    harness = redis_harness
    fingerprint = await live_through_everything(harness)
    await harness.settled()
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
    before = {key: redis.dump(key) if redis.type(key) == "hash" else None for key in redis.scan_iter("*")}

    limits = harness.stream_limits
    await harness.store.run(streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits))
    await harness.append(fingerprint, b"five", first=5)
    await harness.publish(fingerprint, b"six")
    await harness.store.run(streams.claim(fingerprint, STANDALONE, node="b", after=None, ttl_ms=300_000))
    await harness.close_orphan(fingerprint)
    await harness.store.run(requests.register(fingerprint, "q2", node="a", kept_ms=MINUTE))
    await harness.store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10))
    harness.sync.run(streams.publish(fingerprint, payloads=[b"seven"], key="7", limits=limits))

    after = {key: redis.dump(key) if redis.type(key) == "hash" else None for key in redis.scan_iter("*")}
    assert after == before


async def test_what_a_dead_node_leaves_expires_by_itself(redis: "Redis", redis_harness: Harness) -> None:
    harness = redis_harness
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    await harness.store.run(nodes.notify({"a": [b"ding"]}))
    harness.advance(MINUTE - 1)
    await harness.store.run(nodes.beat("b", about="{}", forget_after_ms=MINUTE))
    harness.advance(MINUTE)
    assert set(ttls(redis)) == set()


async def test_an_inbox_that_nobody_reads_is_bounded(redis: "Redis", redis_harness: Harness) -> None:
    await redis_harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    for _ in range(3):
        await redis_harness.store.run(nodes.notify({"a": [b"ding"] * (MOST_NOTIFICATIONS // 2)}))

    [inbox] = redis.scan_iter("*inbox:a")
    assert MOST_NOTIFICATIONS <= redis.xlen(inbox) <= MOST_NOTIFICATIONS + 200


async def test_a_log_whose_info_is_gone_is_not_continued(redis: "Redis", redis_harness: Harness) -> None:
    """An operator deleted it, or it was evicted."""
    harness = redis_harness
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    await harness.publish(fingerprint, b"two")
    for key in redis.scan_iter("*stream-info*"):
        redis.delete(key)

    assert await harness.append(fingerprint, b"two", first=2) is None
    fresh = await harness.publish(fingerprint, b"three")
    assert fresh is not None
    assert await harness.kept(fingerprint, stream=STANDALONE) == [(fresh.position, b"three")]


async def test_trimming_gives_the_memory_back(redis: "Redis", redis_harness: Harness) -> None:
    harness = redis_harness
    harness.stream_limits = replace(harness.stream_limits, max_events=1_000_000, max_bytes=50_000)
    fingerprint = await harness.exchange()
    for n in range(100):
        await harness.append(fingerprint, b"x" * 10_000, first=n + 1)

    [log] = redis.scan_iter("*:stream:*")
    assert (redis.memory_usage(log, samples=0) or 0) in range(50_000, 100_000)


async def test_a_session_that_cannot_be_read_has_no_streams(
    redis: "Redis", redis_harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = redis_harness
    fingerprint = await harness.exchange()
    redis.set(harness.key(fingerprint, "session"), "no number at all", px=MINUTE)

    assert await harness.append(fingerprint, b"one") is None
    assert (
        await harness.store.run(streams.claim(fingerprint, EXCHANGE, node="b", after=0, ttl_ms=300_000))
        is None
    )
    assert not await harness.store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE))
    assert await harness.store.run(subscriptions.subscribed([fingerprint], "book://1")) == frozenset()
    assert "is unreadable" in caplog.text


async def test_streams_survive_the_loss_of_the_scripts(redis: "Redis", redis_harness: Harness) -> None:
    fingerprint = await live_through_everything(redis_harness)
    redis.script_flush()

    await redis_harness.store.run(
        streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=redis_harness.stream_limits)
    )
    redis.script_flush()
    await redis_harness.append(fingerprint, b"one", stream="ff")
    redis.script_flush()

    assert await redis_harness.kept(fingerprint, stream="ff") == [(1, b"one")]
    assert [node.id for node in redis_harness.sync.run(nodes.list_nodes())] == ["a"]


async def test_appends_of_one_tick_share_a_round_trip(redis: "Redis", redis_harness: Harness) -> None:
    fingerprints = [await redis_harness.exchange() for _ in range(20)]
    await redis_harness.append(fingerprints[0], b"warm")
    await redis_harness.settled()

    trips = count_round_trips(redis)
    assert all(await gather(*[redis_harness.append(each, b"more", first=2) for each in fingerprints]))

    assert trips() == 1


@pytest.mark.parametrize("act", ["append", "publish", "claim", "read", "notify"])
async def test_an_act_costs_one_round_trip(redis: "Redis", redis_harness: Harness, act: str) -> None:
    harness = redis_harness
    fingerprint = await live_through_everything(harness)
    await harness.store.run(
        streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=harness.stream_limits)
    )
    taken = await harness.claim(fingerprint, stream="ff")
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "append": lambda: harness.append(fingerprint, b"one", stream="ff"),
        "publish": lambda: harness.publish(fingerprint, b"two"),
        "claim": lambda: harness.claim(fingerprint, stream="ff"),
        "read": lambda: harness.read(fingerprint, taken, stream="ff"),
        "notify": lambda: harness.store.run(nodes.notify({"a": [b"ding"], "b": [b"dong"]})),
    }
    await harness.settled()

    trips = count_round_trips(redis)
    await acts[act]()

    assert trips() == 1


def count_round_trips(redis: "Redis") -> Callable[[], int]:
    """A function that returns how often clients have sent something since, without its own question."""
    before = redis.info("stats")["total_reads_processed"]
    return lambda: redis.info("stats")["total_reads_processed"] - before - 1


async def test_a_full_server_is_not_taken_for_a_session_that_is_gone(
    redis: "Redis", redis_harness: Harness
) -> None:
    fingerprint = await redis_harness.exchange()
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await redis_harness.append(fingerprint, b"one")
        with pytest.raises(StoreUnavailable):
            redis_harness.sync.run(
                streams.publish(fingerprint, payloads=[b"one"], key="k", limits=redis_harness.stream_limits)
            )
    finally:
        redis.config_set("maxmemory", 0)

    assert await redis_harness.append(fingerprint, b"one")
