"""Running the official suite against a URL, and reading what it found."""

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.programs import node, npm_packages

#: The suite runs once for each of these revisions of the specification.
LEGS: Final = ("2025-06-18", "2025-11-25", "2026-07-28")
#: Seconds that one leg may take. It takes three where everything passes; what hangs costs the suite's own timeouts.
BOUND: Final = 240
#: Milliseconds for one scenario, instead of the suite's 30 seconds.
SCENARIO_BOUND: Final = 10_000

_RESULT: Final = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\dZ.:-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the suite found in one scenario."""

    #: Checks that passed.
    successes: int
    #: Failures and warnings, each as "STATUS check: message".
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """At least one check passed and none failed or warned. The suite itself also ticks off what it skipped."""
        return self.successes > 0 and not self.complaints


def run(leg: str, url: str, directory: Path) -> dict[str, Outcome]:
    """Run every scenario of that revision; scenario -> outcome. The suite's own files stay in `directory`.

    Raises: AssertionError when the suite ended without results.
    """
    command = [
        node(),
        str(npm_packages() / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"),
        *("server", "--url", url, "--spec-version", leg, "--suite", "all"),
        *("--timeout", str(SCENARIO_BOUND), "--output-dir", str(directory)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BOUND
    )  # the results say what failed
    (directory.parent / f"{directory.name}.txt").write_text(done.stdout + done.stderr)
    outcomes = {_scenario(path): _read(path) for path in directory.glob("*/checks.json")}
    assert outcomes, f"the suite left no results:\n{done.stdout}{done.stderr}"
    return outcomes


def _scenario(path: Path) -> str:
    match = _RESULT.match(path.parent.name)
    assert match, f"the suite named a result {path.parent.name}"
    return match["scenario"]


def _read(path: Path) -> Outcome:
    checks: Iterable[dict[str, Any]] = json.loads(path.read_text())
    by_status: dict[str, list[str]] = {}
    for check in checks:
        complaint = f"{check['status']} {check['id']}: {check.get('errorMessage', 'no message')}"
        by_status.setdefault(check["status"], []).append(complaint)
    complaints = (*by_status.get("FAILURE", ()), *by_status.get("WARNING", ()))
    return Outcome(successes=len(by_status.get("SUCCESS", ())), complaints=complaints)
