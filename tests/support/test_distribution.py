"""Which tests run in the same process, and that pytest-xdist does as it is told."""

import pytest

from tests.support import ROOT
from tests.support.distribution import TOGETHER, rank, scope_of

CONFTEST = """
from tests.support.distribution import pytest_collection_modifyitems, pytest_xdist_make_scheduler
"""
#: A test of a suite that runs together, and one of another module.
TEST = """
import os, pytest

@pytest.mark.parametrize("n", range(8))
def test_where(n):
    with open({log!r}, "a") as log:
        log.write(os.environ["PYTEST_XDIST_WORKER"] + " ")
"""


def test_a_suite_that_shares_servers_runs_together_and_any_other_by_module() -> None:
    assert scope_of("tests/chaos/test_ends.py::test_it[1]") == "tests/chaos/"
    assert scope_of("tests/install/test_wheel.py::test_it") == "tests/install/test_wheel.py"
    assert scope_of("tests/store/test_state.py::test_it[a@b/c::d]") == "tests/store/test_state.py"


def test_suites_that_run_together_exist_and_are_given_out_first(request: pytest.FixtureRequest) -> None:
    assert all((request.config.rootpath / each).exists() for each in TOGETHER)
    nodeids = ["tests/admin/test_list.py::a", "tests/http/test_guard.py::a", "tests/chaos/test_ends.py::a"]
    assert sorted(nodeids, key=rank) == nodeids[::-1]


def test_each_suite_stays_in_one_process(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    logs = {}
    for path in ("tests/store/test_one", "tests/chaos/test_two", "tests/chaos/test_three"):
        logs[path] = pytester.path / f"{path.rpartition('_')[2]}.log"
        (pytester.path / path).parent.mkdir(parents=True, exist_ok=True)
        (pytester.path / f"{path}.py").write_text(TEST.format(log=str(logs[path])))
    arguments = ("-n", "2", "-p", "no:cacheprovider", "-p", "no:django", "--import-mode=importlib")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=24)
    workers = {path: set(log.read_text().split()) for path, log in logs.items()}
    assert len(workers["tests/store/test_one"]) == 1
    assert (
        workers["tests/chaos/test_two"]
        == workers["tests/chaos/test_three"]
        != workers["tests/store/test_one"]
    )
