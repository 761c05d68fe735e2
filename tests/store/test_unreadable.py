"""Records that are corrupt, or that another release wrote: logged, treated as gone, never an exception."""

import asyncio
from typing import Any

import pytest

from mcp_sessions.errors import SessionGone
from mcp_sessions.store.base import Query
from tests.store.worlds import HOUR, World
from tests.support.redis import RedisServer

FOREIGN = b'2 {"created": 1}'
UNREADABLE = [
    FOREIGN,
    b"",
    b"\xff\xfe\x00garbage",
    b"1 1 2 3",
    b'1 1800000000000 86400000 0 3600000 0 1 -a\nping\nanonymous\n{"not": "a list"}',
    b"1 x 86400000 0 3600000 0 1 -a\nping\nanonymous\n[]",
    b'1 1800000000000 86400000 0 3600000 0 1 -a\nping\nanonymous\n["2025-11-25",{},{}]\nmore',
    b"1 1800000000000 86400000 0 3600000 0 1 -a\nping\nanonymous",
]
#: Says of itself that it is over, though not that it has expired.
OVER = b'1 1000 1 0 9999999999999 0 1 -a\nping\nanonymous\n["2025-11-25",{},{}]'
#: Looks right to the scripts; only the process that reads the handshake finds out.
HALF_READABLE = [
    b"1 1800000000000 86400000 0 3600000 0 1 -a\nping\nanonymous\n[1,2]",
    b"1 1800000000000 86400000 0 3600000 0 1 -a\nping\nanonymous\n[broken]",
    b"1 1800000000000 86400000 0 3600000 0 1 -a\nping\xff\nanonymous\n[]",
]


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    with redis_server.client() as client:
        client.flushall()
        yield client


def record_key(world: World, fingerprint: str) -> str:
    assert world.commands is not None
    return world.commands.keys.session(fingerprint)


async def assert_gone(world: World, fingerprint: str) -> None:
    store = world.store
    assert await world.touch(fingerprint) is None
    assert await store.get(fingerprint) is None
    assert await store.keep([fingerprint], limits=world.limits) == frozenset()
    assert world.directory.get(fingerprint) is None


async def assert_cannot_be_changed(world: World, fingerprint: str) -> None:
    store = world.store
    assert await store.end(fingerprint, principal=None, reason="deleted") is None
    assert await store.set_log_level(fingerprint, "debug") is False
    assert await store.change_tools(fingerprint, enable=["paint"]) is None
    assert world.directory.end(fingerprint) is None
    assert world.directory.state(fingerprint) == {}
    for refused in (
        store.state_set(fingerprint, {"a": "1"}, max_bytes=100),
        store.state_get(fingerprint, ["a"]),
        store.state_incr(fingerprint, "a", 1, max_bytes=100),
        store.state_append(fingerprint, "a", "1", max_bytes=100),
        store.state_delete(fingerprint, ["a"]),
    ):
        with pytest.raises(SessionGone):
            await refused


@pytest.mark.parametrize("text", UNREADABLE)
async def test_an_unreadable_record_is_gone_for_every_method_and_left_alone(
    redis: Any, redis_world: World, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_world.open()
    redis.set(record_key(redis_world, fingerprint), text, px=HOUR)

    await assert_gone(redis_world, fingerprint)
    await assert_cannot_be_changed(redis_world, fingerprint)

    assert redis.get(record_key(redis_world, fingerprint)) == text
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert all(fingerprint[:12] in record.getMessage() for record in caplog.records)
    assert fingerprint not in caplog.text


@pytest.mark.parametrize("text", HALF_READABLE)
async def test_a_record_whose_handshake_cannot_be_read_is_gone(
    redis: Any, redis_world: World, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_world.open()
    redis.set(record_key(redis_world, fingerprint), text, px=HOUR)

    await assert_gone(redis_world, fingerprint)

    assert "unreadable" in caplog.text


async def test_it_is_logged_once_a_read(
    redis: Any, redis_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_world.open()
    redis.set(record_key(redis_world, fingerprint), FOREIGN, px=HOUR)

    await redis_world.touch(fingerprint)

    assert [record.getMessage() for record in caplog.records] == [
        f"Session {fingerprint[:12]} is unreadable (format b'2'); it is treated as gone."
    ]


@pytest.mark.parametrize("part", ["session", "features", "state"])
async def test_a_key_of_another_type_makes_the_session_unreadable(
    redis: Any, redis_world: World, part: str
) -> None:
    assert redis_world.commands is not None
    fingerprint = await redis_world.open()
    await redis_world.store.set_log_level(fingerprint, "debug")
    await redis_world.store.state_set(fingerprint, {"a": "1"}, max_bytes=100)
    key = getattr(redis_world.commands.keys, part)(fingerprint)
    redis.delete(key)
    redis.rpush(key, "not what it was")
    redis.pexpire(key, HOUR)

    if part == "state":
        with pytest.raises(SessionGone):
            await redis_world.store.state_get(fingerprint, ["a"])
        assert redis_world.directory.state(fingerprint) == {}
    else:
        await assert_gone(redis_world, fingerprint)


async def test_an_unreadable_record_is_left_out_of_pages(redis: Any, redis_world: World) -> None:
    readable, unreadable = await redis_world.open(), await redis_world.open()
    redis.set(record_key(redis_world, unreadable), FOREIGN, px=HOUR)

    page = redis_world.directory.page(Query(), offset=0, limit=10)

    assert [session.fingerprint for session in page.sessions] == [readable]


@pytest.mark.parametrize("part", ["session", "features", "state"])
async def test_a_key_of_another_type_is_no_other_sessions_business(
    redis: Any, redis_world: World, part: str
) -> None:
    """The touches of a moment travel together, and one must not spoil the others."""
    assert redis_world.commands is not None
    spoilt, *others = [await redis_world.open() for _ in range(3)]
    for each in (spoilt, *others):
        await redis_world.store.set_log_level(each, "debug")
    key = getattr(redis_world.commands.keys, part)(spoilt)
    redis.delete(key)
    redis.rpush(key, "of another type")

    first, *rest = await asyncio.gather(*[redis_world.touch(each) for each in (spoilt, *others)])

    assert [session.fingerprint for session in rest if session is not None] == others
    assert (first is None) == (part != "state"), "no touch reads the state"


async def test_a_record_past_its_deadline_is_gone_and_spoils_nothing(redis: Any, redis_world: World) -> None:
    spoilt, other = await redis_world.open(), await redis_world.open()
    redis.set(record_key(redis_world, spoilt), OVER, px=HOUR)

    gone, touched = await asyncio.gather(redis_world.touch(spoilt), redis_world.touch(other))

    assert gone is None
    assert touched is not None
    await assert_gone(redis_world, spoilt)
