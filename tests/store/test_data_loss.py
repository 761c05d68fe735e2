"""A Redis that comes back with older data: what was delivered is not repeated, and what is new is not lost."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.store.calls import nodes, streams
from mcp_sessions.store.calls.streams import Batch, Claim, Taken
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import Harness, events, payloads
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


class Snapshot:
    """A session's keys at one moment, with which the server comes back."""

    def __init__(self, redis: Any, fingerprint: str) -> None:
        self.redis, self.fingerprint = redis, fingerprint
        self.saved = {key: redis.dump(key) for key in redis.scan_iter(f"*{fingerprint}*")}

    def restore(self, harness: Harness) -> None:
        """Bring the keys back, a second later by the clock."""
        harness.clock.advance(1_000)
        for key in self.redis.scan_iter(f"*{self.fingerprint}*"):
            self.redis.delete(key)
        for key, value in self.saved.items():
            self.redis.restore(key, 60_000, value)


async def read_on(harness: Harness, fingerprint: str, taken: Taken, after: int) -> Batch:
    """What a connection reads that has delivered up to a position."""
    return await harness.read(fingerprint, replace(taken, after=after), stream=STANDALONE)


async def delivered_and_lost(redis: Any, harness: Harness) -> tuple[str, Taken, list[tuple[int, bytes]]]:
    """A session, a claim, and the three messages that it delivered, of which Redis has lost the last two."""
    fingerprint = await harness.open()
    taken = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    await harness.publish(fingerprint, b"one")
    before = Snapshot(redis, fingerprint)
    await harness.publish(fingerprint, b"two", b"three")
    delivered = events(await harness.read(fingerprint, taken, stream=STANDALONE))
    before.restore(harness)
    return fingerprint, taken, delivered


async def test_no_position_is_given_twice_and_nothing_new_is_skipped(
    redis: Any, redis_harness: Harness
) -> None:
    harness = redis_harness
    fingerprint, taken, delivered = await delivered_and_lost(redis, harness)

    for payload in (b"four", b"five", b"six", b"seven"):
        await harness.publish(fingerprint, payload)

    new = events(await read_on(harness, fingerprint, taken, delivered[-1][0]))
    assert [payload for _, payload in new] == [b"four", b"five", b"six", b"seven"]
    assert not {position for position, _ in new} & {position for position, _ in delivered}
    # A client that comes back with an id of a message that was lost.
    again = await harness.claim(fingerprint, stream=STANDALONE, after=delivered[-1][0])
    assert events(await harness.read(fingerprint, again, stream=STANDALONE)) == new


async def test_positions_continue_after_those_that_a_connection_has_delivered(
    redis: Any, redis_harness: Harness
) -> None:
    """The clock of the server that took over is behind."""
    harness = redis_harness
    fingerprint, taken, [*_, (last, _)] = await delivered_and_lost(redis, harness)
    harness.clock.advance(-60_000)
    assert events(await read_on(harness, fingerprint, taken, last)) == []

    await harness.publish(fingerprint, b"four")

    assert events(await read_on(harness, fingerprint, taken, last)) == [(last + 1, b"four")]
    nobody = await harness.claim(fingerprint, stream=STANDALONE, after=None)
    assert events(await harness.read(fingerprint, nobody, stream=STANDALONE)) == []


async def test_a_claim_that_was_lost_is_valid_again_and_a_newer_one_stays_the_newest(
    redis: Any, redis_harness: Harness
) -> None:
    harness = redis_harness
    fingerprint = await harness.open()
    oldest = await harness.claim(fingerprint, stream=STANDALONE, node="a", after=None)
    before = Snapshot(redis, fingerprint)
    older = await harness.claim(fingerprint, stream=STANDALONE, node="b", after=None)
    newest = await harness.claim(fingerprint, stream=STANDALONE, node="c", after=None)
    before.restore(harness)

    read = [
        await harness.read(fingerprint, each, stream=STANDALONE)
        for each in (oldest, older, newest, older, oldest)
    ]

    assert [each.valid for each in read] == [True, True, True, False, False]
    assert [each.holder for each in read[:3]] == [each.claim for each in (oldest, older, newest)]
    released = await harness.store.run(streams.release(fingerprint, token=newest.claim.token))
    assert released == older.claim
    after_it = await harness.claim(fingerprint, stream=STANDALONE, node="d", after=None)
    assert after_it.claim.token > newest.claim.token


async def test_an_exchanges_claim_that_was_lost_is_valid_again(redis: Any, redis_harness: Harness) -> None:
    harness = redis_harness
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    before = Snapshot(redis, fingerprint)
    taken = await harness.claim(fingerprint)
    await harness.append(fingerprint, b"two", b"three", first=2)
    assert len((await harness.read(fingerprint, taken)).events) == 3
    before.restore(harness)

    await harness.append(fingerprint, b"four", first=4, last=True)

    batch = await harness.read(fingerprint, replace(taken, after=3))
    assert (events(batch), batch.ended) == ([(4, b"four")], True)


async def test_a_released_connection_whose_last_read_is_late_takes_nothing_back(
    redis_harness: Harness,
) -> None:
    harness = redis_harness
    fingerprint = await harness.open()
    staying = await harness.claim(fingerprint, stream=STANDALONE, node="a", after=None)
    leaving = await harness.claim(fingerprint, stream=STANDALONE, node="b", after=None)
    await harness.store.run(streams.release(fingerprint, token=leaving.claim.token))
    assert not (await harness.read(fingerprint, leaving, stream=STANDALONE)).valid
    assert (await harness.read(fingerprint, staying, stream=STANDALONE)).valid


async def test_messages_of_a_release_that_counted_from_one_are_followed_by_new_ones(
    redis: Any, redis_harness: Harness
) -> None:
    harness = redis_harness
    fingerprint = await harness.open()
    await harness.claim(fingerprint, stream=STANDALONE, after=None)
    info, log = (harness.key(fingerprint, part + "standalone") for part in ("stream-info:", "stream:"))
    for number in (1, 2):
        redis.xadd(log, {"d": b"%d" % number}, id=f"{number}-0")
    redis.hset(info, mapping={"last": 2, "bytes": 2, "delivered": 1, "token": 7, "node": "a"})
    await harness.publish(fingerprint, b"3")

    taken = await harness.claim(fingerprint, stream=STANDALONE, after=1)

    assert (taken.replaced, taken.after) == (Claim(node="a", token=7), 1)
    assert payloads(await harness.read(fingerprint, taken, stream=STANDALONE)) == [b"2", b"3"]
