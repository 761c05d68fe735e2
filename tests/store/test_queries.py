"""What the operator sees, over every store: pages by last activity, filters, search, counts."""

import contextlib
import itertools
from typing import Any

import pytest

from mcp_sessions.errors import UnsupportedLookup
from mcp_sessions.records import Session
from mcp_sessions.store.calls import indexes, queries, sessions
from mcp_sessions.store.calls.queries import Found, Page, Query
from tests.store.harness import CLAUDE, HOUR, MINUTE, SECOND, Harness, a_fingerprint, client_named


def shown(page: Page) -> list[str]:
    return [session.fingerprint for session in page.sessions]


async def open_spaced(harness: Harness, count: int) -> list[str]:
    """Sessions opened ten seconds apart, oldest first."""
    opened = []
    for _ in range(count):
        harness.clock.advance(10 * SECOND)
        opened.append(await harness.open())
    await harness.settled()
    return opened


async def test_an_empty_store_has_an_empty_page(harness: Harness) -> None:
    page = harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))

    assert (list(page.sessions), page.total) == ([], 0)
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 0
    assert list(harness.sync.run(indexes.clients(limits=harness.limits))) == []


async def test_pages_are_cut_newest_first_and_carry_the_total(harness: Harness) -> None:
    opened = await open_spaced(harness, 7)
    newest_first = opened[::-1]

    pages = [
        harness.sync.run(queries.page(Query(), offset=offset, limit=3, limits=harness.limits))
        for offset in (0, 3, 6, 9)
    ]

    assert [shown(page) for page in pages] == [newest_first[:3], newest_first[3:6], newest_first[6:], []]
    assert {page.total for page in pages} == {7}
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 7


async def test_pages_can_be_oldest_first(harness: Harness) -> None:
    opened = await open_spaced(harness, 5)

    page = harness.sync.run(queries.page(Query(ascending=True), offset=1, limit=3, limits=harness.limits))

    assert shown(page) == opened[1:4]
    assert page.total == 5


async def test_a_page_shows_sessions_as_they_are(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")
    await harness.store.run(sessions.set_log_level(fingerprint, "debug"))
    await harness.store.run(sessions.change_tools(fingerprint, enable=["paint"]))

    page = harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))

    assert list(page.sessions) == [await harness.store.run(sessions.get(fingerprint))]


async def test_activity_moves_a_session_to_the_top(harness: Harness) -> None:
    opened = await open_spaced(harness, 3)
    harness.clock.advance(harness.limits.index_ms)
    await harness.touch(opened[0])
    await harness.settled()

    assert shown(harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))) == [
        opened[0],
        opened[2],
        opened[1],
    ]


async def test_an_open_stream_moves_a_session_to_the_top_too(harness: Harness) -> None:
    opened = await open_spaced(harness, 2)
    harness.clock.advance(harness.limits.index_ms)
    await harness.store.run(sessions.keep([opened[0]], limits=harness.limits))
    await harness.settled()

    assert shown(harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))) == [
        opened[0],
        opened[1],
    ]


async def test_a_session_that_never_became_active_is_listed_until_it_ends(harness: Harness) -> None:
    fingerprint = await harness.open(active=False)
    assert shown(
        harness.sync.run(queries.page(Query(client="claude-ai"), offset=0, limit=10, limits=harness.limits))
    ) == [fingerprint]
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 1

    harness.clock.advance(MINUTE)

    [over] = await harness.sweep()
    assert (over.fingerprint, over.handshake) == (fingerprint, CLAUDE)
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 0
    assert shown(harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))) == []


async def test_a_stream_alone_keeps_a_session_that_never_became_active_in_the_list(harness: Harness) -> None:
    fingerprint = await harness.open(active=False)
    harness.clock.advance(30 * SECOND)
    await harness.store.run(sessions.keep([fingerprint], limits=harness.limits))
    await harness.settled()

    harness.clock.advance(30 * MINUTE)

    assert shown(harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))) == [
        fingerprint
    ]


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
    harness: Harness, query: Query, expected: list[str]
) -> None:
    opened = {}
    for name, client, protocol, principal in (
        ("a", "inspector", "2025-06-18", "issuer|ann"),
        ("b", "cursor", "2025-06-18", "issuer|bob"),
        ("c", "inspector", "2025-11-25", "anonymous"),
        ("d", "cursor", "2025-11-25", "issuer|ann"),
    ):
        opened[name] = await harness.open(
            principal=principal, handshake=client_named(client, protocol=protocol)
        )

    page = harness.sync.run(queries.page(query, offset=0, limit=10, limits=harness.limits))

    assert sorted(shown(page)) == sorted(opened[name] for name in expected)
    assert page.total == len(expected)


