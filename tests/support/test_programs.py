"""The rule that no test is skipped in silence."""

import pytest

from tests.support import ROOT

CONFTEST = """
from tests.support import programs
from tests.conftest import pytest_runtest_setup, pytest_sessionfinish, pytest_terminal_summary

programs.FINDERS["a hammer"] = lambda: None
"""
TESTS = """
import pytest

@pytest.mark.needs("a hammer")
def test_a_nail(): ...

def test_glue(): ...
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *, ci: str) -> pytest.RunResult:
    monkeypatch.setenv("MCP_SESSIONS_CI", ci)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    return pytester.runpytest_subprocess("-p", "no:django", "-p", "no:cacheprovider")


def test_a_missing_program_is_named_in_the_summary(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(pytester, monkeypatch, ci="")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*NOT RUN HERE*", "1 tests not run, because this machine has no a hammer"])


def test_a_missing_program_fails_the_run_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(pytester, monkeypatch, ci="1")

    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_any_skip_fails_the_run_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_other="import pytest\n\ndef test_lazy(): pytest.skip('not today')")

    result = run(pytester, monkeypatch, ci="1")

    result.stdout.fnmatch_lines(["1 tests not today"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
