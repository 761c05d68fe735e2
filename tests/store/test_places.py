"""How often a new session asks for its place, while others check the full index: without a store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.records import Handshake
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import indexes, places
from mcp_sessions.store.calls.healing import MOST_WAITING, Healing
from mcp_sessions.store.calls.indexes import Full
from mcp_sessions.store.calls.places import ASKED_AGAIN
from mcp_sessions.store.keys import home_of, home_of_principal, shard_of
from tests.store.harness import CLAUDE, LIMITS, a_fingerprint, a_fingerprint_in

#: As the check has it, for all shards.
INDEX, KEY = b"mcp:v1:{shop/of16}:index:activity", b"mcp:v1:{shop/3of16}:index:activity"


def full(cap: int = 1) -> Full:
    return Full(cap, "@3000", "index:activity", KEY, 0)


class Asking:
    """A session that is made, step by step: each answer of the indexes is one."""

    def __init__(self) -> None:
        self.asked = 0
        take = places.take(
            a_fingerprint(), principal="issuer|ann", handshake=CLAUDE, limits=LIMITS, another=None
        )
        self._take: Any = take
        next(take)

    def gets(self, answer: Any) -> Any:
        """What comes of an answer; None if it asks again."""
        try:
            self._take.send(answer)
        except StopIteration as stop:
            return stop.value
        return None


@pytest.fixture
def healing(monkeypatch: pytest.MonkeyPatch) -> Healing:
    made = Healing(lambda: 5.0)
    monkeypatch.setattr(places, "healing", made)

    def take(*_: Any) -> Iterator[str]:
        answer = yield "take"
        return answer

    def heal(*_: Any) -> Iterator[str]:
        assert made.is_checking(INDEX)
        yield "heal"

    monkeypatch.setattr(places, "_take", take)
    monkeypatch.setattr(places, "_heal", heal)
    return made


@pytest.fixture
def refused() -> Callable[[Asking, Any], None]:
    def check(asking: Asking, answer: Any) -> None:
        with pytest.raises(TooManySessions):
            asking.gets(answer)

    return check


Refused = Callable[[Asking, Any], None]


def test_who_finds_a_full_index_checks_it_and_asks_once_more(healing: Healing, refused: Refused) -> None:
    asking = Asking()
    assert asking.gets(full()) is None
    assert healing.is_checking(INDEX)
    assert asking.gets(None) is None
    assert not healing.is_checking(INDEX)
    assert asking.gets("a place") == "a place"

    second = Asking()
    refused(second, full())


@pytest.mark.parametrize("cap", [1, 2])
def test_a_cap_that_holds_says_whose_it_is(healing: Healing, cap: int) -> None:
    with healing.check(INDEX):
        pass
    asking = Asking()
    with pytest.raises(TooManySessions) as raised:
        asking.gets(full(cap))
    assert raised.value.per_principal == (cap == 2)


def test_who_finds_that_another_checks_asks_again_while_that_lasts(healing: Healing) -> None:
    asking = Asking()
    with healing.check(INDEX):
        for _ in range(3):
            assert asking.gets(full()) is None
    assert asking.gets(full()) is None, "the check has ended since it asked"
    with pytest.raises(TooManySessions):
        asking.gets(full())


def test_who_asks_while_another_checks_asks_so_often(healing: Healing, refused: Refused) -> None:
    asking = Asking()
    with healing.check(INDEX):
        for _ in range(ASKED_AGAIN + 1):
            assert asking.gets(full()) is None
        refused(asking, full())


def test_an_answer_from_before_the_end_of_a_check_does_not_count(healing: Healing, refused: Refused) -> None:
    asking = Asking()
    with healing.check(INDEX):
        pass
    assert asking.gets(full()) is None
    refused(asking, full())


def test_no_more_wait_for_a_check_than_may(healing: Healing, refused: Refused) -> None:
    with healing.check(INDEX):
        waiting = [Asking() for _ in range(MOST_WAITING)]
        assert [each.gets(full()) for each in waiting] == [None] * MOST_WAITING
        refused(Asking(), full())
    assert [each.gets("a place") for each in waiting] == ["a place"] * MOST_WAITING


def test_another_record_is_made_for_a_shard_that_has_room() -> None:
    made: list[str] = []

    def make() -> tuple[str, Handshake]:
        made.append(a_fingerprint())
        return made[-1], CLAUDE

    for shard in range(4):
        found = places._one_of([shard], 4, make)
        assert found == (made[-1], CLAUDE)
        assert shard_of(made[-1], 4) == shard
    assert places._one_of([], 4, make) is places._one_of([1], 4, None) is None


@pytest.mark.parametrize("shards", [2, 16])
def test_no_more_records_are_made_for_a_shard_than_it_takes_nearly_always(shards: int) -> None:
    elsewhere = mock.Mock(return_value=("0" * 64, CLAUDE))
    assert places._one_of([1], shards, elsewhere) is None
    assert elsewhere.call_count == 50 * shards


class Spread:
    """A place that is taken in one of two shards, step by step: the answers are those of the indexes."""

    def __init__(self, another: places.Another | None, *, max_sessions: int = 2) -> None:
        self.first = a_fingerprint_in(0, 2)
        self._take: Any = places._take(
            self.first,
            "issuer|ann",
            CLAUDE,
            replace(LIMITS, shards=2, max_sessions=max_sessions, max_sessions_per_principal=9),
            another,
        )
        self.asked: Sequence[Call[Any]] = next(self._take)

    def get(self, *answers: Any) -> Any:
        """What is returned after an answer; None if it asks on."""
        try:
            self.asked = self._take.send([*answers])
        except StopIteration as stop:
            self.asked = []
            return stop.value
        return None

    @property
    def reserved(self) -> tuple[str, str, str]:
        """The shard, the fingerprint, and whose place that takes."""
        [call] = self.asked
        assert call.script is indexes.RESERVE
        return call.home, call.arguments[0].hex(), call.arguments[1].hex()


OF_ANN = home_of_principal("issuer|ann")
NO_ROOM, AT_OWN_CAP = full(), full(2)


def test_a_place_is_taken_in_the_shard_of_the_principal_and_then_in_its_own() -> None:
    take = Spread(None)
    assert take.reserved == (OF_ANN, take.first, "")
    assert take.get(None) is None
    assert take.reserved == (home_of(take.first), take.first, "")
    assert take.get(None) == (take.first, CLAUDE)


def test_who_is_at_the_own_cap_looks_for_no_room() -> None:
    take = Spread(lambda: (a_fingerprint_in(1, 2), CLAUDE))
    assert take.get(AT_OWN_CAP) == AT_OWN_CAP
    assert take.asked == []


def test_another_record_takes_the_place_of_one_whose_shard_is_full() -> None:
    second = a_fingerprint_in(1, 2)
    take = Spread(lambda: (second, CLAUDE))
    for answer in (None, NO_ROOM):
        assert take.get(answer) is None
    assert {call.script for call in take.asked} == {indexes.MEMBERS}
    assert take.get(1, 0) is None
    assert take.reserved == (OF_ANN, second, take.first)
    assert take.get(None) is None
    assert take.reserved == (home_of(second), second, take.first)
    assert take.get(None) == (second, CLAUDE)


@pytest.mark.parametrize("sizes", [(1, 1), (0, 1)])
def test_where_no_other_shard_has_room_the_principals_place_is_given_back(sizes: tuple[int, int]) -> None:
    """Also if the shard that had none has room since: the next one who asks gets that."""
    take = Spread(lambda: (a_fingerprint(), CLAUDE))
    for answers in ((None,), (NO_ROOM,), sizes):
        assert take.get(*answers) is None
    assert {(call.script, call.home) for call in take.asked} == {
        (indexes.UNINDEX, home) for home in (OF_ANN, home_of(take.first))
    }
    assert {call.arguments[1].hex() for call in take.asked} == {take.first}
    assert take.get(None, None) == NO_ROOM


def test_a_shard_that_turned_out_to_be_full_is_not_tried_again() -> None:
    second = a_fingerprint_in(1, 2)
    take = Spread(lambda: (second, CLAUDE))
    for answers in ((None,), (NO_ROOM,), (1, 0), (None,), (NO_ROOM,), (0, 0)):
        assert take.get(*answers) is None
    assert {call.script for call in take.asked} == {indexes.UNINDEX}
    assert {call.arguments[1].hex() for call in take.asked} == {second}
    assert take.get(None, None) == NO_ROOM


def test_a_record_that_cannot_be_another_asks_no_other_shard() -> None:
    take = Spread(None)
    for answer in (None, NO_ROOM):
        assert take.get(answer) is None
    assert {call.script for call in take.asked} == {indexes.UNINDEX}
    assert take.get(None, None) == NO_ROOM


@pytest.mark.parametrize(
    ("cap", "sizes", "with_room"), [(3, (1, 0), [0, 1]), (3, (2, 1), []), (2, (0, 1), [0])]
)
def test_a_shard_has_room_for_its_part_of_the_cap(
    cap: int, sizes: tuple[int, int], with_room: list[int]
) -> None:
    steps: Any = places._with_room(replace(LIMITS, shards=2, max_sessions=cap), "session")
    next(steps)
    with pytest.raises(StopIteration) as stopped:
        steps.send([*sizes])
    assert stopped.value.value == with_room
