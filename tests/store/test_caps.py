"""MAX_SESSIONS and MAX_SESSIONS_PER_PRINCIPAL."""

import asyncio

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.store.session import ANONYMOUS
from tests.store.worlds import CLAUDE, HOUR, MINUTE, World, a_fingerprint


async def test_at_the_cap_no_session_is_created_and_the_others_stay(world: World) -> None:
    world.limit(max_sessions=3)
    opened = [await world.open() for _ in range(3)]
    refused = a_fingerprint()

    with pytest.raises(TooManySessions):
        await world.open(fingerprint=refused)

    assert await world.store.get(refused) is None
    assert world.directory.count() == 3
    for fingerprint in opened:
        assert await world.touch(fingerprint) is not None


async def test_a_session_that_ends_makes_room(world: World) -> None:
    world.limit(max_sessions=2)
    first, _ = [await world.open() for _ in range(2)]

    await world.store.end(first, principal=None, reason="deleted")

    await world.open()
    with pytest.raises(TooManySessions):
        await world.open()


async def test_sessions_opened_at_the_same_moment_do_not_exceed_the_cap_together(world: World) -> None:
    world.limit(max_sessions=5)

    results = await asyncio.gather(
        *[
            store.create(a_fingerprint(), principal=ANONYMOUS, handshake=CLAUDE, limits=world.limits)
            for store in (world.store, world.other)
            for _ in range(10)
        ],
        return_exceptions=True,
    )

    assert sum(not isinstance(result, BaseException) for result in results) == 5
    assert sum(isinstance(result, TooManySessions) for result in results) == 15
    assert world.directory.count() == 5


async def test_sessions_that_never_became_active_free_their_places(world: World) -> None:
    world.limit(max_sessions=2, max_sessions_per_principal=2)
    for _ in range(2):
        await world.open(principal="issuer|ann", active=False)
    with pytest.raises(TooManySessions):
        await world.open(principal="issuer|ann", active=False)

    world.clock.advance(MINUTE)

    await world.open(principal="issuer|ann")


async def test_sessions_that_idled_out_free_their_places(world: World) -> None:
    world.limit(max_sessions=2, max_sessions_per_principal=2)
    for _ in range(2):
        await world.open(principal="issuer|ann")
    await world.settled()

    world.clock.advance(HOUR)

    await world.open(principal="issuer|ann")


async def test_one_principal_has_its_own_cap_and_takes_nobody_elses_place(world: World) -> None:
    world.limit(max_sessions_per_principal=2)
    for _ in range(2):
        await world.open(principal="issuer|ann")

    with pytest.raises(TooManySessions):
        await world.open(principal="issuer|ann")

    await world.open(principal="issuer|bob")
    assert world.directory.count() == 3


async def test_anonymous_clients_share_no_cap(world: World) -> None:
    world.limit(max_sessions_per_principal=1)

    for _ in range(3):
        await world.open()

    assert world.directory.count() == 3


async def test_a_refused_session_leaves_its_fingerprint_free(world: World) -> None:
    world.limit(max_sessions=1)
    first, second = await world.open(), a_fingerprint()
    with pytest.raises(TooManySessions):
        await world.open(fingerprint=second)

    await world.store.end(first, principal=None, reason="deleted")

    assert await world.open(fingerprint=second) == second
