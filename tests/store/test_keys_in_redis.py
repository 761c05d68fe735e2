"""What Redis holds: which keys, that each has a TTL, and that namespaces share none."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from mcp_sessions import ids
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import indexes, queries, sessions, state
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.sessions import REPEATED_MS
from mcp_sessions.store.calls.tombstones import TOMBSTONE_MS
from mcp_sessions.store.keys import Keys
from tests.store.harness import (
    CLAUDE,
    DAY,
    HOUR,
    MINUTE,
    Harness,
    a_fingerprint,
    client_named,
    redis_harness,
)
from tests.support.redis import RedisServer

#: For how long a record stays after its end, in milliseconds.
OVERDUE_MS = 15_000


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    """A plain client on the server, emptied first."""
    with redis_server.client(decode_responses=True) as client:
        client.flushall()
        yield client


@asynccontextmanager
async def another_namespace(name: str) -> AsyncIterator[Harness]:
    harness = redis_harness("standalone", namespace=name)
    try:
        yield harness
    finally:
        await harness.aclose()


async def live_through_everything(harness: Harness) -> None:
    """Every call of both drivers, on sessions of every sort."""
    store, limits = harness.store, harness.limits
    kept, ended, expired = (
        await harness.open(),
        await harness.open(principal="issuer|ann"),
        await harness.open(),
    )
    await harness.open(active=False)
    for fingerprint in (kept, ended):
        await store.run(sessions.set_log_level(fingerprint, "debug"))
        await store.run(sessions.change_tools(fingerprint, enable=["paint", "sing"], disable=["sing"]))
        await store.run(state.set_values(fingerprint, {"a": "1", "b": "[]"}, max_bytes=1_000))
        await store.run(state.incr(fingerprint, "n", 1, max_bytes=1_000))
        await store.run(state.append(fingerprint, "b", "1", max_bytes=1_000))
        await store.run(state.delete(fingerprint, ["a"]))
        await store.run(state.get(fingerprint, ["n"]))
        await store.run(state.names(fingerprint))
        await store.run(sessions.keep([fingerprint], limits=limits))
    await harness.touch(kept, initialized=True)
    await store.run(sessions.end(ended, principal="issuer|ann", reason="deleted"))
    harness.sync.run(sessions.end(expired, principal=None, reason="expired_by_operator"))
    harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))
    harness.sync.run(queries.find(kept[:8], limit=10, limits=harness.limits))
    harness.sync.run(state.items(kept))
    await harness.settled()


async def test_every_key_has_a_ttl_whatever_happened(redis: "Redis", redis_harness: Harness) -> None:
    await live_through_everything(redis_harness)

    left = {key: redis.pttl(key) for key in redis.scan_iter("*")}

    assert len(left) >= 11
    assert all(0 < ttl <= DAY for ttl in left.values()), left
    assert {kind for key in left for kind in [redis.type(key)]} == {"string", "hash", "zset"}


async def test_every_key_has_its_ttl_from_birth(redis: "Redis", redis_harness: Harness) -> None:
    """The record: first FIRST_TTL, then IDLE_TTL, and what a sweep needs; its parts; indexes as long as they matter."""
    fingerprint = await redis_harness.open(active=False)
    parts = redis_harness.keys.resolve(fingerprint, ["session", "features", "state"])
    record = parts[0]
    assert MINUTE < redis.pttl(record) <= MINUTE + OVERDUE_MS

    await redis_harness.store.run(sessions.set_log_level(fingerprint, "debug"))
    await redis_harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    for key in parts[1:]:
        assert 0 < redis.pttl(key) <= MINUTE

    await redis_harness.touch(fingerprint)
    await redis_harness.settled()
    assert HOUR < redis.pttl(record) <= HOUR + OVERDUE_MS
    for key in parts[1:]:
        assert HOUR - MINUTE < redis.pttl(key) <= HOUR
    [place] = indexes.places(fingerprint, CLAUDE, ANONYMOUS)
    for index in redis_harness.keys.resolve(place.home, place.names):
        assert HOUR < redis.pttl(index) <= HOUR + indexes.SWEPT_MS
    assert DAY - MINUTE < redis.pttl(redis_harness.key("", "clients")) <= DAY

    await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
    tombstone = redis_harness.key(fingerprint, "ended")
    assert TOMBSTONE_MS - MINUTE < redis.pttl(tombstone) <= TOMBSTONE_MS
    assert str(redis.get(tombstone)).startswith("deleted ")
    assert 0 < redis.pttl(redis_harness.key(fingerprint, "ended-record")) <= REPEATED_MS


async def test_only_the_tombstone_of_an_ended_session_is_left(redis: "Redis", redis_harness: Harness) -> None:
    await live_through_everything(redis_harness)
    redis.flushall()
    fingerprint = await redis_harness.open()
    await redis_harness.store.run(sessions.set_log_level(fingerprint, "debug"))
    await redis_harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    await redis_harness.settled()

    await redis_harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    ended, gone = redis_harness.key(fingerprint, "ended"), redis_harness.key("", "index:gone")
    record = redis_harness.key(fingerprint, "ended-record")
    assert set(redis.scan_iter("*")) == {ended, record, gone, redis_harness.key("", "clients")}
    assert 0 < redis.pttl(gone) <= indexes.GONE_MS


async def test_a_parts_last_entry_takes_the_key_with_it(redis: "Redis", redis_harness: Harness) -> None:
    fingerprint = await redis_harness.open()
    await redis_harness.store.run(sessions.change_tools(fingerprint, enable=["paint"]))
    await redis_harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))

    await redis_harness.store.run(sessions.change_tools(fingerprint, disable=["paint"]))
    await redis_harness.store.run(state.delete(fingerprint, ["a"]))

    assert redis.exists(*redis_harness.keys.resolve(fingerprint, ["features", "state"])) == 0


async def test_an_idle_session_without_features_or_state_is_one_key(
    redis: "Redis", redis_harness: Harness
) -> None:
    fingerprint = await redis_harness.open()

    assert [key for key in redis.scan_iter("*") if fingerprint in key] == [
        f":1:mcp:v1:{namespace_of(redis_harness)}:{{{fingerprint}}}:session"
    ]


def namespace_of(harness: Harness) -> str:
    return harness.key("", "clients").split("{")[1].split("}")[0]


@pytest.mark.parametrize(
    "pair", [("shop", "blog"), ("shop", "shop2"), ("a", "a:{b"), ("é", "%C3%A9"), ("x}", "x")]
)
async def test_services_with_different_namespaces_share_no_key_and_see_no_session(
    redis: "Redis", redis_caches: dict[str, Any], pair: tuple[str, str]
) -> None:
    async with another_namespace(pair[0]) as one, another_namespace(pair[1]) as two:
        await live_through_everything(one)
        of_one = set(redis.scan_iter("*"))
        before = {key: redis.dump(key) if redis.type(key) == "string" else None for key in of_one}
        await live_through_everything(two)
        of_two = set(redis.scan_iter("*")) - of_one

        # Not equal: an index may be written late, in the background.
        assert min(len(of_one), len(of_two)) > 10
        assert {key: redis.dump(key) if redis.type(key) == "string" else None for key in of_one} == before
        fingerprint = await one.open()
        assert await two.store.run(sessions.get(fingerprint)) is None
        assert await two.touch(fingerprint) is None
        assert await two.store.run(sessions.end(fingerprint, principal=None, reason="deleted")) is None
        assert two.sync.run(sessions.get(fingerprint)) is None
        assert fingerprint not in {
            s.fingerprint
            for s in two.sync.run(queries.page(Query(), offset=0, limit=50, limits=two.limits)).sessions
        }
        assert await one.store.run(sessions.get(fingerprint)) is not None


def test_namespaces_that_quoting_could_confuse_stay_apart() -> None:
    names = ["a", "a%20", "a ", "{a}", "a}", "%", "%25", "é", "%C3%A9"]

    assert len({Keys(name, str).resolve("", ["nodes"])[0] for name in names}) == len(names)


async def test_key_prefix_and_version_of_the_cache_hold(
    redis: "Redis", redis_server: RedisServer, settings: Settings
) -> None:
    entry = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    settings.CACHES = {"default": {**entry, "KEY_PREFIX": "blue", "VERSION": 7}}
    async with another_namespace("shop") as harness:
        await live_through_everything(harness)

    keys = list(redis.scan_iter("*"))
    assert keys
    assert all(key.startswith("blue:7:mcp:v1:") for key in keys)


def hashed_key(key: str, prefix: str, version: int) -> str:
    """A key function that leaves nothing of the name."""
    return f"{prefix}{version}" + hashlib.sha256(key.encode()).hexdigest()


async def test_any_key_function_of_the_cache_holds(
    redis: "Redis", redis_server: RedisServer, settings: Settings
) -> None:
    entry = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    settings.CACHES = {"default": {**entry, "KEY_FUNCTION": f"{__name__}.hashed_key"}}
    async with another_namespace("shop") as harness:
        fingerprint = await harness.open()
        assert await harness.touch(fingerprint) is not None

    assert all(len(key) == 65 for key in redis.scan_iter("*"))
    assert redis.exists(hashed_key(f"mcp:v1:shop:{{{fingerprint}}}:session", "", 1)) == 1


async def test_client_names_cannot_forge_or_flood_keys(redis: "Redis", redis_harness: Harness) -> None:
    for name in ("}:{x", "*", "\n", "☃" * 1_000, "a:b", "../", "\ud800"):
        await redis_harness.open(handshake=client_named(name))
    await redis_harness.settled()

    namespace = namespace_of(redis_harness)
    found = list(redis.scan_iter("*index:client:*"))
    assert len(found) == 7
    for key in found:
        assert key.startswith(f":1:mcp:v1:{{{namespace}}}:index:client:")
        assert len(key) < 300
        assert not set(key.removeprefix(f":1:mcp:v1:{{{namespace}}}:index:client:")) & set("{}*:\n/")


async def test_no_session_id_is_ever_stored(redis: "Redis", redis_harness: Harness) -> None:
    session_id = ids.mint(CLAUDE, principal=ANONYMOUS, namespace="shop", created_ms=0, max_age_ms=HOUR)
    await redis_harness.open(fingerprint=session_id.fingerprint)

    everything = [key + str(redis.dump(key)) for key in redis.scan_iter("*")]
    assert everything
    assert not any(session_id.text in text for text in everything)


async def test_the_sync_and_the_async_face_use_the_same_keys(redis: "Redis", redis_harness: Harness) -> None:
    await live_through_everything(redis_harness)
    before = set(redis.scan_iter("*"))

    redis_harness.sync.run(
        queries.page(Query(client="claude-ai"), offset=0, limit=10, limits=redis_harness.limits)
    )
    redis_harness.sync.run(indexes.count(limits=redis_harness.limits))
    redis_harness.sync.run(sessions.end(a_fingerprint(), principal=None, reason="expired_by_operator"))

    assert set(redis.scan_iter("*")) <= before
