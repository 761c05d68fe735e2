"""How long sessions live: FIRST_TTL, IDLE_TTL, MAX_AGE. The clock is moved by hand."""

import asyncio

import pytest

from mcp_sessions.errors import SessionGone
from tests.store.worlds import DAY, HOUR, MINUTE, World


async def is_gone(world: World, fingerprint: str) -> bool:
    """Whether every face treats the session as gone."""
    found = [
        await world.store.get(fingerprint),
        await world.touch(fingerprint),
        world.directory.get(fingerprint),
        *await world.store.keep([fingerprint], limits=world.limits),
    ]
    return not any(found)


async def test_a_session_that_never_became_active_ends_after_first_ttl(world: World) -> None:
    fingerprint = await world.open(active=False)

    world.clock.advance(MINUTE - 1)
    assert await world.store.get(fingerprint) is not None
    world.clock.advance(1)
    assert await is_gone(world, fingerprint)


async def test_a_session_idles_out(world: World) -> None:
    fingerprint = await world.open()

    world.clock.advance(HOUR - 1)
    assert await world.store.get(fingerprint) is not None
    world.clock.advance(1)
    assert await is_gone(world, fingerprint)


async def test_every_touch_starts_the_idle_time_again(world: World) -> None:
    fingerprint = await world.open()

    for _ in range(5):
        world.clock.advance(HOUR - 1)
        assert await world.touch(fingerprint) is not None


async def test_looking_at_a_session_does_not_keep_it(world: World) -> None:
    fingerprint = await world.open()
    world.clock.advance(HOUR - 1)

    assert await world.store.get(fingerprint) is not None
    assert world.directory.get(fingerprint) is not None
    world.clock.advance(1)

    assert await is_gone(world, fingerprint)


async def test_work_in_flight_keeps_sessions_without_counting_as_requests(world: World) -> None:
    kept, left = await world.open(), await world.open()
    world.clock.advance(HOUR - 1)

    assert set(await world.store.keep([kept], limits=world.limits)) == {kept}
    world.clock.advance(HOUR - 1)

    session = await world.store.get(kept)
    assert session is not None
    assert session.requests == 1
    assert session.last_activity_ms == world.clock.now - HOUR + 1
    assert await is_gone(world, left)
    assert set(await world.store.keep([kept, left], limits=world.limits)) == {kept}


async def test_keeping_nothing_is_nothing(world: World) -> None:
    assert await world.store.keep([], limits=world.limits) == {}


@pytest.mark.parametrize("how", ["touch", "keep"])
async def test_no_activity_carries_a_session_past_its_maximum_age(world: World, how: str) -> None:
    fingerprint = await world.open()
    for _ in range(25):
        world.clock.advance(HOUR - 1)
        if how == "touch":
            session = await world.touch(fingerprint)
        else:
            await world.store.keep([fingerprint], limits=world.limits)
            session = await world.store.get(fingerprint)
        if session is None:
            break
        assert session.expires_ms <= session.deadline_ms == session.created_ms + DAY

    assert session is None
    assert await is_gone(world, fingerprint)


async def test_the_first_ttl_never_exceeds_the_maximum_age(world: World) -> None:
    world.limit(max_age_ms=10_000, first_ms=60_000)

    fingerprint = await world.open(active=False)

    session = await world.store.get(fingerprint)
    assert session is not None
    assert session.expires_ms == session.deadline_ms == session.created_ms + 10_000


async def test_changed_lifetimes_hold_from_the_next_touch_on(world: World) -> None:
    fingerprint = await world.open()
    world.limit(idle_ms=MINUTE)

    touched = await world.touch(fingerprint)

    assert touched is not None
    assert touched.expires_ms == world.clock.now + MINUTE


async def test_an_expired_session_cannot_be_changed_or_ended(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"a": "1"}, max_bytes=100)
    world.clock.advance(HOUR)

    assert await world.store.set_log_level(fingerprint, "debug") is False
    assert await world.store.change_tools(fingerprint, enable=["paint"]) is None
    assert await world.store.end(fingerprint, principal=None, reason="deleted") is None
    assert world.directory.end(fingerprint) is None
    assert world.directory.state(fingerprint) == {}
    with pytest.raises(SessionGone):
        await world.store.state_get(fingerprint, ["a"])


async def test_a_tombstone_lasts_ten_minutes(world: World) -> None:
    fingerprint = await world.open()
    await world.store.end(fingerprint, principal=None, reason="deleted")

    world.clock.advance(10 * MINUTE - 1)

    with pytest.raises(ValueError, match="ended"):
        await world.open(fingerprint=fingerprint)


async def test_a_clock_that_goes_back_breaks_no_session(world: World) -> None:
    fingerprint = await world.open()
    world.clock.advance(-10 * MINUTE)

    touched = await world.touch(fingerprint, call="tools/list")

    assert touched is not None
    assert touched.last_activity_ms == world.clock.now < touched.created_ms
    assert await world.store.get(fingerprint) == touched


async def test_at_its_maximum_age_exactly_one_of_many_gets_a_session(world: World) -> None:
    world.limit(max_age_ms=HOUR)
    fingerprint = await world.open()
    world.clock.advance(HOUR)
    assert await is_gone(world, fingerprint)

    gained = await asyncio.gather(
        *[
            store.end(fingerprint, principal=None, reason="max_age")
            for store in [world.store, world.other] * 5
        ]
    )

    [session] = [each for each in gained if each is not None]
    assert session.fingerprint == fingerprint
    with pytest.raises(ValueError, match="ended"):
        await world.open(fingerprint=fingerprint)


async def test_nobody_gets_a_session_long_after_its_maximum_age_or_one_that_idled_out(world: World) -> None:
    world.limit(max_age_ms=HOUR + MINUTE)
    idle = await world.open()
    world.clock.advance(HOUR)
    assert await world.store.end(idle, principal=None, reason="max_age") is None

    old = await world.open()
    world.clock.advance(HOUR - 1)
    assert await world.touch(old)
    world.clock.advance(MINUTE + 10_001)
    assert await world.store.end(old, principal=None, reason="max_age") is None
