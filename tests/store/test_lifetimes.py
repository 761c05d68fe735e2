"""How long sessions live: FIRST_TTL, IDLE_TTL, MAX_AGE. The clock is moved by hand."""

import asyncio

import pytest

from mcp_sessions.errors import SessionGone
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.calls.reading import Counted
from tests.store.harness import CLAUDE, DAY, HOUR, MINUTE, SECOND, Harness, a_fingerprint


async def is_gone(harness: Harness, fingerprint: str) -> bool:
    """Whether every call treats the session as gone."""
    found = [
        await harness.store.run(sessions.get(fingerprint)),
        await harness.touch(fingerprint),
        harness.sync.run(sessions.get(fingerprint)),
        *await harness.store.run(sessions.keep([fingerprint], limits=harness.limits)),
    ]
    return not any(found)


async def test_a_session_that_never_became_active_ends_after_first_ttl(harness: Harness) -> None:
    fingerprint = await harness.open(active=False)

    harness.clock.advance(MINUTE - 1)
    assert await harness.store.run(sessions.get(fingerprint)) is not None
    harness.clock.advance(1)
    assert await is_gone(harness, fingerprint)


async def test_a_session_idles_out(harness: Harness) -> None:
    fingerprint = await harness.open()

    harness.clock.advance(HOUR - 1)
    assert await harness.store.run(sessions.get(fingerprint)) is not None
    harness.clock.advance(1)
    assert await is_gone(harness, fingerprint)


async def test_every_touch_starts_the_idle_time_again(harness: Harness) -> None:
    fingerprint = await harness.open()

    for _ in range(5):
        harness.clock.advance(HOUR - 1)
        assert await harness.touch(fingerprint) is not None


async def test_looking_at_a_session_does_not_keep_it(harness: Harness) -> None:
    fingerprint = await harness.open()
    harness.clock.advance(HOUR - 1)

    assert await harness.store.run(sessions.get(fingerprint)) is not None
    assert harness.sync.run(sessions.get(fingerprint)) is not None
    harness.clock.advance(1)

    assert await is_gone(harness, fingerprint)


async def test_work_in_flight_keeps_sessions_without_counting_as_requests(harness: Harness) -> None:
    kept, left = await harness.open(), await harness.open()
    harness.clock.advance(HOUR - 1)

    assert set(await harness.store.run(sessions.keep([kept], limits=harness.limits))) == {kept}
    harness.clock.advance(HOUR - 1)

    session = await harness.store.run(sessions.get(kept))
    assert session is not None
    assert (session.requests, session.last_call) == (1, "ping")
    assert session.last_activity_ms == harness.clock.now - HOUR + 1
    assert await is_gone(harness, left)
    assert set(await harness.store.run(sessions.keep([kept, left], limits=harness.limits))) == {kept}


async def test_keeping_nothing_is_nothing(harness: Harness) -> None:
    assert await harness.store.run(sessions.keep([], limits=harness.limits)) == {}


@pytest.mark.parametrize("how", ["touch", "keep"])
async def test_no_activity_carries_a_session_past_its_maximum_age(harness: Harness, how: str) -> None:
    fingerprint = await harness.open()
    for _ in range(25):
        harness.clock.advance(HOUR - 1)
        if how == "touch":
            session = await harness.touch(fingerprint)
        else:
            await harness.store.run(sessions.keep([fingerprint], limits=harness.limits))
            session = await harness.store.run(sessions.get(fingerprint))
        if session is None:
            break
        assert session.expires_ms <= session.deadline_ms == session.created_ms + DAY

    assert session is None
    assert await is_gone(harness, fingerprint)


async def test_the_first_ttl_never_exceeds_the_maximum_age(harness: Harness) -> None:
    harness.limit(max_age_ms=10_000, first_ms=60_000)

    fingerprint = await harness.open(active=False)

    session = await harness.store.run(sessions.get(fingerprint))
    assert session is not None
    assert session.expires_ms == session.deadline_ms == session.created_ms + 10_000


