"""The scenarios that are known to fail, by name and with the reason, in expected_failures.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.conformance.suite import Outcome

FILE: Final = Path(__file__).with_name("expected_failures.json")

#: How many scenarios each revision has. A suite that runs fewer has not proved what it should.
SCENARIOS: Final = {"2025-06-18": 27, "2025-11-25": 33, "2026-07-28": 40}


def expected_failures(leg: str, topology: str) -> dict[str, str]:
    """Scenario -> why it fails, for one revision of the specification and "one" or "two" processes."""
    known: dict[str, dict[str, dict[str, str]]] = json.loads(FILE.read_text())
    return known[leg][topology]


def surprises(outcomes: Mapping[str, Outcome], expected: Mapping[str, str]) -> list[str]:
    """What differs from the expectation, a line each: new failures, and expected ones that pass or do not exist."""
    failed = {scenario: outcome for scenario, outcome in outcomes.items() if not outcome.passed}
    unexpected = [
        f"{scenario} fails: {'; '.join(outcome.complaints) or 'no check passed'}"
        for scenario, outcome in sorted(failed.items())
        if scenario not in expected
    ]
    missing = [
        f"{scenario} {'passes' if scenario in outcomes else 'was not run'}, but is expected to fail: {reason}"
        for scenario, reason in sorted(expected.items())
        if scenario not in failed
    ]
    return unexpected + missing
