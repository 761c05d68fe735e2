"""How often a new session asks for its place, while others check the full index: without a store."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.records import Handshake
from mcp_sessions.store.calls import places
from mcp_sessions.store.calls.healing import MOST_WAITING, Healing
from mcp_sessions.store.calls.indexes import Full
from mcp_sessions.store.calls.places import ASKED_AGAIN
from mcp_sessions.store.keys import shard_of
from tests.store.harness import CLAUDE, LIMITS, a_fingerprint

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
