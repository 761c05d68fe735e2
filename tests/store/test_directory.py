"""What the operator sees: pages by last activity, filters, search, counts. The same over every store."""

import pytest

from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.store.base import Page, Query
from mcp_sessions.store.session import Session
from tests.store.worlds import HOUR, MINUTE, SECOND, World, a_fingerprint, client_named


def shown(page: Page) -> list[str]:
    return [session.fingerprint for session in page.sessions]


async def open_spaced(world: World, count: int) -> list[str]:
    """Sessions opened ten seconds apart, oldest first."""
    opened = []
    for _ in range(count):
        world.clock.advance(10 * SECOND)
        opened.append(await world.open())
    await world.settled()
    return opened


async def test_an_empty_store_has_an_empty_page(world: World) -> None:
    page = world.directory.page(Query(), offset=0, limit=10)

    assert (list(page.sessions), page.total) == ([], 0)
    assert world.directory.count() == 0
    assert list(world.directory.clients()) == []


async def test_pages_are_cut_newest_first_and_carry_the_total(world: World) -> None:
    opened = await open_spaced(world, 7)
    newest_first = opened[::-1]

    pages = [world.directory.page(Query(), offset=offset, limit=3) for offset in (0, 3, 6, 9)]

    assert [shown(page) for page in pages] == [newest_first[:3], newest_first[3:6], newest_first[6:], []]
    assert {page.total for page in pages} == {7}
    assert world.directory.count() == 7


async def test_pages_can_be_oldest_first(world: World) -> None:
    opened = await open_spaced(world, 5)

    page = world.directory.page(Query(ascending=True), offset=1, limit=3)

    assert shown(page) == opened[1:4]
    assert page.total == 5


async def test_a_page_shows_sessions_as_they_are(world: World) -> None:
    fingerprint = await world.open(principal="issuer|ann")
    await world.store.set_log_level(fingerprint, "debug")
    await world.store.change_tools(fingerprint, enable=["paint"])

    page = world.directory.page(Query(), offset=0, limit=10)

    assert list(page.sessions) == [await world.store.get(fingerprint)]


async def test_activity_moves_a_session_to_the_top(world: World) -> None:
    opened = await open_spaced(world, 3)
    world.clock.advance(10 * SECOND)
    await world.touch(opened[0])
    await world.settled()

    assert shown(world.directory.page(Query(), offset=0, limit=10)) == [opened[0], opened[2], opened[1]]


async def test_an_open_stream_moves_a_session_to_the_top_too(world: World) -> None:
    opened = await open_spaced(world, 2)
    world.clock.advance(10 * SECOND)
    await world.store.keep([opened[0]], limits=world.limits)
    await world.settled()

    assert shown(world.directory.page(Query(), offset=0, limit=10)) == [opened[0], opened[1]]


async def test_a_session_that_never_became_active_is_listed_until_it_ends(world: World) -> None:
    fingerprint = await world.open(active=False)
    assert shown(world.directory.page(Query(client="claude-ai"), offset=0, limit=10)) == [fingerprint]
    assert world.directory.count() == 1

    world.clock.advance(MINUTE)

    assert world.directory.count() == 0
    assert shown(world.directory.page(Query(), offset=0, limit=10)) == []


async def test_a_stream_alone_keeps_a_session_that_never_became_active_in_the_list(world: World) -> None:
    fingerprint = await world.open(active=False)
    world.clock.advance(30 * SECOND)
    await world.store.keep([fingerprint], limits=world.limits)
    await world.settled()

    world.clock.advance(30 * MINUTE)

    assert shown(world.directory.page(Query(), offset=0, limit=10)) == [fingerprint]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(client="inspector"), ["a", "c"]),
        (Query(client="cursor"), ["b", "d"]),
        (Query(client="nobody"), []),
        (Query(protocol="2025-06-18"), ["a", "b"]),
        (Query(protocol="2025-03-26"), []),
        (Query(principal="issuer|ann"), ["a", "d"]),
        (Query(principal="anonymous"), ["c"]),
        (Query(principal="issuer|a"), []),
        (Query(), ["a", "b", "c", "d"]),
    ],
)
async def test_sessions_are_filtered_by_client_protocol_or_owner(
    world: World, query: Query, expected: list[str]
) -> None:
    opened = {}
    for name, client, protocol, principal in (
        ("a", "inspector", "2025-06-18", "issuer|ann"),
        ("b", "cursor", "2025-06-18", "issuer|bob"),
        ("c", "inspector", "2025-11-25", "anonymous"),
        ("d", "cursor", "2025-11-25", "issuer|ann"),
    ):
        opened[name] = await world.open(
            principal=principal, handshake=client_named(client, protocol=protocol)
        )

    page = world.directory.page(query, offset=0, limit=10)

    assert sorted(shown(page)) == sorted(opened[name] for name in expected)
    assert page.total == len(expected)


async def test_filters_exclude_each_other(world: World) -> None:
    for query in (
        Query(client="a", protocol="b"),
        Query(client="a", principal="b"),
        Query(protocol="a", principal="b"),
    ):
        with pytest.raises(UnsupportedLookup):
            world.directory.page(query, offset=0, limit=1)


