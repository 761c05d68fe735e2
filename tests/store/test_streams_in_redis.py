"""What streams, questions and nodes leave in Redis: each key with its TTL, bounded, and gone with its session."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.stream_commands import MOST_DOORBELLS, PUBLISHED_MS
from mcp_sessions.store.streaming import STANDALONE
from tests.store.stream_worlds import EXCHANGE, Streams, gather
from tests.store.worlds import DAY, HOUR, MINUTE
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    """A plain client on the server, emptied first."""
    with redis_server.client(decode_responses=True) as client:
        client.flushall()
        yield client


#: Processes of other tests send heartbeats to the same server now and then.
ATTEMPTS = 3


def ttls(redis: "Redis") -> dict[str, int]:
    """Milliseconds left of every key, by the end of its name."""
    return {key.partition("}:")[2]: redis.pttl(key) for key in redis.scan_iter("*")}


async def live_through_everything(streams: Streams) -> str:
    """Every method of both faces; the fingerprint of a session that has every part."""
    fingerprint = await streams.exchange()
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    await streams.append(fingerprint, b"one", b"two")
    await streams.publish(fingerprint, b"three")
    for stream, after in ((EXCHANGE, 0), (STANDALONE, None)):
        taken = await streams.claim(fingerprint, stream=stream, after=after)
        await streams.read(fingerprint, taken, stream=stream)
    await streams.store.keep_streams([(fingerprint, EXCHANGE), (fingerprint, STANDALONE)])
    await streams.store.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=streams.limits)
    await streams.store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE)
    await streams.store.answer(fingerprint, "q1", payload=b"yes")
    await streams.store.subscribe(fingerprint, "book://1", max_subscriptions=10)
    await streams.store.ring_all(b"ding")
    await streams.store.post(b"hear")
    streams.directory.publish(fingerprint, payloads=[b"four"], key="4", limits=streams.limits)
    streams.directory.ring({"a": [b"dong"]})
    return fingerprint


PARTS = {
    "stream:" + EXCHANGE,
    "stream-info:" + EXCHANGE,
    "stream:standalone",
    "stream-info:standalone",
    "published",
    "question:q1",
    "subscriptions",
}
OF_NAMESPACE = {"nodes", "nodes:about", "inbox:a", "notices"}


async def test_every_key_has_a_ttl_whatever_happened(redis: "Redis", redis_streams: Streams) -> None:
    await live_through_everything(redis_streams)
    await redis_streams.world.settled()

    left = ttls(redis)

    assert set(left) >= PARTS | OF_NAMESPACE
    assert all(0 < ttl <= DAY for ttl in left.values()), left


async def test_every_key_has_its_ttl_from_birth(redis: "Redis", redis_streams: Streams) -> None:
    streams, log = redis_streams, redis_streams.limits.ttl_ms
    fingerprint = await streams.exchange()
    assert 0 < ttls(redis)["stream-info:" + EXCHANGE] <= log

    await streams.append(fingerprint, b"one")
    await streams.claim(fingerprint, stream=STANDALONE, after=None)
    await streams.publish(fingerprint, b"two")
    await streams.store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE)
    await streams.store.subscribe(fingerprint, "book://1", max_subscriptions=10)

    left = ttls(redis)
    bounds = {
        "stream:" + EXCHANGE: log,
        "stream-info:" + EXCHANGE: log,
        "stream:standalone": log,
        "stream-info:standalone": DAY,
        "published": PUBLISHED_MS,
        "question:q1": MINUTE,
        "subscriptions": DAY,
    }
    assert {key: bound - 10_000 < left[key] <= bound for key, bound in bounds.items()} == dict.fromkeys(
        bounds, True
    )


async def test_no_part_outlives_the_sessions_deadline(redis: "Redis", redis_streams: Streams) -> None:
    streams = redis_streams
    streams.world.limit(max_age_ms=MINUTE, idle_ms=MINUTE)
    fingerprint = await live_through_everything(streams)
    await streams.store.ask(fingerprint, "q2", node="a", timeout_ms=HOUR)

    left = ttls(redis)

    assert all(left[part] <= MINUTE for part in {*PARTS, "question:q2"}), left


async def test_an_end_takes_the_lasting_parts_with_it(redis: "Redis", redis_streams: Streams) -> None:
    """The rest has names that the end does not know; it cannot be read any more, and goes by its short TTL."""
    fingerprint = await live_through_everything(redis_streams)
    await redis_streams.world.settled()

    await redis_streams.world.store.end(fingerprint, principal=None, reason="deleted")

    left = {key: ttl for key, ttl in ttls(redis).items() if key in PARTS or key == "ended"}
    assert set(left) == {"ended", "stream:" + EXCHANGE, "stream-info:" + EXCHANGE, "question:q1"}
    assert all(0 < ttl <= redis_streams.limits.ttl_ms for key, ttl in left.items() if key != "ended")


async def test_nothing_is_made_for_a_session_that_is_gone(redis: "Redis", redis_streams: Streams) -> None:
    streams = redis_streams
    fingerprint = await live_through_everything(streams)
    await streams.world.settled()
    await streams.world.store.end(fingerprint, principal=None, reason="deleted")
    before = {key: redis.dump(key) if redis.type(key) == "hash" else None for key in redis.scan_iter("*")}

    limits = streams.limits
    await streams.store.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits)
    await streams.append(fingerprint, b"five", first=5)
    await streams.publish(fingerprint, b"six")
    await streams.store.claim(fingerprint, STANDALONE, node="b", after=None)
    await streams.store.close_orphan(fingerprint, EXCHANGE, payload=b"lost", limits=limits)
    await streams.store.ask(fingerprint, "q2", node="a", timeout_ms=MINUTE)
    await streams.store.subscribe(fingerprint, "book://1", max_subscriptions=10)
    streams.directory.publish(fingerprint, payloads=[b"seven"], key="7", limits=limits)

    after = {key: redis.dump(key) if redis.type(key) == "hash" else None for key in redis.scan_iter("*")}
    assert after == before


async def test_what_a_dead_node_leaves_goes_by_itself(redis: "Redis", redis_streams: Streams) -> None:
    streams = redis_streams
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    await streams.store.ring({"a": [b"ding"]})
    streams.advance(MINUTE - 1)
    await streams.store.beat("b", about="{}", forget_after_ms=MINUTE)
    streams.advance(MINUTE)
    assert set(ttls(redis)) == set()


async def test_an_inbox_that_nobody_reads_is_bounded(redis: "Redis", redis_streams: Streams) -> None:
    await redis_streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    for _ in range(3):
        await redis_streams.store.ring({"a": [b"ding"] * (MOST_DOORBELLS // 2)})

    [inbox] = redis.scan_iter("*inbox:a")
    assert MOST_DOORBELLS <= redis.xlen(inbox) <= MOST_DOORBELLS + 200


async def test_a_log_whose_info_is_gone_is_nobodys(redis: "Redis", redis_streams: Streams) -> None:
    """An operator deleted it, or it was evicted."""
    streams = redis_streams
    fingerprint = await streams.exchange()
    await streams.append(fingerprint, b"one")
    await streams.publish(fingerprint, b"two")
    for key in redis.scan_iter("*stream-info*"):
        redis.delete(key)

    assert await streams.append(fingerprint, b"two", first=2) is None
    fresh = await streams.publish(fingerprint, b"three")
    assert fresh is not None
    assert fresh.position == 1
    assert await streams.kept(fingerprint, stream=STANDALONE) == [(1, b"three")]


async def test_trimming_gives_the_memory_back(redis: "Redis", redis_streams: Streams) -> None:
    streams = redis_streams
    streams.limits = replace(streams.limits, max_events=1_000_000, max_bytes=50_000)
    fingerprint = await streams.exchange()
    for n in range(100):
        await streams.append(fingerprint, b"x" * 10_000, first=n + 1)

    [log] = redis.scan_iter("*:stream:*")
    assert (redis.memory_usage(log, samples=0) or 0) in range(50_000, 100_000)


async def test_a_session_that_cannot_be_read_has_no_streams(
    redis: "Redis", redis_streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    streams = redis_streams
    fingerprint = await streams.exchange()
    assert streams.world.commands is not None
    redis.set(streams.world.commands.keys.session(fingerprint), "9 of another release", px=MINUTE)

    assert await streams.append(fingerprint, b"one") is None
    assert await streams.store.claim(fingerprint, EXCHANGE, node="b", after=0) is None
    assert not await streams.store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE)
    assert await streams.store.subscribed([fingerprint], "book://1") == frozenset()
    assert "is unreadable" in caplog.text


async def test_streams_survive_the_loss_of_the_scripts(redis: "Redis", redis_streams: Streams) -> None:
    fingerprint = await live_through_everything(redis_streams)
    redis.script_flush()

    await redis_streams.store.open_stream(
        fingerprint, "ff", node="a", request_id="8", limits=redis_streams.limits
    )
    redis.script_flush()
    await redis_streams.append(fingerprint, b"one", stream="ff")
    redis.script_flush()

    assert await redis_streams.kept(fingerprint, stream="ff") == [(1, b"one")]
    assert [node.id for node in redis_streams.directory.nodes()] == ["a"]


async def test_appends_of_one_tick_share_a_round_trip(redis: "Redis", redis_streams: Streams) -> None:
    fingerprints = [await redis_streams.exchange() for _ in range(20)]
    await redis_streams.append(fingerprints[0], b"warm")
    await redis_streams.world.settled()
    counted: list[int] = []

    for position in range(2, 2 + ATTEMPTS):
        trips = count_round_trips(redis)
        appends = [redis_streams.append(each, b"more", first=position) for each in fingerprints]
        assert all(await gather(*appends))
        counted.append(trips())

    assert min(counted) == 1


@pytest.mark.parametrize("act", ["append", "publish", "claim", "read", "ring"])
async def test_an_act_costs_one_round_trip(redis: "Redis", redis_streams: Streams, act: str) -> None:
    streams = redis_streams
    fingerprint = await live_through_everything(streams)
    await streams.store.open_stream(fingerprint, "ff", node="a", request_id="8", limits=streams.limits)
    taken = await streams.claim(fingerprint, stream="ff")
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "append": lambda: streams.append(fingerprint, b"one", stream="ff"),
        "publish": lambda: streams.publish(fingerprint, b"two"),
        "claim": lambda: streams.claim(fingerprint, stream="ff"),
        "read": lambda: streams.read(fingerprint, taken, stream="ff"),
        "ring": lambda: streams.store.ring({"a": [b"ding"], "b": [b"dong"]}),
    }
    await streams.world.settled()
    counted: list[int] = []

    for _ in range(ATTEMPTS):
        trips = count_round_trips(redis)
        await acts[act]()
        counted.append(trips())

    assert min(counted) == 1


def count_round_trips(redis: "Redis") -> Callable[[], int]:
    """A function that gives how often clients have sent something since. Asking is sending, too."""
    before = redis.info("stats")["total_reads_processed"]
    return lambda: redis.info("stats")["total_reads_processed"] - before - 1


async def test_a_full_server_is_no_gone_session(redis: "Redis", redis_streams: Streams) -> None:
    fingerprint = await redis_streams.exchange()
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await redis_streams.append(fingerprint, b"one")
        with pytest.raises(StoreUnavailable):
            redis_streams.directory.publish(
                fingerprint, payloads=[b"one"], key="k", limits=redis_streams.limits
            )
    finally:
        redis.config_set("maxmemory", 0)

    assert await redis_streams.append(fingerprint, b"one")