@pytest.mark.parametrize(
    ("said_ms", "counts"),
    [(30 * SECOND, False), (-30 * SECOND, False), (30 * SECOND + 1, True), (1 - DAY, True), (-DAY, False)],
)
async def test_a_session_is_as_old_as_its_id_says_if_the_clocks_are_far_apart(
    harness: Harness, said_ms: int, counts: bool
) -> None:
    now = harness.clock.now
    created = await harness.store.run(
        sessions.create(
            a_fingerprint(),
            principal=ANONYMOUS,
            handshake=CLAUDE,
            limits=harness.limits,
            created_ms=now + said_ms,
        )
    )
    assert created.created_ms == (now + said_ms if counts else now)
    assert created.deadline_ms == created.created_ms + DAY


async def test_changed_lifetimes_hold_from_the_next_touch_on(harness: Harness) -> None:
    fingerprint = await harness.open()
    harness.limit(idle_ms=MINUTE)

    touched = await harness.touch(fingerprint)

    assert touched is not None
    assert touched.expires_ms == harness.clock.now + MINUTE


async def test_an_expired_session_cannot_be_changed_or_ended(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    harness.clock.advance(HOUR)

    assert await harness.store.run(sessions.set_log_level(fingerprint, "debug")) is False
    assert await harness.store.run(sessions.change_tools(fingerprint, enable=["paint"])) is None
    assert await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted")) is None
    assert harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator")) is None
    assert harness.sync.run(state.items(fingerprint)) == {}
    with pytest.raises(SessionGone):
        await harness.store.run(state.get(fingerprint, ["a"]))


async def test_a_tombstone_lasts_ten_minutes(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    harness.clock.advance(10 * MINUTE - 1)

    with pytest.raises(ValueError, match="ended"):
        await harness.open(fingerprint=fingerprint)


async def test_a_clock_that_goes_back_breaks_no_session(harness: Harness) -> None:
    fingerprint = await harness.open()
    harness.clock.advance(-10 * MINUTE)

    touched = await harness.touch(fingerprint, call="tools/list")

    assert touched is not None
    assert touched.last_activity_ms == harness.clock.now < touched.created_ms
    assert await harness.store.run(sessions.get(fingerprint)) == touched


async def test_at_its_maximum_age_exactly_one_of_many_gets_a_session(harness: Harness) -> None:
    harness.limit(max_age_ms=HOUR)
    fingerprint = await harness.open()
    harness.clock.advance(HOUR)
    assert await is_gone(harness, fingerprint)

    gained = await asyncio.gather(
        *[
            store.run(sessions.end(fingerprint, principal=None, reason="max_age"))
            for store in [harness.store, harness.other] * 5
        ]
    )

    [session] = [each for each in gained if each is not None]
    assert session.fingerprint == fingerprint
    with pytest.raises(ValueError, match="ended"):
        await harness.open(fingerprint=fingerprint)


async def test_nobody_gets_a_session_long_after_its_maximum_age_or_one_that_idled_out(
    harness: Harness,
) -> None:
    harness.limit(max_age_ms=HOUR + MINUTE)
    idle = await harness.open()
    harness.clock.advance(HOUR)
    assert await harness.store.run(sessions.end(idle, principal=None, reason="max_age")) is None

    old = await harness.open()
    harness.clock.advance(HOUR - 1)
    assert await harness.touch(old)
    harness.clock.advance(MINUTE + 15_001)
    assert await harness.store.run(sessions.end(old, principal=None, reason="max_age")) is None


async def test_requests_that_were_counted_elsewhere_are_added_and_keep_their_sessions(
    harness: Harness,
) -> None:
    one, two, gone = await harness.open(), await harness.open(), a_fingerprint()
    harness.clock.advance(MINUTE)
    some = {one: Counted(3, "tools/list"), two: Counted(2, ""), gone: Counted(1, "ping")}
    found = await harness.store.run(sessions.count_requests(some, limits=harness.limits))
    assert {key: (each.requests, each.last_call) for key, each in found.items()} == {
        one: (4, "tools/list"),
        two: (3, "ping"),
    }
    assert found[one].expires_ms == harness.clock.now + HOUR
