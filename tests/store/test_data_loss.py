"""A Redis that comes back with less than it had: what it still has is not said again, and what is new is not lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from mcp_sessions.store.streaming import STANDALONE
from tests.store.stream_worlds import Streams, payloads
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        client.flushall()
        yield client


def key_of(redis: Any, end: str) -> Any:
    [key] = redis.scan_iter(f"*{end}")
    return key


async def test_notices_that_were_read_are_not_read_again(redis: Any, redis_streams: Streams) -> None:
    store = redis_streams.store
    for number in range(5):
        await store.post(b"%d" % number)
    after, read = await store.notices(after="", age_ms=60_000)
    assert len(read) == 5
    notices = key_of(redis, "notices")
    redis.xdel(notices, redis.xrevrange(notices, count=1)[0][0])

    after, again = await store.notices(after=after)
    await store.post(b"new")
    _, new = await store.notices(after=after)

    assert (list(again), list(new)) == ([], [b"new"])


async def test_a_standalone_stream_goes_on_with_what_is_said_then(redis: Any, redis_streams: Streams) -> None:
    streams = redis_streams
    fingerprint = await streams.world.open()
    taken = await streams.claim(fingerprint, stream=STANDALONE, after=None)
    info, log = key_of(redis, "stream-info:standalone"), "stream:standalone"
    snapshot = redis.dump(info)
    await streams.publish(fingerprint, b"one", b"two", b"three")
    batch = await streams.read(fingerprint, taken, stream=STANDALONE)
    assert payloads(batch) == [b"one", b"two", b"three"]
    redis.delete(key_of(redis, log))
    redis.restore(info, 60_000, snapshot, replace=True)

    await streams.publish(fingerprint, b"four")
    found = await streams.store.read(
        fingerprint, STANDALONE, token=taken.claim.token, after=3, max_bytes=1_000
    )

    assert found is not None
    assert payloads(found) == [b"four"]
