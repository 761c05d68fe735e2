"""Records that are corrupt, or that another release wrote: logged, treated as gone, never an exception."""

import asyncio
import re
from typing import Any

import pytest

from mcp_sessions.errors import SessionGone
from mcp_sessions.store.call import MOST_FOREIGN, foreign
from mcp_sessions.store.calls import queries, sessions, state
from mcp_sessions.store.calls.queries import Query
from tests.store.harness import HOUR, Harness
from tests.support.redis import RedisServer

FOREIGN = b'2 {"created": 1}'
CORRUPT = b"1 1 2 3"
UNREADABLE = [
    FOREIGN,
    b"",
    b"\xff\xfe\x00garbage",
    CORRUPT,
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


@pytest.fixture(autouse=True)
def _nothing_was_logged_before() -> None:
    foreign.clear()


def record_key(harness: Harness, fingerprint: str) -> str:
    return harness.key(fingerprint, "session")


async def assert_gone(harness: Harness, fingerprint: str) -> None:
    store = harness.store
    assert await harness.touch(fingerprint) is None
    assert await store.run(sessions.get(fingerprint)) is None
    assert await store.run(sessions.keep([fingerprint], limits=harness.limits)) == {}
    assert harness.sync.run(sessions.get(fingerprint)) is None


async def assert_cannot_be_changed(harness: Harness, fingerprint: str) -> None:
    store = harness.store
    assert await store.run(sessions.end(fingerprint, principal=None, reason="deleted")) is None
    assert await store.run(sessions.set_log_level(fingerprint, "debug")) is False
    assert await store.run(sessions.change_tools(fingerprint, enable=["paint"])) is None
    assert harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator")) is None
    assert harness.sync.run(state.items(fingerprint)) == {}
    for refused in (
        store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100)),
        store.run(state.get(fingerprint, ["a"])),
        store.run(state.incr(fingerprint, "a", 1, max_bytes=100)),
        store.run(state.append(fingerprint, "a", "1", max_bytes=100)),
        store.run(state.delete(fingerprint, ["a"])),
    ):
        with pytest.raises(SessionGone):
            await refused


@pytest.mark.parametrize("text", UNREADABLE)
async def test_an_unreadable_record_is_gone_for_every_method_and_left_alone(
    redis: Any, redis_harness: Harness, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_harness.open()
    redis.set(record_key(redis_harness, fingerprint), text, px=HOUR)

    await assert_gone(redis_harness, fingerprint)
    await assert_cannot_be_changed(redis_harness, fingerprint)

    assert redis.get(record_key(redis_harness, fingerprint)) == text
    assert "WARNING" in {record.levelname for record in caplog.records}
    assert all(fingerprint[:12] in record.getMessage() for record in caplog.records)
    assert fingerprint not in caplog.text


@pytest.mark.parametrize("text", HALF_READABLE)
async def test_a_record_whose_handshake_cannot_be_read_is_gone(
    redis: Any, redis_harness: Harness, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_harness.open()
    redis.set(record_key(redis_harness, fingerprint), text, px=HOUR)

    await assert_gone(redis_harness, fingerprint)

    assert "unreadable" in caplog.text


async def test_a_corrupt_one_is_logged_once_for_each_read(
    redis: Any, redis_harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_harness.open()
    redis.set(record_key(redis_harness, fingerprint), CORRUPT, px=HOUR)

    await redis_harness.touch(fingerprint)
    await redis_harness.touch(fingerprint)

    said = f"Session {fingerprint[:12]} is unreadable (format b'1'); it is treated as gone."
    assert [record.getMessage() for record in caplog.records] == [said, said]


async def test_records_of_another_release_are_logged_once_for_each_format(
    redis: Any, redis_harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (b"2", b"2", b"3", b"1"):
        fingerprint = await redis_harness.open()
        redis.set(record_key(redis_harness, fingerprint), version + b" of another release", px=HOUR)
        for _ in range(2):
            assert await redis_harness.touch(fingerprint) is None

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [re.findall(r"format b'(\d)'", each) for each in warned] == [["2"], ["3"], ["1"], ["1"]]


async def test_garbage_that_looks_like_many_releases_is_logged_each_time(
    redis: Any, redis_harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await redis_harness.open()
    for version in range(2, MOST_FOREIGN + 5):
        redis.set(record_key(redis_harness, fingerprint), b"%d garbage" % version, px=HOUR)
        await redis_harness.touch(fingerprint)
        await redis_harness.touch(fingerprint)

    assert len(foreign) == MOST_FOREIGN
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == MOST_FOREIGN + 2 * 3


@pytest.mark.parametrize("part", ["session", "features", "state"])
async def test_a_key_of_another_type_makes_the_session_unreadable(
    redis: Any, redis_harness: Harness, part: str
) -> None:
    fingerprint = await redis_harness.open()
    await redis_harness.store.run(sessions.set_log_level(fingerprint, "debug"))
    await redis_harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    key = redis_harness.key(fingerprint, part)
    redis.delete(key)
    redis.rpush(key, "not what it was")
    redis.pexpire(key, HOUR)

    if part == "state":
        with pytest.raises(SessionGone):
            await redis_harness.store.run(state.get(fingerprint, ["a"]))
        assert redis_harness.sync.run(state.items(fingerprint)) == {}
    else:
        await assert_gone(redis_harness, fingerprint)


async def test_an_unreadable_record_is_left_out_of_pages(redis: Any, redis_harness: Harness) -> None:
    readable, unreadable = await redis_harness.open(), await redis_harness.open()
    redis.set(record_key(redis_harness, unreadable), FOREIGN, px=HOUR)

    page = redis_harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=redis_harness.limits))

    assert [session.fingerprint for session in page.sessions] == [readable]


@pytest.mark.parametrize("part", ["session", "features", "state"])
async def test_a_key_of_another_type_affects_no_other_session(
    redis: Any, redis_harness: Harness, part: str
) -> None:
    """The touches of one moment share a round trip, and one must not make the others fail."""
    spoilt, *others = [await redis_harness.open() for _ in range(3)]
    for each in (spoilt, *others):
        await redis_harness.store.run(sessions.set_log_level(each, "debug"))
    key = redis_harness.key(spoilt, part)
    redis.delete(key)
    redis.rpush(key, "of another type")

    first, *rest = await asyncio.gather(*[redis_harness.touch(each) for each in (spoilt, *others)])

    assert [session.fingerprint for session in rest if session is not None] == others
    assert (first is None) == (part != "state"), "no touch reads the state"


async def test_a_record_past_its_deadline_is_gone_and_affects_no_other_session(
    redis: Any, redis_harness: Harness
) -> None:
    spoilt, other = await redis_harness.open(), await redis_harness.open()
    redis.set(record_key(redis_harness, spoilt), OVER, px=HOUR)

    gone, touched = await asyncio.gather(redis_harness.touch(spoilt), redis_harness.touch(other))

    assert gone is None
    assert touched is not None
    await assert_gone(redis_harness, spoilt)
