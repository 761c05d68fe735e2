"""How much of which index is walked where several conditions hold: without a store, whose replies are played."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import indexes, queries
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Found, Query
from mcp_sessions.store.keys import homes, shard_of
from tests.store.harness import LIMITS, START, client_named, embedded_harness

BOTH = Query(client="cursor", protocol="2025-06-18")
CLIENT, PROTOCOL, ALL = "index:client:cursor", "index:protocol:2025-06-18", "index:activity"


def fingerprint(number: int) -> str:
    """In the first of two shards if it is even, else in the second."""
    return f"{number % 2 * 8}{number:063x}"


def flat(*numbers: int) -> list[bytes]:
    """Entries as a script replies with them: in ascending order."""
    return [part for n in numbers for part in (bytes.fromhex(fingerprint(n)), str(START + n).encode())]


class Walk:
    """A search for what meets conditions, step by step."""

    def __init__(self, query: Query, *, shards: int = 1, limit: int, after: Entry | None = None) -> None:
        limits = replace(LIMITS, shards=shards)
        self._steps: Any = queries.entries(query, limits=limits, limit=limit, after=after)
        self.calls: Sequence[Call[Any]] = next(self._steps)
        self.found: Found | None = None

    def answer(self, reply: Callable[[Call[Any]], Any]) -> None:
        """Answer what is asked."""
        try:
            self.calls = self._steps.send([call.decode(call.home, reply(call)) for call in self.calls])
        except StopIteration as stop:
            self.calls, self.found = [], stop.value

    def sizes(self, **sizes: int) -> None:
        """How many entries each shard of each index has."""
        of_index = {CLIENT: sizes["client"], PROTOCOL: sizes["protocol"], ALL: sizes["all"]}
        assert {call.arguments[-1] for call in self.calls} == {0}, "only counted"
        self.answer(lambda call: [of_index.get(call.parts[0], sizes.get("principal")), 0, [], []])

    @property
    def walked(self) -> dict[tuple[str, ...], int]:
        """How many entries of an index are read, by its name and those of the others that they must be in."""
        read: dict[tuple[str, ...], int] = {}
        for call in self.calls:
            assert (call.script, call.arguments[-1] <= 150) == (indexes.MEMBERS, True)
            read[tuple(call.parts)] = read.get(tuple(call.parts), 0) + call.arguments[-1]
        return read


def test_nothing_is_walked_where_an_index_is_empty() -> None:
    walk = Walk(BOTH, limit=10)
    walk.sizes(client=5, protocol=0, all=5)
    assert walk.found == Found([], 0, exact=True, reached=None)


@pytest.mark.parametrize(
    ("sizes", "walked"),
    [
        ({"client": 1, "protocol": 2, "all": 2}, {(CLIENT, PROTOCOL): 51}),
        ({"client": 2, "protocol": 1, "all": 2}, {(PROTOCOL, CLIENT): 51}),
        ({"client": 10_000, "protocol": 20_000, "all": 40_000}, {(CLIENT, PROTOCOL): 10_050}),
    ],
)
def test_the_smallest_index_is_walked_whole_with_what_may_have_come_since(
    sizes: dict[str, int], walked: dict[Any, int]
) -> None:
    walk = Walk(BOTH, limit=10)
    walk.sizes(**sizes)
    assert walk.walked == walked


@pytest.mark.parametrize(
    ("limit", "protocol", "everything", "walked"),
    [
        (1_000, 20_000, 40_000, 3_000),
        (1_000, 10_001, 80_008, 10_000),
        (100, 20_000, 40_000, 300),
        (101, 20_000, 40_000, 303),
        (10, 20_000, 40_000, 300),
        (1_000, 50_000, 40_000, 1_500),
        (1_000, 20_000, 0, 1_500),
    ],
)
def test_of_a_large_index_so_much_is_walked_as_holds_what_is_wanted_with_half_as_much_again(
    limit: int, protocol: int, everything: int, walked: int
) -> None:
    walk = Walk(BOTH, limit=limit)
    walk.sizes(client=10_001, protocol=protocol, all=everything)
    assert walk.walked == {(CLIENT, PROTOCOL): walked}


def last_of(call: Call[Any], entries: list[bytes]) -> list[Any]:
    """The reply of an index that goes on: the last entry that was read is the first in ascending order."""
    return [10_001, 0, entries, flat(7)]


def test_what_holds_too_little_is_walked_on_once() -> None:
    walk = Walk(BOTH, limit=2)
    walk.sizes(client=10_001, protocol=20_000, all=40_000)
    walk.answer(lambda call: last_of(call, flat(9) if call.arguments[-2] == 0 else []))
    assert walk.walked == {(CLIENT, PROTOCOL): 10_000}
    assert {tuple(call.arguments[4:6]) for call in walk.calls} == {(START + 7, bytes.fromhex(fingerprint(7)))}
    walk.answer(
        lambda call: [10_001, 10_001, [], []] if call.arguments[-2] else [10_001, 1, flat(5), flat(5)]
    )
    assert walk.found is not None
    assert [each.entry.active_ms - START for each in walk.found.entries] == [9, 5]
    assert (walk.found.total, walk.found.exact, walk.found.reached) == (2, True, None)


@pytest.mark.parametrize("numbers", [(9,), (8, 9)])
def test_what_holds_enough_is_not_walked_on(numbers: tuple[int, ...]) -> None:
    walk = Walk(BOTH, limit=1)
    walk.sizes(client=10_001, protocol=20_000, all=40_000)
    walk.answer(lambda call: last_of(call, flat(*numbers) if call.arguments[-2] == 0 else []))
    assert walk.found is not None
    assert [each.entry.active_ms - START for each in walk.found.entries] == [*reversed(numbers)]
    assert (walk.found.total, walk.found.exact) == (len(numbers), False)
    assert walk.found.reached == Entry(fingerprint(7), START + 7)


def test_what_comes_before_an_entry_is_not_known() -> None:
    after = Entry(fingerprint(20), START + 20)
    walk = Walk(BOTH, limit=2, after=after)
    walk.sizes(client=10_001, protocol=20_000, all=40_000)
    assert {tuple(call.arguments[4:6]) for call in walk.calls} == {
        (after.active_ms, bytes.fromhex(after.fingerprint))
    }
    walk.answer(lambda call: [10_001, 10_000, flat(3) if call.arguments[-2] == 0 else [], flat(3)])
    assert walk.found is not None
    assert (walk.found.total, walk.found.exact, walk.found.reached) == (1, False, None)


def test_what_was_found_is_looked_up_in_indexes_of_other_shards() -> None:
    """A principal's index is in one shard, the others are in both; each look-up is short."""
    query = replace(BOTH, principal="issuer|ann")
    walk = Walk(query, shards=2, limit=400)
    walk.sizes(client=900, protocol=800, all=2_000, principal=301)
    [(names, read)] = walk.walked.items()
    assert (len(names), read) == (1, 351)
    numbers = list(range(301))
    walk.answer(lambda call: [301, 0, flat(*numbers) if call.arguments[-2] == 0 else [], flat(0)])

    asked: dict[tuple[str, str], list[str]] = {}
    for call in walk.calls:
        assert (call.script, 0 < len(call.arguments) <= 150) == (queries.HAVING, True)
        asked.setdefault((call.parts[0], call.home), []).extend(each.hex() for each in call.arguments)
    assert len(walk.calls) == 2 * (2 + 1)
    for (_, home), members in asked.items():
        assert sorted(members) == sorted(
            fingerprint(n) for n in numbers if homes(2)[shard_of(fingerprint(n), 2)] == home
        )
    assert {name for name, _ in asked} == {CLIENT, PROTOCOL}

    # Those with even numbers are in one of the indexes, and those that three divides in the other.
    of_index = {CLIENT: 2, PROTOCOL: 3}
    walk.answer(
        lambda call: [
            each for each in call.arguments if int(each.hex()[1:], 16) % of_index[call.parts[0]] == 0
        ]
    )
    assert walk.found is not None
    assert [each.entry.active_ms - START for each in walk.found.entries] == [*range(300, -1, -6)]
    assert (walk.found.total, walk.found.exact) == (51, True)


@pytest.mark.parametrize("query", [Query(), BOTH])
@pytest.mark.parametrize("whole", [10_000, 1])
async def test_a_page_says_after_which_entry_the_next_one_begins(
    query: Query, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if more was found than it shows."""
    monkeypatch.setattr(queries, "WHOLE", whole)
    harness = embedded_harness()
    opened = []
    for _ in range(3):
        harness.advance(1)
        opened.append(await harness.open(handshake=client_named("cursor", protocol="2025-06-18")))
    newest_first = opened[::-1]
    for limit in (1, 2, 3):
        page = harness.sync.run(queries.page(query, limits=harness.limits, limit=limit))
        assert [each.fingerprint for each in page.sessions] == newest_first[:limit]
        assert page.last == Entry(newest_first[limit - 1], harness.clock() - limit + 1)
        rest = harness.sync.run(queries.page(query, limits=harness.limits, limit=3, after=page.last))
        assert [each.fingerprint for each in rest.sessions] == newest_first[limit:]
        assert rest.last is None
    assert harness.sync.run(queries.page(query, limits=harness.limits, limit=4)).last is None
