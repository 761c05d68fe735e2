"""A cache whose LOCATION asks for RESP3, the third version of Redis' protocol, in which some replies look otherwise."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.store import worlds
from tests.store.stream_worlds import Streams, streams_of
from tests.store.worlds import MINUTE, World


@pytest.fixture
async def world(redis_caches: dict[str, Any]) -> AsyncIterator[World]:
    redis_caches["default"]["LOCATION"] += "?protocol=3"
    made = worlds.redis_world("standalone")
    yield made
    await made.aclose()


@pytest.fixture
async def streams(world: World) -> AsyncIterator[Streams]:
    made = streams_of(world)
    yield made
    await made.aclose()


async def test_sessions_and_their_state_are_the_same(world: World) -> None:
    fingerprint = await world.open()
    await world.store.set_log_level(fingerprint, "info")
    await world.store.state_set(fingerprint, {"n": "1"}, max_bytes=100)

    session = await world.touch(fingerprint)

    assert session is not None
    assert (session.log_level, await world.store.state_names(fingerprint)) == ("info", ["n"])
    assert world.directory.state(fingerprint) == {"n": 1}


async def test_doorbells_are_heard(streams: Streams) -> None:
    await streams.store.beat("a", about="{}", forget_after_ms=MINUTE)
    after, nothing = await streams.store.listen("a", after="", block_ms=20)

    await streams.other.ring({"a": [b"one", b"two"]})
    streams.directory.ring({"a": [b"three"]})

    heard: list[bytes] = []
    while len(heard) < 3:
        after, doorbells = await streams.store.listen("a", after=after, block_ms=5_000)
        heard += doorbells
    assert (list(nothing), heard) == ([], [b"one", b"two", b"three"])
    assert [node.id for node in await streams.store.nodes()] == ["a"]


async def test_messages_are_read(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    taken = await streams.store.claim(fingerprint, "standalone", node="a", after=None)
    assert taken is not None
    await streams.store.publish(fingerprint, payloads=[b"hello"], key="1", limits=streams.limits)

    batch = await streams.store.read(
        fingerprint, "standalone", token=taken.claim.token, after=taken.after, max_bytes=1_000
    )

    assert batch is not None
    assert [event.payload for event in batch.events] == [b"hello"]
