"""With ENCRYPTION_KEYS, what clients and tools say is nowhere in Redis, and everything works as without."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from mcp_sessions import conf
from mcp_sessions.counting import TOOL_NUMBERS, Counts
from mcp_sessions.errors import RecordSealed, StateError, StoreUnavailable
from mcp_sessions.records import Handshake
from mcp_sessions.state import State
from mcp_sessions.store.calls import (
    counts,
    indexes,
    queries,
    requests,
    sessions,
    state,
    streams,
    subscriptions,
)
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.factory import store_for, sync_store_for
from mcp_sessions.store.sealing import Sealer
from tests.support.redis import RedisServer, run_server

OLD, NEW = "an old key " * 4, "a new key " * 4
FINGERPRINT = "ab" * 32
SECRET = "quicksilver"
#: The second begins as a list does.
URIS = sorted([f"{SECRET}://1", f"[{SECRET}"])
HANDSHAKE = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "agent", "title": SECRET},
    capabilities={},
    name=SECRET,
)
STREAM = conf.StreamLimits(max_events=10, max_bytes=100_000, ttl_ms=60_000)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Any]:
    with server.client() as client:
        client.flushall()
        yield client


def with_keys(server: RedisServer, *keys: str) -> Any:
    caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}}
    return override_settings(
        CACHES=caches, MCP_SESSIONS={"default": {"SERVER": "x.y", "ENCRYPTION_KEYS": list(keys)}}
    )


async def opened() -> State:
    """A new session; its state."""
    create = sessions.create(
        FINGERPRINT, principal="user:1", handshake=HANDSHAKE, limits=conf.endpoint("default").limits
    )
    await store_for("default").run(create)
    return State(store_for("default"), FINGERPRINT, max_bytes=100_000)


async def use(mine: State) -> None:
    """Everything that leaves what somebody said."""
    run = store_for("default").run
    await mine.update(
        {"word": SECRET, "list": [SECRET, 1], "record": {"a": [SECRET]}, "number": 3, "no": None}
    )
    assert await mine.append("list", {"more": SECRET}) == 3
    assert await mine.append("new", SECRET) == 1
    assert await mine.incr("number", 4) == 7
    payload = f'{{"said":"{SECRET}"}}'.encode()
    claim = await run(
        streams.open_stream(FINGERPRINT, "aa", node="n", request_id=f'{{"id":"{SECRET}"}}', limits=STREAM)
    )
    assert claim is not None
    await run(
        streams.append(
            FINGERPRINT, "aa", node="n", first=1, payloads=[payload] * 2, last=False, limits=STREAM
        )
    )
    await run(streams.publish(FINGERPRINT, payloads=[payload], key="k", limits=STREAM))
    await run(requests.register(FINGERPRINT, "q", node="n", kept_ms=60_000))
    await run(requests.progress(FINGERPRINT, "q", payload=payload))
    assert await run(requests.answer(FINGERPRINT, "q", payload=payload)) == "n"
    for uri in URIS:
        assert await run(subscriptions.subscribe(FINGERPRINT, uri, max_subscriptions=9))


async def check(mine: State) -> None:
    """All of it is read as it was written, by both drivers."""
    run, payload = store_for("default").run, f'{{"said":"{SECRET}"}}'.encode()
    assert await mine.get("word") == SECRET
    assert await mine.get("list") == [SECRET, 1, {"more": SECRET}]
    assert await mine.get("record") == {"a": [SECRET]}
    assert await mine.get("new") == [SECRET]
    assert await mine.get("number") == 7
    assert await mine.get("no", 1) is None
    with pytest.raises(StateError):
        await mine.append("word", 1)
    touch = sessions.touch(FINGERPRINT, principal="user:1", limits=conf.endpoint("default").limits)
    session = await run(touch)
    assert session is not None
    assert session.handshake == HANDSHAKE or session.handshake.text == HANDSHAKE.text
    taken = await run(streams.claim(FINGERPRINT, "aa", node="n", after=0, ttl_ms=60_000))
    assert taken is not None
    assert SECRET in taken.request_id
    batch = await run(streams.read(FINGERPRINT, "aa", claim=taken.claim, after=0, max_bytes=100_000))
    assert batch is not None
    assert [event.payload for event in batch.events] == [payload, payload]
    replies = await run(requests.replies(FINGERPRINT, "q", after=0, kept_ms=60_000))
    assert replies is not None
    assert (replies.answer, list(replies.progress)) == (payload, [payload])
    sync = sync_store_for("default")
    assert sync.run(subscriptions.resources(FINGERPRINT)) == URIS
    assert sync.run(state.items(FINGERPRINT))["record"] == {"a": [SECRET]}
    found = sync.run(sessions.get(FINGERPRINT))
    assert found is not None
    assert found.handshake.text == HANDSHAKE.text
    await store_for("default").aclose()


def dumped(redis: Any) -> bytes:
    """All keys with all that they hold, as a stolen dump has them."""
    found = b""
    for key in redis.scan_iter():
        match redis.type(key):
            case b"string":
                found += redis.get(key)
            case b"hash":
                found += repr(redis.hgetall(key)).encode()
            case b"stream":
                found += repr(redis.xrange(key)).encode()
            case b"list":
                found += repr(redis.lrange(key, 0, -1)).encode()
            case b"set":
                found += repr(redis.smembers(key)).encode()
            case _:
                found += repr(redis.zrange(key, 0, -1)).encode()
        found += key
    return found


@pytest.mark.parametrize(("keys", "is_readable"), [([], True), ([NEW], False)])
async def test_what_was_said_is_in_redis_only_without_keys(
    server: RedisServer, redis: Any, keys: list[str], is_readable: bool
) -> None:
    with with_keys(server, *keys):
        mine = await opened()
        await use(mine)
        assert (SECRET.encode() in dumped(redis)) == is_readable
        await check(mine)


async def test_a_key_is_changed_without_a_loss(server: RedisServer, redis: Any) -> None:
    with with_keys(server, OLD):
        await use(await opened())
        await store_for("default").aclose()
    for keys in ([OLD, NEW], [NEW, OLD]):
        with with_keys(server, *keys):
            await check(State(store_for("default"), FINGERPRINT, max_bytes=100_000))
    with with_keys(server, NEW):
        mine = State(store_for("default"), FINGERPRINT, max_bytes=100_000)
        with pytest.raises(StoreUnavailable, match="not in ENCRYPTION_KEYS"):
            await mine.get("word")
        await mine.set("word", "written again")
        assert await mine.get("word") == "written again"
        await store_for("default").aclose()


async def test_a_record_that_no_key_opens_keeps_no_other_from_being_listed_kept_and_ended(
    server: RedisServer, redis: Any
) -> None:
    """Its own session gets 503, and it is in no list; it can be ended all the same."""
    other = "cd" * 32
    with with_keys(server, OLD):
        await opened()
        await store_for("default").aclose()
    with with_keys(server, NEW):
        limits, run, sync = (
            conf.endpoint("default").limits,
            store_for("default").run,
            sync_store_for("default"),
        )
        await run(sessions.create(other, principal="user:1", handshake=HANDSHAKE, limits=limits))
        for _ in range(2):
            page = sync.run(queries.page(Query(), limits=limits, offset=0, limit=10))
            assert [each.fingerprint for each in page.sessions] == [other]
            assert sync.run(indexes.count(limits=limits)) == 2, "it is still in the index"
        assert set(await run(sessions.keep([FINGERPRINT, other], limits=limits))) == {other}
        with pytest.raises(RecordSealed):
            await run(sessions.touch(FINGERPRINT, principal="user:1", limits=limits))
        ends = await run(
            sessions.end_many([FINGERPRINT, other], reason="expired_by_operator", token="t", shards=1)
        )
        assert [each.fingerprint for each in ends.ended] == [other]
        assert (ends.gone, ends.failure) == ([FINGERPRINT], None)
        assert redis.keys("*:session") == []
        await store_for("default").aclose()


async def test_what_was_stored_before_there_were_keys_is_read(server: RedisServer, redis: Any) -> None:
    with with_keys(server):
        await use(await opened())
        await store_for("default").aclose()
    with with_keys(server, NEW):
        await check(State(store_for("default"), FINGERPRINT, max_bytes=100_000))


def test_what_an_earlier_release_sealed_opens() -> None:
    sealed = b'"\x01sealed1.Vi-HD8e3EAeZBO3F2MMDp1OvB6XRroxRwNJkjzr60LzDk4TBTMr72hpW2g=="'
    assert Sealer([NEW, OLD]).opened(state.get(FINGERPRINT, ["a"]), [sealed, None]) == [SECRET.encode(), None]


async def test_a_value_that_is_moved_to_another_record_does_not_open(server: RedisServer, redis: Any) -> None:
    with with_keys(server, NEW):
        mine = await opened()
        await mine.set("word", SECRET)
        [key] = [key for key in redis.scan_iter() if key.endswith(b"}:state")]
        other = "cd" * 32
        for name in (b":session", b":state"):
            source = key.replace(b":state", name)
            redis.copy(source, source.replace(FINGERPRINT.encode(), other.encode()))
        moved = State(store_for("default"), other, max_bytes=100_000)
        with pytest.raises(StoreUnavailable, match="not in ENCRYPTION_KEYS"):
            await moved.get("word")
        await store_for("default").aclose()


def test_a_short_key_is_refused_and_not_repeated() -> None:
    with override_settings(MCP_SESSIONS={"default": {"SERVER": "x.y", "ENCRYPTION_KEYS": ["hunter2"]}}):
        with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS") as refused:
            conf.endpoint("default")
        assert "hunter2" not in str(refused.value)


async def test_what_a_client_names_cannot_look_sealed(server: RedisServer, redis: Any) -> None:
    with with_keys(server, NEW):
        await opened()
        limits = conf.endpoint("default").limits
        for mark in ('"sealed1.', '"\x01sealed1.'):
            named = f'tools/call:{mark}{"A" * 64}"'
            touch = sessions.touch(FINGERPRINT, principal="user:1", limits=limits, call=named)
            assert await store_for("default").run(touch) is not None
        assert sync_store_for("default").run(sessions.get(FINGERPRINT)) is not None
        await store_for("default").aclose()


@pytest.mark.parametrize("tail", ["A" * 64, "A" * 45], ids=["with no key", "not even base64"])
async def test_a_client_whose_name_looks_sealed_is_listed_with_the_others(
    server: RedisServer, redis: Any, tail: str
) -> None:
    name = f'"\x01sealed1.{tail}"'
    with with_keys(server, NEW):
        await opened()
        odd = Handshake(protocol_version="2025-11-25", client_info={"name": name}, capabilities={})
        limits = conf.endpoint("default").limits
        await store_for("default").run(
            sessions.create("cd" * 32, principal="anonymous", handshake=odd, limits=limits)
        )
        assert set(sync_store_for("default").run(indexes.clients(limits=limits))) == {"agent", name}
        await store_for("default").aclose()


async def test_a_name_that_looks_sealed_takes_nobody_the_state(server: RedisServer, redis: Any) -> None:
    name = f'"\x01sealed1.{"A" * 64}"'
    with with_keys(server, NEW):
        mine = await opened()
        for write in (mine.set(name, 1), mine.incr(name), mine.append(name, 1)):
            with pytest.raises(StateError, match="name"):
                await write
        await mine.set("word", 1)
        assert await mine.keys() == ["word"]
        await store_for("default").aclose()


async def test_numbers_in_lists_are_encrypted_whatever_way_they_came(server: RedisServer, redis: Any) -> None:
    with with_keys(server, NEW):
        mine = await opened()
        await mine.set("cards", [4111111111111111])
        assert await mine.append("cards", 5500005555555559) == 2
        assert await mine.append("new", 340000000000009) == 1
        assert await mine.append("new", [1, [2]]) == 2
        kept = dumped(redis)
        for number in (b"4111111111111111", b"5500005555555559", b"340000000000009"):
            assert number not in kept
        assert await mine.get("cards") == [4111111111111111, 5500005555555559]
        assert await mine.get("new") == [340000000000009, [1, [2]]]
        await store_for("default").aclose()


async def test_a_call_of_a_tool_whose_name_looks_sealed_is_counted(server: RedisServer, redis: Any) -> None:
    """A low-level server may answer calls of any name, and only that is known of its tools."""
    name = f'"\x01sealed1.{"A" * 64}"'
    with with_keys(server, NEW):
        run, now_ms = store_for("default").run, int(time.time() * 1000)
        called = Counts({"requests": 1}, {name: [1] * TOOL_NUMBERS})
        await run(counts.add(called, by="n", batch="1", now_ms=now_ms))
        assert list((await run(counts.totals())).tools) == [name]
        [hour] = [tools for tools in (await run(counts.read(counts.HOUR, now_ms=now_ms))).tools if tools]
        assert list(hour) == [name]
        await store_for("default").aclose()
