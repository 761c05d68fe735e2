"""A fault in a server's log is found once, whole, and unless it is expected."""

from pathlib import Path

import pytest

from tests.support import logs

RAISED = """2026-01-01 ERROR app: it failed
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    b()
    ~^^
ValueError: seven
2026-01-01 INFO app: it goes on
"""
LOST = "Task was destroyed but it is pending!\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "server.log"
    log.write_text(RAISED)
    logs.watch(log)
    return log


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_what_was_there_before_is_not_looked_at(log: Path) -> None:
    assert logs.new_faults([]) == []


def test_a_fault_is_found_once_and_down_to_its_exception(log: Path) -> None:
    write(log, RAISED + LOST)
    [raised, lost] = logs.new_faults([])
    assert raised.startswith("Traceback")
    assert raised.endswith("ValueError: seven")
    assert lost == LOST.strip()
    assert logs.new_faults([]) == []


def test_a_traceback_and_that_of_its_cause_are_one_fault(log: Path) -> None:
    cause = "\n\nThe above exception was the direct cause of the following exception:\n\n"
    traceback = RAISED.splitlines(keepends=True)[1:-1]
    write(log, "".join(traceback).strip() + cause + "".join(traceback) + "INFO: it goes on\n")
    [fault] = logs.new_faults([])
    assert fault.count("ValueError: seven") == 2


def test_only_what_is_not_expected_is_reported(log: Path) -> None:
    write(log, RAISED + LOST)
    assert logs.new_faults(["ValueError: seven"]) == [LOST.strip()]
