"""A fork is a process like any other."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.forks import Fork
from tests.support.processes import wait_until

Start = Callable[..., Fork]

REPORT = """
import os, sys
print(os.getpid(), os.getcwd(), sorted(os.environ), sys.argv[1:], __name__)
print("an error", file=sys.stderr)
"""
WAIT = "import signal; print('waits'); signal.pause()"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.touch()
    return log


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Iterator[Start]:
    """Runs a program as a module; what it leaves running ends with the test."""
    forks: list[Fork] = []

    def make(program: str, *arguments: str) -> Fork:
        (tmp_path / "program_of_a_test.py").write_text(program)
        command = ["program_of_a_test", *arguments]
        environment = {"COLOUR": "red", "PYTHONPATH": str(tmp_path / "more")}
        forks.append(Fork(command, directory=tmp_path, environment=environment, log=log))
        return forks[-1]

    yield make
    for fork in forks:
        fork.kill()
        fork.wait(10)


def test_it_has_a_directory_an_environment_arguments_and_a_log_of_its_own(
    start: Start, tmp_path: Path, log: Path
) -> None:
    fork = start(REPORT, "-p", "80")
    assert fork.wait(10) == 0
    assert log.read_text().splitlines() == [
        f"{fork.pid} {tmp_path} ['COLOUR', 'PYTHONPATH'] ['-p', '80'] __main__",
        "an error",
    ]


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(3)", 3), ("raise SystemExit('no')", 1), ("1 / 0", 1), ("import nowhere", 1)],
)
def test_its_exit_code_is_the_programs(start: Start, program: str, code: int) -> None:
    assert start(program).wait(10) == code


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(start: Start, log: Path, what: signal.Signals) -> None:
    fork = start(WAIT)
    wait_until(lambda: "waits" in log.read_text(), what="the program to wait")
    assert fork.poll() is None
    fork.send_signal(what)
    assert fork.wait(10) == -what
    fork.send_signal(what)  # does nothing


def test_waiting_for_it_has_a_limit(start: Start) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        start(WAIT).wait(0.01)


def test_it_finds_modules_where_its_environment_says(start: Start, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "found_there.py").touch()
    assert start("import found_there").wait(10) == 0


def test_two_forks_share_no_memory(start: Start, log: Path) -> None:
    first, second = (
        start("import json; json.mark = getattr(json, 'mark', 0) + 1; print(json.mark)") for _ in "12"
    )
    assert (first.wait(10), second.wait(10)) == (0, 0)
    assert first.pid != second.pid != os.getpid()
    assert log.read_text().split() == ["1", "1"]
