"""The short form of `python -m benchmarks.chaos`, and its table in the documentation."""

from collections.abc import Iterator
from typing import Final

import pytest

from benchmarks.chaos import report
from benchmarks.chaos.__main__ import parser
from benchmarks.chaos.outcomes import Fault, Messages, Outcome, Record
from benchmarks.chaos.run import Row, made_for, run_in
from benchmarks.chaos.scenarios import BY_NAME, SCENARIOS, Scenario
from benchmarks.chaos.world import World

pytestmark = [pytest.mark.slow]

CLIENTS: Final = 20
SCALE: Final = 0.05
#: Seconds between two requests of a client.
PAUSE: Final = 0.4
#: Those that need the same world, one after the other.
SHARED: Final = (
    "soak",
    "rolling-restart",
    "redis-restarts",
    "redis-hangs",
    "redis-gone-503",
    "cut-off",
    "kills",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with made_for(BY_NAME[SHARED[0]]) as everything:
        yield everything


def run_short(everything: World, scenario: Scenario) -> Row:
    """What must hold in each of them."""
    row = run_in(everything, scenario, clients=CLIENTS, scale=SCALE, pause=PAUSE)
    assert row.requests > CLIENTS, row
    assert row.unexplained == {}, row
    assert row.tracebacks == 0, row
    assert row.messages_doubled == 0, row
    if scenario.keep:
        assert (row.sessions_lost, row.messages_lost) == (0, 0), row
    return row


@pytest.mark.parametrize("name", SHARED)
def test_only_what_a_fault_concerns_fails_and_nothing_is_lost(shared: World, name: str) -> None:
    assert (BY_NAME[name].settings, BY_NAME[name].keep, BY_NAME[name].skewed) == ({}, True, ())
    row = run_short(shared, BY_NAME[name])
    if name in ("soak", "rolling-restart"):
        assert row.failed == {}, row


@pytest.mark.needs("libfaketime")
def test_nothing_fails_although_the_clocks_of_the_processes_are_wrong() -> None:
    with made_for(BY_NAME["clocks"]) as everything:
        assert run_short(everything, BY_NAME["clocks"]).failed == {}


def test_clients_of_an_empty_redis_are_told_to_initialize_again() -> None:
    scenario = BY_NAME["redis-empty-404"]
    with made_for(scenario) as everything:
        assert run_short(everything, scenario).sessions_lost == CLIENTS


def test_every_other_scenario_has_a_test_of_its_own() -> None:
    assert {each.name for each in SCENARIOS} - set(SHARED) == {
        "clocks",
        "redis-empty-404",
        "redis-empty-revive",
        "redis-gone-serve",
    }


def outcome(process: str, sent: float, ended: float, problem: str = "HTTP 503") -> Outcome:
    return Outcome(kind="call", process=process, sent=sent, ended=ended, problem=problem)


@pytest.mark.parametrize(
    ("sent", "ended", "explained"), [(0, 1, False), (0, 3, True), (4, 5, True), (7, 8, False)]
)
def test_a_failure_is_explained_if_it_was_under_way_while_something_was_broken(
    sent: float, ended: float, explained: bool
) -> None:
    record = Record()
    record.add(outcome("A", sent, ended))
    assert (record.unexplained([Fault(begun=2, ended=6, process="A")]) == []) is explained
    assert (record.unexplained([Fault(begun=2, ended=6)]) == []) is explained
    assert record.unexplained([Fault(begun=2, ended=6, process="B")]) == record.outcomes


def test_what_succeeds_needs_no_explanation() -> None:
    record = Record()
    record.add(outcome("A", 0, 1, problem=""))
    assert (record.unexplained([]), record.failures().total()) == ([], 0)


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled"),
    [([1, 2, 3], 0, 0), ([1, 3], 1, 0), ([1, 2, 2, 3], 0, 1), ([2, 1, 3], 0, 1), ([1, 2, 3, 4], 0, 0)],
)
def test_messages_are_counted_that_are_missing_come_twice_or_out_of_order(
    numbers: list[int], lost: int, doubled: int
) -> None:
    messages = Messages()
    messages.expect(numbers, certain=[1, 2, 3])
    assert (messages.lost, messages.doubled) == (lost, doubled)


def test_the_documented_table_is_that_of_the_latest_results() -> None:
    rows, about = report.read(report.LATEST)
    assert [row.name for row in rows] == [scenario.name for scenario in SCENARIOS]
    assert report.markdown(rows, about) in report.DOCS.read_text()


def test_the_page_names_every_option() -> None:
    page, options = report.DOCS.read_text(), parser().format_help()
    assert [option for option in ("--only", "--clients", "--pause", "--scale") if option in options] == [
        option for option in ("--only", "--clients", "--pause", "--scale") if f"`{option}" in page
    ]
