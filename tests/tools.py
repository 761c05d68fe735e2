"""Programs that some tests need: where they are, and what a run says about those that it could not find.

A test names them: `@pytest.mark.needs("nginx")`. Without one of them the test is not run and the summary says so,
loudly; with MCP_SESSIONS_CI=1 it fails instead, and so does a run in which anything at all was skipped.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
CI: Final = os.environ.get("MCP_SESSIONS_CI") == "1"
NOT_RUN: Final = "not run, because this machine has no "


@cache
def find(name: str) -> Path | None:
    """The program, or None. Names: the keys of FINDERS.

    Raises: KeyError for another name.
    """
    return FINDERS[name]()


def path_of(name: str) -> str:
    """The program's path, for a test that is marked as needing it. Raises: LookupError."""
    found = find(name)
    if found is None:
        raise LookupError(f"There is no {name} here; mark the test with needs({name!r}).")
    return str(found)


def require(item: pytest.Item) -> None:
    """Skip, or in CI fail, a test that needs a program which is not here."""
    names = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    missing = sorted({name for name in names if find(name) is None})
    if not missing:
        return
    reason = f"{NOT_RUN}{' and no '.join(missing)}"
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def what_was_not_run(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each reason, with the number of tests that it kept from running."""
    reasons = Counter(_reason(report) for report in skipped)
    return [f"{number} tests {reason}" for reason, number in sorted(reasons.items())]


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _on_path(*names: str) -> Callable[[], Path | None]:
    def look() -> Path | None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
        found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
        return Path(found) if found else None

    return look


FINDERS: Final[dict[str, Callable[[], Path | None]]] = {
    "chromedriver": _on_path("chromedriver"),
    "chromium": _on_path("chromium", "chromium-browser", "google-chrome"),
    "docker-compose": _on_path("docker-compose"),
    "kubectl": _on_path("kubectl"),
    "kustomize": _on_path("kustomize"),
    "nginx": _on_path("nginx"),
    "npm": _on_path("npm"),
    "npx": _on_path("npx"),
}
