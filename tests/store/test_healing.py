"""When a full index is checked: once in a second by each process, while so many new sessions wait for it."""

import pytest

from mcp_sessions.store.calls.healing import MOST_WAITING, Healing


class Watch:
    """Seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def healing(watch: Watch) -> Healing:
    return Healing(watch)


def checks(healing: Healing, index: bytes) -> bool:
    with healing.check(index) as due:
        return due


def test_an_index_is_checked_once_in_a_second(healing: Healing, watch: Watch) -> None:
    assert checks(healing, b"a")
    assert not checks(healing, b"a")
    assert checks(healing, b"b"), "another one is another matter"
    watch.now += 0.999
    assert not checks(healing, b"a")
    watch.now += 0.001
    assert checks(healing, b"a")
    assert healing.ended == 3


def test_so_many_may_wait_for_a_check_and_only_while_it_runs(healing: Healing) -> None:
    assert not healing.may_wait(b"a")
    with healing.check(b"a"):
        assert healing.is_checking(b"a")
        assert not healing.is_checking(b"b")
        assert not healing.may_wait(b"b")
        assert [healing.may_wait(b"a") for _ in range(MOST_WAITING + 1)] == [True] * MOST_WAITING + [False]
        assert not checks(healing, b"a")
        assert healing.is_checking(b"a"), "who need not check ends no check of another"
        assert healing.ended == 0
    assert not healing.is_checking(b"a")
    assert not healing.may_wait(b"a")
    assert healing.ended == 1


def test_a_check_that_fails_has_ended(healing: Healing) -> None:
    with pytest.raises(ZeroDivisionError), healing.check(b"a"):
        raise ZeroDivisionError
    assert not healing.is_checking(b"a")
    assert healing.ended == 1


def test_a_process_remembers_a_thousand_indexes(healing: Healing) -> None:
    assert all(checks(healing, b"%d" % number) for number in range(1_000))
    assert not checks(healing, b"0")
    assert checks(healing, b"1000"), "all are forgotten"
    assert checks(healing, b"0")
    assert not checks(healing, b"1000")
