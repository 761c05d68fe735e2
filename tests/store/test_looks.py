"""Looks at sessions and streams that a node holds: what every driver promises."""

import pytest
from django_redis import get_redis_connection

from mcp_sessions.store.calls import looks, sessions, streams
from mcp_sessions.store.calls.looks import Found, Held
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import DAY, EXCHANGE, HOUR, SECOND, Harness, a_fingerprint


async def look(harness: Harness, *held: Held) -> list[object]:
    return list(await harness.store.run(looks.look(held)))


async def listening(harness: Harness, node: str = "a") -> Held:
    """A session whose standalone stream a node delivers."""
    fingerprint = await harness.open()
    taken = await harness.claim(fingerprint, stream=STANDALONE, node=node, after=None)
    return Held(fingerprint, STANDALONE, taken.claim.token, taken.after)


async def test_a_look_says_how_long_a_session_was_idle_and_changes_nothing(harness: Harness) -> None:
    held = await listening(harness)
    harness.advance(7 * SECOND)
    before = await harness.store.run(sessions.get(held.fingerprint))

    assert await look(harness, held, Held(held.fingerprint)) == [Found(7 * SECOND), Found(7 * SECOND)]

    assert await harness.store.run(sessions.get(held.fingerprint)) == before


async def test_nothing_is_found_of_a_session_that_is_over(harness: Harness) -> None:
    ended, idle, unknown = await harness.open(), await harness.open(), a_fingerprint()
    await harness.store.run(sessions.end(ended, principal=None, reason="deleted"))
    harness.advance(HOUR)
    lives = await harness.open()

    found = await look(
        harness, *(Held(each, STANDALONE, 1, 1) for each in (ended, idle, unknown)), Held(lives)
    )

    assert found == [None, None, None, Found(0)]


async def test_a_look_says_when_a_deadline_is_near(harness: Harness) -> None:
    harness.limit(idle_ms=2 * DAY)
    fingerprint = await harness.open()
    harness.advance(DAY - 10 * SECOND)
    assert await look(harness, Held(fingerprint)) == [Found(DAY - 10 * SECOND)]
    harness.advance(1)
    assert await look(harness, Held(fingerprint)) == [Found(DAY - 10 * SECOND + 1, 10 * SECOND - 1)]
    harness.advance(10 * SECOND - 1)
    assert await look(harness, Held(fingerprint)) == [None]


async def changed(harness: Harness, held: Held) -> bool:
    [found] = await look(harness, held)
    assert isinstance(found, Found)
    return found.changed


async def test_a_standalone_stream_has_news_until_they_are_delivered(harness: Harness) -> None:
    held = await listening(harness)
    assert not await changed(harness, held)

    appended = await harness.publish(held.fingerprint, b"news")
    assert appended is not None
    assert await changed(harness, held)

    assert not await changed(harness, held._replace(position=appended.position))
    # The server has lost what was delivered: to read makes up for it.
    assert await changed(harness, held._replace(position=appended.position + 1))


async def test_another_connection_is_news_and_its_messages_are_not(harness: Harness) -> None:
    older = await listening(harness)
    newer = await harness.claim(older.fingerprint, stream=STANDALONE, node="b", after=None)
    assert await changed(harness, older)

    waiting = older._replace(token=newer.claim.token, position=None)
    await harness.publish(older.fingerprint, b"news")
    assert not await changed(harness, waiting)

    # What the newer one delivered is no news for the older one when it gets the stream back.
    await harness.read(older.fingerprint, newer, stream=STANDALONE)
    assert older.token is not None
    await harness.store.run(streams.release(older.fingerprint, token=newer.claim.token))
    assert await changed(harness, waiting)
    assert not await changed(harness, older)


async def test_an_exchange_has_news_until_its_end_is_delivered(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"progress")
    taken = await harness.claim(fingerprint, stream=EXCHANGE, node="b", after=1)
    held = Held(fingerprint, EXCHANGE, taken.claim.token, 1)
    assert not await changed(harness, held)

    await harness.append(fingerprint, b"response", last=True, first=2)
    assert await changed(harness, held)
    assert await changed(harness, held._replace(position=2)), "to read says that nothing follows"


async def test_a_stream_that_is_gone_is_news(harness: Harness) -> None:
    fingerprint = await harness.open()
    assert await changed(harness, Held(fingerprint, STANDALONE, 1, 0))
    assert await changed(harness, Held(fingerprint, STANDALONE, 0, None))


@pytest.mark.parametrize("part", ["session", "stream-info:" + STANDALONE])
async def test_a_key_of_another_type_is_no_concern_of_the_others(redis_harness: Harness, part: str) -> None:
    broken, other = await listening(redis_harness), await listening(redis_harness)
    redis, key = get_redis_connection("default"), redis_harness.key(broken.fingerprint, part)
    redis.delete(key)
    redis.rpush(key, "of another type")

    found, well = await look(redis_harness, broken, other)

    assert well == Found(0)
    assert found is None if part == "session" else isinstance(found, Found) and found.changed


@pytest.mark.parametrize("missing", range(1, 5))
async def test_a_record_without_one_of_its_numbers_is_none_and_no_concern_of_the_others(
    redis_harness: Harness, missing: int
) -> None:
    broken, other = [Held(await redis_harness.open()) for _ in range(2)]
    redis, key = get_redis_connection("default"), redis_harness.key(broken.fingerprint, "session")
    numbers = redis.get(key).split(b" ")
    numbers[missing] = b""
    redis.set(key, b" ".join(numbers), px=HOUR)

    assert await look(redis_harness, broken, other) == [None, Found(0)]


async def test_many_are_looked_at_together(harness: Harness) -> None:
    held = [await listening(harness) for _ in range(3)] * 100
    assert await look(harness, *held) == [Found(0)] * 300
