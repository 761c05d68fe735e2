"""Operations on several stores side by side: which round trips they share, and who gets what."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from mcp_sessions.connections.round_trips import Job
from mcp_sessions.engine import Engine
from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import nodes, validity
from mcp_sessions.store.drivers.embedded import SyncEmbeddedStore
from mcp_sessions.store.drivers.synchronous import SyncRedisStore, run_together
from mcp_sessions.store.keys import Keys

#: The names of stores, of each round trip.
trips: list[list[str]] = []


class Store(SyncEmbeddedStore):
    """Notes its round trips; the engine is its server."""

    def __init__(self, name: str, engine: Engine) -> None:
        super().__init__(Keys(name, str), engine)

    def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        trips.append([job[1][0].split("{")[1].split("}")[0] for job in jobs])
        return super()._replies(jobs)


class Other:
    """A store of a project's own, which has no server that is known."""

    shared = False

    def run_all(self, calls: Iterable[Any]) -> list[Any]:
        trips.append(["other"] * len(list(calls)))
        return ["of other"] * len(trips[-1])


@pytest.fixture(autouse=True)
def _no_trips() -> None:
    trips.clear()


def asks(*counts: int) -> Operation[list[int]]:
    """In each round trip so many calls; how many results came in each."""
    found: list[int] = []
    for count in counts:
        results = yield [nodes.list_nodes()] * count
        found += [len(results)]
    return found


def test_what_waits_at_the_same_time_on_one_server_shares_a_round_trip() -> None:
    shared = Engine()
    one, two, elsewhere = Store("one", shared), Store("two", shared), Store("three", Engine())
    works = [(one, asks(1, 2)), (elsewhere, asks(3)), (two, asks(2, 0, 1)), (one, asks())]
    assert run_together(works) == [[1, 2], [3], [2, 0, 1], []]
    assert trips == [["one", "two", "two"], ["three"] * 3, ["one", "one"], ["two"]]


def test_each_gets_the_results_of_its_own_calls() -> None:
    shared = Engine()
    one, two = Store("one", shared), Store("two", shared)
    one.run(validity.min_created(7))
    two.run(validity.min_created(9))

    def learns() -> Operation[int]:
        [moment] = yield [validity.min_created(0)]
        return int(moment.min_created_ms)

    assert run_together([(one, learns()), (two, learns()), (one, learns())]) == [7, 9, 7]


def test_a_store_of_another_kind_is_asked_by_itself() -> None:
    other: Any = Other()
    mine = Store("one", Engine())
    assert run_together([(other, asks(2)), (mine, asks(1)), (other, asks(1))]) == [[2], [1], [1]]
    assert sorted(trips) == [["one"], ["other"] * 3]
    assert run_together([]) == []


def test_stores_of_one_server_share_round_trips_and_any_other_has_its_own() -> None:
    def connect() -> Any:
        raise AssertionError("nothing is sent")

    one, two = (SyncRedisStore(Keys(name, str), connect, server="default") for name in ("one", "two"))
    assert one.server == two.server == "default"
    assert SyncRedisStore(Keys("three", str), connect).server is connect


def test_no_call_is_no_round_trip() -> None:
    store = Store("one", Engine())
    assert store.run_all([]) == []
    assert store.run(asks(0)) == [0]
    assert trips == []


def test_an_operation_runs_once() -> None:
    store, work = Store("one", Engine()), asks(1)
    assert store.run(work) == [1]
    begun = asks(1)
    next(begun)
    for spent in (work, begun):
        with pytest.raises(RuntimeError, match="runs once"):
            store.run(spent)
