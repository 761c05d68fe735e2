"""Fixtures that several suites share, and the rule that nothing is skipped in silence (support/programs.py)."""

from collections.abc import Iterator

import pytest

from tests.support import programs
from tests.support.redis import RedisServer, run_server


def pytest_runtest_setup(item: pytest.Item) -> None:
    programs.require(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := programs.what_was_not_run(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("NOT RUN HERE", yellow=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line, yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        programs.CI
        and reporter is not None
        and reporter.stats.get("skipped")
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server for the whole run; use namespaces or databases of your own, or flush it."""
    with run_server() as server:
        yield server
