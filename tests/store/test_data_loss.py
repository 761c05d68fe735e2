"""A Redis that comes back with less than it had: what it still has is not said again, and what is new is not lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from mcp_sessions.store.calls import nodes, streams
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import Harness, payloads
from tests.support.redis import RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        client.flushall()
        yield client


def key_of(redis: Any, end: str) -> Any:
    [key] = redis.scan_iter(f"*{end}")
    return key


async def test_broadcasts_that_were_read_are_not_read_again(redis: Any, redis_harness: Harness) -> None:
    store = redis_harness.store
    for number in range(5):
        await store.run(nodes.broadcast(b"%d" % number))
    after, read = await store.run(nodes.broadcasts(after="", age_ms=60_000))
    assert len(read) == 5
    broadcasts = key_of(redis, "broadcasts")
    redis.xdel(broadcasts, redis.xrevrange(broadcasts, count=1)[0][0])

    after, again = await store.run(nodes.broadcasts(after=after))
    await store.run(nodes.broadcast(b"new"))
    _, new = await store.run(nodes.broadcasts(after=after))

    assert (list(again), list(new)) == ([], [b"new"])


async def test_a_standalone_stream_goes_on_with_what_is_said_then(redis: Any, redis_harness: Harness) -> None:
    harness = redis_harness
    fingerprint = await harness.open()
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    info, log = key_of(redis, "stream-info:standalone"), "stream:standalone"
    snapshot = redis.dump(info)
    await harness.publish(fingerprint, b"one", b"two", b"three")
    batch = await harness.read(fingerprint, taken, stream=STANDALONE)
    assert payloads(batch) == [b"one", b"two", b"three"]
    redis.delete(key_of(redis, log))
    redis.restore(info, 60_000, snapshot, replace=True)

    await harness.publish(fingerprint, b"four")
    found = await harness.store.run(
        streams.read(fingerprint, STANDALONE, token=taken.claim.token, after=3, max_bytes=1_000)
    )

    assert found is not None
    assert payloads(found) == [b"four"]