PRINCIPALS = ("anonymous", "issuer|ann", "issuer|bob")
CONDITIONS: list[dict[str, Any]] = [
    {name: value for name, value in zip(("client", "protocol", "principal"), values, strict=True) if value}
    for values in itertools.product(("cursor", None), ("2025-06-18", None), (*PRINCIPALS[:2], None))
]


async def open_various(harness: Harness, count: int) -> list[Session]:
    """Sessions of few clients, protocols and principals, the newest first. Many were last used at the same moment."""
    opened = []
    for n in range(count):
        harness.clock.advance(0 if n % 4 else 7)
        handshake = client_named(
            ("inspector", "cursor", "goose")[n % 3], protocol=("2025-06-18", "2025-11-25")[n % 2]
        )
        opened.append(await harness.open(principal=PRINCIPALS[n // 2 % 3], handshake=handshake))
    await harness.settled()
    found = [session for each in opened if (session := await harness.store.run(sessions.get(each)))]
    return sorted(found, key=lambda each: (each.last_activity_ms, each.fingerprint), reverse=True)


def walked(harness: Harness, query: Query, *, limit: int) -> tuple[list[str], list[Found]]:
    """The fingerprints of all pages, and what each read found."""
    shown: list[str] = []
    reads = [harness.sync.run(queries.entries(query, limits=harness.limits, limit=limit))]
    while True:
        cut = reads[-1].entries[:limit]
        shown += [each.entry.fingerprint for each in cut]
        after = cut[-1].entry if len(reads[-1].entries) > limit else reads[-1].reached
        if after is None:
            return shown, reads
        reads.append(
            harness.sync.run(queries.entries(query, limits=harness.limits, limit=limit, after=after))
        )


@pytest.mark.parametrize("whole", [True, False])
async def test_any_conditions_hold_together(
    harness: Harness, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the smallest index is walked whole, or in pieces, of which some hold nothing."""
    if not whole:
        monkeypatch.setattr(queries, "WHOLE", 3)
        monkeypatch.setattr(queries, "MOST_WALKED", 5)
    everything = await open_various(harness, 36)

    for conditions, ascending in itertools.product(CONDITIONS, (False, True)):
        query = Query(ascending=ascending, **conditions)
        expected = [each.fingerprint for each in everything if query.admits(each)][:: -1 if ascending else 1]
        found, reads = walked(harness, query, limit=5)
        assert found == expected, conditions
        assert all(read.total == len(expected) for read in reads if read.exact), conditions
        assert all(read.total <= len(expected) for read in reads), conditions
        assert reads[0].exact or (not whole and len(conditions) > 1), conditions


async def test_bounds_hold_with_several_conditions(harness: Harness) -> None:
    everything = await open_various(harness, 60)
    since, before = everything[40].last_activity_ms, everything[10].last_activity_ms
    query = Query(
        client="cursor", protocol="2025-06-18", active_since_ms=since, active_before_ms=before, ascending=True
    )
    expected = [
        each.fingerprint
        for each in reversed(everything)
        if query.admits(each) and since <= each.last_activity_ms < before
    ]

    found, [read, *_] = walked(harness, query, limit=100)

    assert 0 < len(expected) < 20
    assert (found, read.total, read.exact) == (expected, len(expected), True)


async def test_several_conditions_take_at_most_three_round_trips(harness: Harness) -> None:
    await open_various(harness, 30)
    query = Query(client="cursor", protocol="2025-06-18", principal="issuer|ann")
    steps = queries.entries(query, limits=harness.limits, limit=50)
    trips, calls = 0, next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            trips += 1
            calls = steps.send(harness.sync.run_all(calls))
    assert trips <= 3


async def test_several_conditions_have_no_offset(harness: Harness) -> None:
    query = Query(client="a", protocol="b")
    with pytest.raises(UnsupportedLookup):
        harness.sync.run(queries.page(query, offset=1, limit=1, limits=harness.limits))


async def test_sessions_are_filtered_by_when_they_were_active(harness: Harness) -> None:
    opened = await open_spaced(harness, 6)
    times = [
        session.last_activity_ms
        for each in opened
        if (session := await harness.store.run(sessions.get(each)))
    ]

    def between(
        since: int | None, before: int | None, *, ascending: bool = False, offset: int = 0
    ) -> list[str]:
        query = Query(active_since_ms=since, active_before_ms=before, ascending=ascending)
        return shown(harness.sync.run(queries.page(query, offset=offset, limit=2, limits=harness.limits)))

    assert between(times[2], None) == [opened[5], opened[4]]
    assert between(times[2], None, offset=2) == [opened[3], opened[2]]
    assert between(times[2], None, offset=4) == []
    assert between(None, times[2]) == [opened[1], opened[0]]
    assert between(times[1], times[4]) == [opened[3], opened[2]]
    assert between(times[1], times[4], ascending=True) == [opened[1], opened[2]]
    assert between(times[1], times[4], ascending=True, offset=2) == [opened[3]]
    page = harness.sync.run(
        queries.page(
            Query(active_since_ms=times[1], active_before_ms=times[4]),
            offset=0,
            limit=2,
            limits=harness.limits,
        )
    )
    assert page.total == 3


async def test_activity_bounds_go_with_a_filter(harness: Harness) -> None:
    old = await harness.open(handshake=client_named("cursor"))
    harness.clock.advance(MINUTE)
    await harness.open(handshake=client_named("inspector"))
    new = await harness.open(handshake=client_named("cursor"))

    query = Query(client="cursor", active_since_ms=harness.clock.now)

    assert shown(harness.sync.run(queries.page(query, offset=0, limit=10, limits=harness.limits))) == [new]
    query = Query(client="cursor", active_before_ms=harness.clock.now)
    assert shown(harness.sync.run(queries.page(query, offset=0, limit=10, limits=harness.limits))) == [old]


@pytest.mark.parametrize("how", ["idle", "ended", "ended by operator"])
async def test_sessions_that_are_over_are_neither_listed_nor_counted(harness: Harness, how: str) -> None:
    gone, stays = await harness.open(), await harness.open()
    if how == "idle":
        harness.clock.advance(HOUR - MINUTE)
        await harness.touch(stays)
        harness.clock.advance(2 * MINUTE)
        await harness.sweep()
    elif how == "ended":
        await harness.store.run(sessions.end(gone, principal=None, reason="deleted"))
    else:
        harness.sync.run(sessions.end(gone, principal=None, reason="expired_by_operator"))
    await harness.settled()

    for query in (
        Query(),
        Query(client="claude-ai"),
        Query(protocol="2025-11-25"),
        Query(principal="anonymous"),
    ):
        page = harness.sync.run(queries.page(query, offset=0, limit=10, limits=harness.limits))
        assert (shown(page), page.total) == ([stays], 1)
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 1
    assert [
        session.fingerprint
        for session in harness.sync.run(queries.find(gone[:8], limit=5, limits=harness.limits))
    ] == []


async def test_names_of_clients_come_most_recent_first(harness: Harness) -> None:
    for name in ("cursor", "inspector", "claude-ai", "cursor"):
        harness.clock.advance(10 * SECOND)
        await harness.open(handshake=client_named(name))

    assert list(harness.sync.run(indexes.clients(limits=harness.limits))) == [
        "cursor",
        "claude-ai",
        "inspector",
    ]


async def test_at_most_a_hundred_client_names_are_kept(harness: Harness) -> None:
    for n in range(103):
        harness.clock.advance(1)
        await harness.open(handshake=client_named(f"client-{n}"), active=False)

    names = harness.sync.run(indexes.clients(limits=harness.limits))

    assert len(names) == 100
    assert names[0] == "client-102"
    assert "client-2" not in names


async def test_an_endless_client_name_is_listed_short_and_found_by_what_is_listed(harness: Harness) -> None:
    fingerprint = await harness.open(handshake=client_named("{x}☃:* " * 1000))

    [listed] = harness.sync.run(indexes.clients(limits=harness.limits))

    assert len(listed) == 100
    assert shown(
        harness.sync.run(queries.page(Query(client=listed), offset=0, limit=10, limits=harness.limits))
    ) == [fingerprint]


async def test_a_nameless_client_is_a_client(harness: Harness) -> None:
    fingerprint = await harness.open(handshake=client_named(""))

    assert list(harness.sync.run(indexes.clients(limits=harness.limits))) == [""]
    assert shown(
        harness.sync.run(queries.page(Query(client=""), offset=0, limit=10, limits=harness.limits))
    ) == [fingerprint]


async def test_a_session_is_found_by_the_start_of_its_fingerprint(harness: Harness) -> None:
    alike = ["abcdef0" + digit + a_fingerprint()[8:] for digit in "123"]
    for fingerprint in alike:
        await harness.open(fingerprint=fingerprint)
    await harness.open()

    def found(prefix: str, limit: int = 10) -> list[str]:
        return sorted(
            session.fingerprint
            for session in harness.sync.run(queries.find(prefix, limit=limit, limits=harness.limits))
        )

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


async def test_a_session_is_found_by_any_beginning_of_any_length(harness: Harness) -> None:
    fingerprints = ["ffffffff" * 8, "fffffffe" * 8, "00000000" * 8, "0000000f" * 8]
    for fingerprint in fingerprints:
        await harness.open(fingerprint=fingerprint)
    for fingerprint in fingerprints:
        for length in (8, 9, 12, 63, 64):
            found = harness.sync.run(queries.find(fingerprint[:length], limit=9, limits=harness.limits))
            assert [each.fingerprint for each in found] == [fingerprint], length


async def test_a_search_reads_what_it_finds_and_nothing_else(harness: Harness) -> None:
    """So it finds a session however long ago that was used, and however many were used since."""
    [old, *_] = await open_spaced(harness, 5)
    steps = queries.find(old[:12], limit=10, limits=harness.limits)

    assert harness.sync.run_all(next(steps)) == [[old]]
    [found] = harness.sync.run(queries.find(old[:12], limit=10, limits=harness.limits))
    assert found.fingerprint == old


async def test_a_session_that_ended_is_not_found_by_its_beginning(harness: Harness) -> None:
    gone, _ = await open_spaced(harness, 2)
    await harness.store.run(sessions.end(gone, principal=None, reason="deleted"))
    await harness.settled()
    steps = queries.find(gone[:12], limit=10, limits=harness.limits)
    assert harness.sync.run_all(next(steps)) == [[]]


async def test_a_search_gives_no_more_than_asked_for(harness: Harness) -> None:
    for _ in range(4):
        await harness.open(fingerprint="12345678" + a_fingerprint()[8:])

    assert len(harness.sync.run(queries.find("12345678", limit=3, limits=harness.limits))) == 3


async def test_a_session_that_another_process_ends_disappears_from_its_page(harness: Harness) -> None:
    gone: Session | None = None
    opened = await open_spaced(harness, 3)
    gone = await harness.other.run(sessions.end(opened[1], principal=None, reason="deleted"))

    assert gone is not None
    page = harness.sync.run(queries.page(Query(), offset=0, limit=10, limits=harness.limits))
    assert (shown(page), page.total) == ([opened[2], opened[0]], 2)


async def test_the_last_activity_of_a_kind_is_known(harness: Harness) -> None:
    def newest() -> int:
        return harness.sync.run(queries.newest("session", limits=harness.limits))

    assert newest() == 0
    for _ in range(2):
        harness.clock.advance(5)
        await harness.open(active=False)
    assert newest() == harness.clock.now
    assert harness.sync.run(queries.newest("handle", limits=harness.limits)) == 0


def test_each_shard_is_walked_for_its_part() -> None:
    assert queries._spread(10, {"a": 1, "b": 30, "c": 10}) == {"a": 1, "b": 8, "c": 3}
    assert queries._spread(100, {"a": 1, "b": 30}) == {"a": 1, "b": 30}
