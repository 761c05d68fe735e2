"""Which sessions count, as far as a process knows: after the moment before which none does, by the store's clock."""

import time
from unittest import mock

import pytest

from mcp_sessions.cluster.validity import Validity
from mcp_sessions.engine import Engine
from mcp_sessions.store.calls import validity
from mcp_sessions.store.drivers.embedded import EmbeddedStore, SyncEmbeddedStore
from mcp_sessions.store.keys import Keys


@pytest.fixture
def store() -> EmbeddedStore:
    return EmbeddedStore(SyncEmbeddedStore(Keys("validity", str), Engine()))


async def test_everything_counts_until_somebody_says_otherwise(store: EmbeddedStore) -> None:
    known = Validity()
    await known.ask(store)
    assert known.min_created_ms == 0
    assert known.counts(0, setting_ms=0)


async def test_the_moment_is_learned_and_never_goes_back(store: EmbeddedStore) -> None:
    known, moment = Validity(), await store.run(validity.end_all_before_now())
    await known.ask(store)
    assert known.min_created_ms == moment.min_created_ms == moment.now_ms
    assert not known.counts(moment.min_created_ms - 1, setting_ms=0)
    assert known.counts(moment.min_created_ms, setting_ms=0)
    known.raise_to(1)
    assert known.min_created_ms == moment.min_created_ms


async def test_a_store_that_has_lost_the_moment_is_told_again(store: EmbeddedStore) -> None:
    known = Validity()
    known.raise_to(1_796_000_000_000)
    await known.ask(store)
    another = Validity()
    await another.ask(store)
    assert another.min_created_ms == 1_796_000_000_000


def test_the_setting_counts_from_its_moment_on() -> None:
    known, now = Validity(), round(time.time() * 1000)
    assert not known.counts(now - 2_000, setting_ms=now - 1_000)
    assert known.counts(now - 500, setting_ms=now - 1_000)
    assert known.counts(now - 2_000, setting_ms=now + 60_000)


def test_the_later_of_both_moments_counts_unless_the_setting_is_in_the_future() -> None:
    known = Validity()
    with mock.patch.object(known, "now_ms", return_value=5_000):
        known.raise_to(3_000)
        assert [known.first_ms(setting_ms=each) for each in (0, 3_001, 5_000, 5_001)] == [
            3_000,
            3_001,
            5_000,
            3_000,
        ]


def test_the_clock_is_that_of_this_machine_until_the_store_was_asked() -> None:
    with mock.patch("mcp_sessions.cluster.validity.time") as clock:
        clock.time.return_value = 1_800_000_000.0126
        assert Validity().now_ms() == 1_800_000_000_013


async def test_half_of_the_time_that_asking_took_is_taken_off(store: EmbeddedStore) -> None:
    known, began = Validity(), time.time()
    with mock.patch("mcp_sessions.cluster.validity.time") as clock:
        clock.time.side_effect = [began - 100, began - 90]
        await known.ask(store)
    assert 94_000 < known.ahead_ms < 96_000


async def test_the_clock_is_that_of_the_store_after_it_was_asked(store: EmbeddedStore) -> None:
    known = Validity()
    with mock.patch("mcp_sessions.cluster.validity.time", wraps=time) as wrong:
        wrong.time.side_effect = lambda: time.time() - 3600
        assert known.now_ms() < time.time() * 1000 - 3_500_000
        await known.ask(store)
        assert abs(known.now_ms() - time.time() * 1000) < 5_000
