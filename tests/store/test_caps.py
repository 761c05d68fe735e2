"""MAX_SESSIONS and MAX_SESSIONS_PER_PRINCIPAL."""

import asyncio

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store.calls import indexes, sessions
from tests.store.harness import (
    CLAUDE,
    HOUR,
    MINUTE,
    Harness,
    a_fingerprint,
    a_fingerprint_in,
    another,
    gather,
)


async def test_at_the_cap_no_session_is_created_and_the_others_stay(harness: Harness) -> None:
    harness.limit(max_sessions=3)
    opened = [await harness.open() for _ in range(3)]
    refused = a_fingerprint()

    with pytest.raises(TooManySessions):
        await harness.open(fingerprint=refused)

    assert await harness.store.run(sessions.get(refused)) is None
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 3
    for fingerprint in opened:
        assert await harness.touch(fingerprint) is not None


async def test_a_session_that_ends_makes_room(harness: Harness) -> None:
    harness.limit(max_sessions=2)
    first, _ = [await harness.open() for _ in range(2)]

    await harness.store.run(sessions.end(first, principal=None, reason="deleted"))

    await harness.open()
    with pytest.raises(TooManySessions):
        await harness.open()


async def test_sessions_opened_at_the_same_moment_do_not_exceed_the_cap_together(harness: Harness) -> None:
    harness.limit(max_sessions=5)

    results = await asyncio.gather(
        *[
            store.run(
                sessions.create(
                    a_fingerprint(),
                    principal=ANONYMOUS,
                    handshake=CLAUDE,
                    limits=harness.limits,
                    another=another(),
                )
            )
            for store in (harness.store, harness.other)
            for _ in range(10)
        ],
        return_exceptions=True,
    )

    assert sum(not isinstance(result, BaseException) for result in results) == 5
    assert sum(isinstance(result, TooManySessions) for result in results) == 15
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 5


async def test_sessions_that_never_became_active_free_their_places(harness: Harness) -> None:
    harness.limit(max_sessions=2, max_sessions_per_principal=2)
    for _ in range(2):
        await harness.open(principal="issuer|ann", active=False)
    with pytest.raises(TooManySessions):
        await harness.open(principal="issuer|ann", active=False)

    harness.clock.advance(MINUTE)

    await harness.open(principal="issuer|ann")


async def test_sessions_that_idled_out_free_their_places(harness: Harness) -> None:
    harness.limit(max_sessions=2, max_sessions_per_principal=2)
    for _ in range(2):
        await harness.open(principal="issuer|ann")
    await harness.settled()

    harness.clock.advance(HOUR)

    await harness.open(principal="issuer|ann")


async def test_places_of_sessions_that_are_gone_are_free_for_concurrent_creations(harness: Harness) -> None:
    harness.limit(max_sessions_per_principal=10)
    for _ in range(10):
        await harness.open(principal="issuer|ann")
    await harness.settled()

    harness.clock.advance(HOUR)

    opened = await gather(*[harness.open(principal="issuer|ann", active=False) for _ in range(10)])
    assert len(opened) == 10


async def test_sessions_that_reached_their_age_free_their_places_at_once(harness: Harness) -> None:
    harness.limit(max_sessions=30, max_age_ms=2 * MINUTE)
    await gather(*[harness.open() for _ in range(15)])
    harness.clock.advance(MINUTE)
    alive = await gather(*[harness.open() for _ in range(15)])
    await harness.settled()

    harness.clock.advance(MINUTE)

    await gather(*[harness.open() for _ in range(15)])
    with pytest.raises(TooManySessions):
        await harness.open()
    for fingerprint in alive:
        assert await harness.touch(fingerprint) is not None


async def test_one_principal_has_its_own_cap_and_takes_nobody_elses_place(harness: Harness) -> None:
    harness.limit(max_sessions_per_principal=2)
    for _ in range(2):
        await harness.open(principal="issuer|ann")

    with pytest.raises(TooManySessions):
        await harness.open(principal="issuer|ann")

    await harness.open(principal="issuer|bob")
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 3


async def test_anonymous_clients_share_no_cap(harness: Harness) -> None:
    harness.limit(max_sessions_per_principal=1)

    for _ in range(3):
        await harness.open()

    assert harness.sync.run(indexes.count(limits=harness.limits)) == 3


async def test_a_refused_session_leaves_its_fingerprint_free(harness: Harness) -> None:
    harness.limit(max_sessions=1)
    # There is room in one shard only.
    first, second = await harness.open(), a_fingerprint_in(0, harness.limits.shards)
    with pytest.raises(TooManySessions):
        await harness.open(fingerprint=second)

    await harness.store.run(sessions.end(first, principal=None, reason="deleted"))

    assert await harness.open(fingerprint=second) == second
