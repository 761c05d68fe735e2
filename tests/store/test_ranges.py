"""Lists that are merged from shards: exact at any depth, from either end, after any entry, in a few round trips."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import indexes, queries, ranges
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.ranges import Stretch, Stretched
from mcp_sessions.store.keys import homes, shard_of
from tests.store import harness as harnesses
from tests.store.harness import LIMITS, START, Harness, a_fingerprint

COUNT = 3_000


@pytest.fixture(params=[1, 2, 16])
async def filled(
    request: pytest.FixtureRequest, redis_caches: Any
) -> AsyncIterator[tuple[Harness, list[Entry]]]:
    """A harness, and the entries of its index in ascending order. Many have equal scores, and one shard has most."""
    shards = request.param
    harness, chance = harnesses.redis_harness("standalone", shards=shards), random.Random(shards)  # noqa: S311 - no secret
    entries: dict[str, dict[str, int]] = {home: {} for home in homes(shards)}
    while sum(map(len, entries.values())) < COUNT:
        fingerprint = a_fingerprint()
        shard = shard_of(fingerprint, shards)
        if shard and chance.random() < 0.5:
            continue
        # The last shard has what is oldest.
        score = START - chance.randrange(1_000 if shard < shards - 1 else 50_000) // 10 * 10
        entries[homes(shards)[shard]][fingerprint] = score
    [client] = harnesses.servers()
    for home, some in entries.items():
        members: dict[Any, Any] = {bytes.fromhex(each): score for each, score in some.items()}
        client.zadd(harness.keys.resolve(home, ["index:activity"])[0], members)
    known = [Entry(*each) for some in entries.values() for each in some.items()]
    yield harness, sorted(known, key=lambda each: (each.active_ms, each.fingerprint))
    await harness.aclose()


def index_of(harness: Harness, **options: Any) -> Stretched:
    return ranges.stretched(
        "index:activity", homes(harness.limits.shards), limits=harness.limits, kind="session", **options
    )


def found(stretch: Stretch) -> list[Entry]:
    return [each.entry for each in stretch.entries]


@pytest.mark.parametrize("ascending", [True, False])
async def test_a_stretch_is_exact_at_any_depth(filled: tuple[Harness, list[Entry]], ascending: bool) -> None:
    harness, entries = filled
    expected = entries if ascending else entries[::-1]
    index = index_of(harness, ascending=ascending)

    for offset in (0, 1, 99, 450, 500, 501, 999, 1_500, COUNT - 100, COUNT - 1, COUNT, COUNT + 10):
        for limit in (1, 100, 1_200):
            stretch = harness.sync.run(ranges.at(index, offset=offset, limit=limit))
            assert found(stretch) == expected[offset : offset + limit], (offset, limit)
            assert stretch.total == COUNT


@pytest.mark.parametrize("ascending", [True, False])
async def test_a_stretch_is_exact_between_bounds(
    filled: tuple[Harness, list[Entry]], ascending: bool
) -> None:
    harness, entries = filled
    since, before = START - 700, START - 100
    expected = [each for each in entries if since <= each.active_ms < before][:: 1 if ascending else -1]
    index = index_of(harness, ascending=ascending, since_ms=since, before_ms=before)

    for offset in (0, 300, 800, len(expected) - 5):
        stretch = harness.sync.run(ranges.at(index, offset=offset, limit=100))
        assert found(stretch) == expected[offset : offset + 100], offset
        assert stretch.total == len(expected)


@pytest.mark.parametrize("ascending", [True, False])
async def test_the_list_goes_on_after_any_entry(filled: tuple[Harness, list[Entry]], ascending: bool) -> None:
    """Also if that entry is not there any more, and many others have its score."""
    harness, entries = filled
    expected = entries if ascending else entries[::-1]
    index = index_of(harness, ascending=ascending)

    for place in (0, 7, 1_234, COUNT - 3, COUNT - 1):
        stretch = harness.sync.run(ranges.after(index, expected[place], limit=50))
        assert found(stretch) == expected[place + 1 : place + 51], place
    gone = Entry("80" * 32, START - 500)
    follows = [
        each
        for each in expected
        if (each.active_ms, each.fingerprint) != (gone.active_ms, gone.fingerprint)
        and ((each.active_ms, each.fingerprint) > (gone.active_ms, gone.fingerprint)) == ascending
    ]
    assert found(harness.sync.run(ranges.after(index, gone, limit=50))) == follows[:50]


async def test_all_pages_one_after_another_are_all_sessions_once(harness: Harness) -> None:
    opened = [await harness.open(principal=f"issuer|{n % 3}") for n in range(25)]
    await harness.settled()
    seen: list[str] = []
    after: Entry | None = None
    for _ in range(7):
        page = await harness.store.run(queries.page(Query(), limits=harness.limits, limit=4, after=after))
        seen += [session.fingerprint for session in page.sessions]
        after = page.last
    assert len(page.sessions) == 1

    assert len(seen) == 25
    assert set(seen) == set(opened)
    for n in range(3):
        query = Query(principal=f"issuer|{n}")
        found = await harness.store.run(queries.page(query, limits=harness.limits, limit=50))
        assert {each.fingerprint for each in found.sessions} == set(opened[n::3])


async def test_a_deep_stretch_takes_one_round_trip_more(filled: tuple[Harness, list[Entry]]) -> None:
    harness, _ = filled
    trips = 0

    def counting(work: Any) -> Any:
        nonlocal trips
        calls = next(work)
        while True:
            trips += 1
            try:
                calls = work.send(harness.sync.run_all(calls))
            except StopIteration as stop:
                return stop.value

    counting(ranges.at(index_of(harness), offset=1_500, limit=100))
    assert trips == (1 if harness.limits.shards == 1 else 2)
    trips = 0
    counting(ranges.at(index_of(harness), offset=0, limit=100))
    counting(indexes.count(limits=harness.limits))
    assert trips == 2


def test_the_first_entries_of_several_shards_are_one_round_trip() -> None:
    index = ranges.stretched("index:activity", homes(2), limits=LIMITS, kind="session")
    for offset, limit, script in (
        (0, 50, indexes.MEMBERS),
        (450, 50, indexes.MEMBERS),
        (451, 50, ranges.QUANTILES),
    ):
        calls = next(ranges.at(index, offset=offset, limit=limit))
        assert {call.script for call in calls} == {script}
        assert {call.home for call in calls} == set(homes(2))
    one = replace(index, homes=homes(1))
    [call, *more] = next(ranges.at(one, offset=9_000, limit=50))
    assert (call.script, more) == (indexes.MEMBERS, []), "of one shard any entries are"


def members(*scores: int) -> list[bytes]:
    """Entries as a script replies with them, each with a fingerprint of its score."""
    return [part for score in scores for part in (score.to_bytes(32), str(score).encode())]


def scores(entries: Any) -> list[int]:
    return [each.entry.active_ms for each in entries]


def answered(steps: Any, reply: Callable[[Call[Any]], Any], calls: Sequence[Call[Any]]) -> Any:
    """What an operation does, or returns, when its calls have got these replies."""
    try:
        return steps.send([call.decode(call.home, reply(call)) for call in calls])
    except StopIteration as stop:
        return stop.value


TWO = ranges.stretched("index:activity", homes(2), limits=LIMITS, kind="session")
ONE, OTHER = homes(2)


@pytest.mark.parametrize(
    ("ascending", "ends", "found", "reached"),
    [
        # The first shard goes on behind its last entry: what comes later in the other one is not known to be next.
        (False, {ONE: (3, 0), OTHER: (2, 0)}, [9, 8], 8),
        (True, {ONE: (3, 0), OTHER: (2, 0)}, [3, 7, 8, 9], 9),
        # Both do.
        (False, {ONE: (3, 0), OTHER: (3, 0)}, [9, 8], 8),
        (True, {ONE: (3, 0), OTHER: (3, 0)}, [3, 7], 7),
        # What comes before the walk began does not count.
        (False, {ONE: (5, 3), OTHER: (4, 2)}, [9, 8, 7, 3], None),
    ],
)
def test_a_walk_reaches_as_far_as_every_shard_was_looked_at(
    ascending: bool, ends: dict[str, tuple[int, int]], found: list[int], reached: int | None
) -> None:
    steps = ranges.walk(replace(TWO, ascending=ascending), None, most={ONE: 2, OTHER: 2})
    held = {ONE: (8, 9), OTHER: (3, 7)}
    walked = answered(
        steps,
        lambda call: [*ends[call.home], members(*held[call.home]), members(held[call.home][ascending])],
        next(steps),
    )
    assert scores(walked.entries) == found
    assert (None if walked.reached is None else walked.reached.active_ms) == reached


@pytest.mark.parametrize(("ascending", "reached"), [(True, 1_300), (False, 1_000)])
def test_a_walk_in_pieces_reaches_the_end_of_the_last_one(ascending: bool, reached: int) -> None:
    index = replace(TWO, homes=[ONE], ascending=ascending)
    steps = ranges.walk(index, None, most={ONE: 301})
    calls = next(steps)
    assert [tuple(call.arguments[-2:]) for call in calls] == [(0, 150), (150, 150), (300, 1)]
    ends = {0: 1_150, 150: 1_300 if ascending else 1_000, 300: None}
    walked = answered(
        steps,
        lambda call: [302, 0, [], [] if (end := ends[call.arguments[-2]]) is None else members(end)],
        calls,
    )
    assert walked.reached is not None
    assert walked.reached.active_ms == reached


def test_a_deep_stretch_is_read_from_near_its_beginning_to_near_its_end() -> None:
    """Two shards have scores from 0 to 999, of which every hundredth is known at first."""
    steps = ranges.at(replace(TWO, ascending=True), offset=600, limit=50)
    calls = answered(steps, lambda call: [1_000, 100, [b"%d" % (100 * n) for n in range(10)]], next(steps))
    for home in (ONE, OTHER):
        of_home = [call.arguments for call in calls if call.home == home]
        assert {tuple(each[4:6]) for each in of_home} == {(300, b"")}
        assert [tuple(each[-2:]) for each in of_home] == [(0, 150), (150, 150)]

    def reply(call: Call[Any]) -> list[Any]:
        first = 300 + call.arguments[-2]
        of_home = [2 * score + (call.home == OTHER) for score in range(first, first + 150)]
        return [1_000, 300, members(*of_home), members(of_home[-1])]

    stretch = answered(steps, reply, calls)
    assert scores(stretch.entries) == [*range(600, 650)]
    assert stretch.total == 2_000


def test_a_deep_stretch_of_nothing_is_empty() -> None:
    steps = ranges.at(TWO, offset=600, limit=50)
    calls = answered(steps, lambda _: [0, 1, []], next(steps))
    assert [tuple(call.arguments[4:]) for call in calls] == [("", b"", 0, 1)] * 2
    assert answered(steps, lambda _: [0, 0, [], []], calls) == Stretch([], 0)


def test_scores_at_even_distances_tell_how_many_entries_come_before_another() -> None:
    """Five entries, of which every second one is known."""
    steps = ranges.at(TWO, offset=600, limit=50)
    known, _ = (call.decode(call.home, [5, 2, [b"50", b"30", b"10"]]) for call in next(steps))
    found = [(known.at_least(-score), known.at_most(-score)) for score in (50, 49, 30, 29, 9)]
    assert found == [(0, 0), (1, 2), (1, 2), (3, 4), (5, 5)]


async def test_bounds_of_zero_are_bounds() -> None:
    harness = harnesses.embedded_harness()
    await harness.open()
    for bounds, total in (({"since_ms": 0}, 1), ({"before_ms": 0}, 0), ({}, 1)):
        [sizes] = harness.sync.run(ranges.sizes([index_of(harness, **bounds)]))
        assert sizes == {homes(1)[0]: total}
