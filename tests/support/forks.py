"""Python servers that are forked from a process which has imported their libraries.

Starting daphne with the demo takes 2.6 seconds of CPU, of which 2 are the imports of libraries, the same each time. A
fork has them already. It is otherwise a process like any other: with a pid, signals, files and an environment of its
own, and it imports the app, the demo and the settings itself. Of the variables for Python itself it honours PYTHONPATH
only, and it writes as with PYTHONUNBUFFERED. All forks of one run have the same seed of hashes, and `ps` shows the
command of the process that they were forked from.

What a command line does is proved by tests that run it: tests/daphne, tests/deploy, tests/install.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preloaded"])


class Fork:
    """`python -m MODULE ARGUMENTS`, with the part of `subprocess.Popen`'s interface that `Process` uses."""

    def __init__(
        self, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        """`arguments` begin with the module's name. Output and errors are appended to `log`."""
        self._arguments = arguments
        self._process = _context.Process(
            target=_run, args=(list(arguments), str(directory), dict(environment), str(log)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """As `subprocess.Popen.poll`: a negative code is the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises: subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self._arguments), timeout)
        return code

    def send_signal(self, what: int) -> None:
        """Does nothing when the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, what)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def die_with_parent() -> None:
    """Ask Linux to end this process when the thread that made it ends. Does nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(arguments: list[str], directory: str, environment: dict[str, str], log: str) -> None:
    """Become what the command would be. In the fork."""
    die_with_parent()
    _write_to(log)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.path[:0] = [directory, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _write_to(log: str) -> None:
    """Write output and errors there, each line at once."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
