"""Which test fails with a change of the code."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import CO_OPTIMIZED
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final

import pytest
from changes import Change

#: Seconds for the tests of one change; one that hangs is noticed.
LIMIT: Final = 2400
#: Seconds for one test; pyproject.toml has a limit for machines that are slower.
TEST_LIMIT: Final = 120
NO_END: Final = f"no end within {LIMIT} s"
NO_START: Final = "the tests could not be run"
WITHOUT_A_TEST: Final = (NO_END, NO_START)


class Tests:
    """Tests of a copy of this repository, collected in this process once, and run in forks of it with changed code.

    What the modules do when they are imported is not done again: for changes of that, the tests run in a new process.
    """

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        self._task: Callable[[], bool] = bool
        self._done = self._result = False
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[CodeType, list[FunctionType]] = defaultdict(list)

    def collected(self, tests: Sequence[str], task: Callable[[], bool]) -> bool:
        """What a task returns that is done when the tests are collected; of what is printed meanwhile, see `say`.

        RuntimeError: they could not be collected, or the task failed.
        """
        self._task = task
        os.chdir(self._copy)
        sys.path.insert(0, str(self._copy))
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            arguments = [*_arguments(processes=0), "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests]
            code = pytest.main(arguments, plugins=[self])
        if not self._done:
            raise RuntimeError(f"see what `pytest {' '.join(arguments)}` prints in {self._copy}: {code!r}")
        return self._result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In the place of running all of them."""
        self._items = {item.nodeid: item for item in session.items}
        for each in gc.get_objects():
            if isinstance(each, FunctionType):
                self._functions[each.__code__].append(each)
        self._result = self._task()
        self._done = True
        return True

    def pytest_internalerror(self, excrepr: object) -> None:
        """The task failed."""
        say(excrepr)

    def failing(
        self,
        change: Change | None,
        chosen: Sequence[str],
        spared: Collection[str] = (),
        *,
        processes: int = 0,
    ) -> str | None:
        """The first test that fails with a change, or one of `WITHOUT_A_TEST`. The copy is as before afterwards."""
        with contextlib.ExitStack() as undoing:
            if change is not None:
                undoing.callback(_write, self._copy / change.path, change.before)
                _write(self._copy / change.path, change.after)
            new = {} if change is None else _new_code(change)
            if processes == 0 and new is not None:
                items = [item for item in self._among(chosen) if item.nodeid not in spared]
                return self._in_a_fork(new, items) if items else None
            arguments = [*chosen, *(f"--deselect={each}" for each in sorted(spared))]
            return _in_processes(self._copy, [*_arguments(processes), *arguments])

    def _among(self, chosen: Sequence[str]) -> list[pytest.Item]:
        """Those of the files and tests that are named, if they are still there."""
        named: dict[str, list[pytest.Item]] = defaultdict(list)
        for name, item in self._items.items():
            named[name].append(item)
            named[name.partition("::")[0]].append(item)
        return [item for name in chosen for item in named[name]]

    def _in_a_fork(self, new: Mapping[CodeType, CodeType], items: Sequence[pytest.Item]) -> str | None:
        fork = multiprocessing.get_context("fork")
        reader, writer = fork.Pipe(duplex=False)
        process = fork.Process(target=self._run, args=(new, items, writer))
        process.start()
        writer.close()
        try:
            ready = wait([reader, process.sentinel], LIMIT)
            failed: str | None = reader.recv() if reader in ready else NO_START if ready else NO_END
        except EOFError:
            failed = NO_START
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)  # with what tests started and could not stop
            process.join()
        return failed

    def _run(
        self, new: Mapping[CodeType, CodeType], items: Sequence[pytest.Item], result: Connection
    ) -> None:
        os.setsid()
        for before, after in new.items():
            for function in self._functions[before]:
                function.__code__ = after
        reports = _Reports()
        items[0].config.pluginmanager.register(reports)
        for item, following in itertools.zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if reports.failed:
                break
        result.send(reports.failed)


def say(*lines: object) -> None:
    """Print while tests are collected."""
    print(*lines, sep="\n", file=sys.__stdout__, flush=True)


class _Reports:
    failed: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def _new_code(change: Change) -> dict[CodeType, CodeType] | None:
    """Of each function that differs with the change, before and after; None if more than functions do."""
    if change.path.suffix != ".py":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a change may compare with a literal by `is`
        both = [
            compile(text, change.path, "exec", dont_inherit=True) for text in (change.before, change.after)
        ]
    pairs = list(_pairs(*both))
    if any(
        len(before.co_freevars) != len(after.co_freevars)
        if before.co_flags & CO_OPTIMIZED
        else _alone(before) != _alone(after)
        for before, after in pairs
    ):
        return None
    return {before: after for before, after in pairs if before != after and before.co_flags & CO_OPTIMIZED}


def _pairs(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """With those of the functions and classes that they define."""
    yield before, after
    inner = [[each for each in code.co_consts if isinstance(each, CodeType)] for code in (before, after)]
    for pair in zip(*inner, strict=False):
        yield from _pairs(*pair)


def _alone(code: CodeType) -> CodeType:
    """Without those of the functions and classes that it defines."""
    return code.replace(co_consts=tuple(isinstance(each, CodeType) or each for each in code.co_consts))


def _arguments(processes: int) -> list[str]:
    # An endless loop may catch what a signal raises.
    return ["-q", "-x", "-n", str(processes), f"--timeout={TEST_LIMIT}", "--timeout-method=thread"]


def _in_processes(copy: Path, arguments: Sequence[str]) -> str | None:
    command = [sys.executable, "-m", "pytest", *arguments]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return NO_END
    if done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", done.stdout, re.MULTILINE)
    return failed.group(1) if failed else NO_START


#: Cached bytecode is told apart by sizes and seconds: no two changes have the same.
_SECONDS: Final = itertools.count(1_000_000_000)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time(), next(_SECONDS)))
