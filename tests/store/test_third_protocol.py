"""A cache whose LOCATION asks for RESP3, the third version of Redis' protocol, in which some replies look different."""

from collections.abc import AsyncIterator

import pytest
from pytest_django import Settings

from mcp_sessions.store.calls import nodes, sessions, state, streams
from tests.store.harness import MINUTE, Harness, harness_on
from tests.support.caches import standalone_cache
from tests.support.redis import RedisServer


@pytest.fixture
async def harness(redis_server: RedisServer, settings: Settings) -> AsyncIterator[Harness]:
    entry = {**standalone_cache(redis_server), "LOCATION": f"{redis_server.url}?protocol=3"}
    async with harness_on(entry, settings) as made:
        yield made


async def test_sessions_and_their_state_are_the_same(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(sessions.set_log_level(fingerprint, "info"))
    await harness.store.run(state.set_values(fingerprint, {"n": "1"}, max_bytes=100))

    session = await harness.touch(fingerprint)

    assert session is not None
    assert (session.log_level, await harness.store.run(state.names(fingerprint))) == ("info", ["n"])
    assert harness.sync.run(state.items(fingerprint)) == {"n": 1}


async def test_notifications_are_heard(harness: Harness) -> None:
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    after, nothing = await harness.store.listen("a", after="0-0", block_ms=20)

    await harness.other.run(nodes.notify({"a": [b"one", b"two"]}))
    harness.sync.run(nodes.notify({"a": [b"three"]}))

    heard: list[bytes] = []
    while len(heard) < 3:
        after, notifications = await harness.store.listen("a", after=after, block_ms=5_000)
        heard += notifications
    assert (list(nothing), heard) == ([], [b"one", b"two", b"three"])
    assert [node.id for node in await harness.store.run(nodes.list_nodes())] == ["a"]


async def test_messages_are_read(harness: Harness) -> None:
    fingerprint = await harness.open()
    taken = await harness.store.run(
        streams.claim(fingerprint, "standalone", node="a", after=None, ttl_ms=300_000)
    )
    assert taken is not None
    await harness.store.run(
        streams.publish(fingerprint, payloads=[b"hello"], key="1", limits=harness.stream_limits)
    )

    batch = await harness.store.run(
        streams.read(fingerprint, "standalone", claim=taken.claim, after=taken.after, max_bytes=1_000)
    )

    assert batch is not None
    assert [event.payload for event in batch.events] == [b"hello"]