async def test_sessions_are_filtered_by_when_they_were_active(world: World) -> None:
    opened = await open_spaced(world, 6)
    times = [session.last_activity_ms for each in opened if (session := await world.store.get(each))]

    def between(
        since: int | None, before: int | None, *, ascending: bool = False, offset: int = 0
    ) -> list[str]:
        query = Query(active_since_ms=since, active_before_ms=before, ascending=ascending)
        return shown(world.directory.page(query, offset=offset, limit=2))

    assert between(times[2], None) == [opened[5], opened[4]]
    assert between(times[2], None, offset=2) == [opened[3], opened[2]]
    assert between(times[2], None, offset=4) == []
    assert between(None, times[2]) == [opened[1], opened[0]]
    assert between(times[1], times[4]) == [opened[3], opened[2]]
    assert between(times[1], times[4], ascending=True) == [opened[1], opened[2]]
    assert between(times[1], times[4], ascending=True, offset=2) == [opened[3]]
    page = world.directory.page(Query(active_since_ms=times[1], active_before_ms=times[4]), offset=0, limit=2)
    assert page.total == 3


async def test_activity_bounds_go_with_a_filter(world: World) -> None:
    old = await world.open(handshake=client_named("cursor"))
    world.clock.advance(MINUTE)
    await world.open(handshake=client_named("inspector"))
    new = await world.open(handshake=client_named("cursor"))

    query = Query(client="cursor", active_since_ms=world.clock.now)

    assert shown(world.directory.page(query, offset=0, limit=10)) == [new]
    query = Query(client="cursor", active_before_ms=world.clock.now)
    assert shown(world.directory.page(query, offset=0, limit=10)) == [old]


@pytest.mark.parametrize("how", ["idle", "ended", "ended by operator"])
async def test_sessions_that_are_over_are_neither_listed_nor_counted(world: World, how: str) -> None:
    gone, stays = await world.open(), await world.open()
    if how == "idle":
        world.clock.advance(HOUR - MINUTE)
        await world.touch(stays)
        world.clock.advance(2 * MINUTE)
    elif how == "ended":
        await world.store.end(gone, principal=None, reason="deleted")
    else:
        world.directory.end(gone)
    await world.settled()

    for query in (
        Query(),
        Query(client="claude-ai"),
        Query(protocol="2025-11-25"),
        Query(principal="anonymous"),
    ):
        page = world.directory.page(query, offset=0, limit=10)
        assert (shown(page), page.total) == ([stays], 1)
    assert world.directory.count() == 1
    assert [session.fingerprint for session in world.directory.find(gone[:8], limit=5)] == []


async def test_names_of_clients_come_most_recent_first(world: World) -> None:
    for name in ("cursor", "inspector", "claude-ai", "cursor"):
        world.clock.advance(10 * SECOND)
        await world.open(handshake=client_named(name))

    assert list(world.directory.clients()) == ["cursor", "claude-ai", "inspector"]


async def test_at_most_a_hundred_client_names_are_kept(world: World) -> None:
    for n in range(103):
        world.clock.advance(1)
        await world.open(handshake=client_named(f"client-{n}"), active=False)

    names = world.directory.clients()

    assert len(names) == 100
    assert names[0] == "client-102"
    assert "client-2" not in names


async def test_an_endless_client_name_is_listed_short_and_found_by_what_is_listed(world: World) -> None:
    fingerprint = await world.open(handshake=client_named("{x}☃:* " * 1000))

    [listed] = world.directory.clients()

    assert len(listed) == 100
    assert shown(world.directory.page(Query(client=listed), offset=0, limit=10)) == [fingerprint]


async def test_a_nameless_client_is_a_client(world: World) -> None:
    fingerprint = await world.open(handshake=client_named(""))

    assert list(world.directory.clients()) == [""]
    assert shown(world.directory.page(Query(client=""), offset=0, limit=10)) == [fingerprint]


async def test_a_session_is_found_by_the_start_of_its_fingerprint(world: World) -> None:
    alike = ["abcdef0" + digit + a_fingerprint()[8:] for digit in "123"]
    for fingerprint in alike:
        await world.open(fingerprint=fingerprint)
    await world.open()

    def found(prefix: str, limit: int = 10) -> list[str]:
        return sorted(session.fingerprint for session in world.directory.find(prefix, limit=limit))

    assert found("abcdef02") == [alike[1]]
    assert found(alike[1][:9]) == [alike[1]]
    assert found(alike[2]) == [alike[2]]
    assert found("abcdef0") == []
    assert found("abcdef09") == []
    assert found(a_fingerprint()) == []
    assert found("ABCDEF02") == []
    assert found("abcdef02*") == []
    assert found("") == []
    assert found(alike[0] + "0") == []


async def test_a_search_gives_no_more_than_asked_for(world: World) -> None:
    for _ in range(4):
        await world.open(fingerprint="12345678" + a_fingerprint()[8:])

    assert len(world.directory.find("12345678", limit=3)) == 3


async def test_a_session_that_another_process_ends_is_healed_out_of_a_page(world: World) -> None:
    gone: Session | None = None
    opened = await open_spaced(world, 3)
    gone = await world.other.end(opened[1], principal=None, reason="deleted")

    assert gone is not None
    page = world.directory.page(Query(), offset=0, limit=10)
    assert (shown(page), page.total) == ([opened[2], opened[0]], 2)
