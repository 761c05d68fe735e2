"""The comparison itself: it must complain in both directions."""

import json

from tests.conformance.expectations import FILE, SCENARIOS, surprises
from tests.conformance.suite import LEGS, Outcome

PASSED = Outcome(successes=2, complaints=())
FAILED = Outcome(successes=1, complaints=("FAILURE some-check: it broke",))
WARNED = Outcome(successes=1, complaints=("WARNING some-check: it should",))
SKIPPED = Outcome(successes=0, complaints=())


def test_an_unexpected_failure_is_a_surprise() -> None:
    assert surprises({"ping": FAILED}, {}) == ["ping fails: FAILURE some-check: it broke"]


def test_a_scenario_that_only_warned_has_not_passed() -> None:
    assert surprises({"ping": WARNED}, {}) == ["ping fails: WARNING some-check: it should"]


def test_a_scenario_in_which_nothing_was_checked_has_not_passed() -> None:
    assert surprises({"ping": SKIPPED}, {}) == ["ping fails: no check passed"]


def test_an_expected_failure_that_passes_is_a_surprise() -> None:
    assert surprises({"ping": PASSED}, {"ping": "too slow"}) == [
        "ping passes, but is expected to fail: too slow"
    ]


def test_an_expected_failure_that_does_not_exist_is_a_surprise() -> None:
    assert surprises({}, {"pong": "no such thing"}) == [
        "pong was not run, but is expected to fail: no such thing"
    ]


def test_what_is_expected_is_no_surprise() -> None:
    assert surprises({"ping": PASSED, "pong": FAILED}, {"pong": "known"}) == []


def test_every_leg_has_expectations_for_one_and_for_two_processes() -> None:
    known = json.loads(FILE.read_text())
    assert {leg: set(known[leg]) for leg in known} == {leg: {"one", "two"} for leg in LEGS}
    assert set(SCENARIOS) == set(LEGS)
